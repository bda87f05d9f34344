"""scrcpy's start, step by step as its client runs adb: push of a jar, a tunnel, app_process, two streams, and bytes both ways."""

import random
import socket
import subprocess

from clients import equal
from desk import digest
from stage import FARMHAND_PORT

JAR = "/data/local/tmp/scrcpy-server.jar"
VIDEO = random.Random(7).randbytes(4 << 20)


def cases(stage):
    for google in stage.googles:
        for way in ("reverse", "forward"):
            yield "scrcpy", f"{way}_{google.name}", lambda google=google, way=way: start(stage, google, way)


def received(connection, count):
    data = bytearray()
    while len(data) < count and (more := connection.recv(count - len(data))):
        data += more
    return bytes(data)


def start(stage, google, way):
    jar = stage.work / "scrcpy-server"
    jar.write_bytes(b"PK\3\4" + b"\5" * 90_000)

    def adb(*words):
        said = stage.adb(google, FARMHAND_PORT, ["-s", "A1", *words])
        assert said.code == 0, f"{words}: {said.out} {said.err}"
        return said.out.strip()

    adb("push", str(jar), JAR)
    scid, listener = f"{google.port:08x}", None
    name = f"localabstract:scrcpy_{scid}"
    if way == "reverse":
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(30)
        adb("reverse", name, f"tcp:{listener.getsockname()[1]}")
    else:
        port = int(adb("forward", "tcp:0", name))
    options = [f"scid={scid}", "log_level=info"] + (["tunnel_forward=true"] if way == "forward" else [])
    command = [google.program, "-P", str(FARMHAND_PORT), "-s", "A1", "shell", f"CLASSPATH={JAR}", "app_process", "/",
               "com.genymobile.scrcpy.Server", "3.1", *options]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=-1, stderr=-1, env=stage.environment({}))
    try:
        if way == "reverse":
            video, control = (listener.accept()[0] for _ in range(2))
            adb("reverse", "--remove", name)
        else:
            # As scrcpy does: a forward takes the connection before anybody listens behind it, and ends it then.
            video = stage.until("the server's first byte", lambda: first_byte(port))
            control = socket.create_connection(("127.0.0.1", port), 10)
            adb("forward", "--remove", f"tcp:{port}")
        for stream in (video, control):
            stream.settimeout(30)
        equal(received(video, 64).rstrip(b"\0"), b"peer", "the device's name")
        equal(digest(received(video, len(VIDEO))), digest(VIDEO), "the video")
        control.sendall(b"\2touch")
        equal(received(control, 6), b"\2touch", "the control stream")
        control.close()
        video.close()
        out, err = server.communicate(timeout=30)
        assert b"server of 90004 bytes" in out, f"{out} {err}"
    finally:
        server.kill()
    return f"{len(VIDEO)} bytes of video, control there and back"


def first_byte(port):
    connection = socket.create_connection(("127.0.0.1", port), 10)
    if connection.recv(1) == b"\0":
        return connection
    connection.close()
    return None
