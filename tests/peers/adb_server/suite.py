"""The commands of Google's adb, by families. Each is run at Google's own server and by each way to farmhand's, on the same
phones."""

import os
import random
import socket
import threading

from desk import digest
from stage import APKS, PHONES, WAYS
from wire import ask, first

NOISE = random.Random(3).randbytes((5 << 20) + 17)


def lists(desk):
    desk.say("version", keep=lambda text: text.split("Installed")[0].splitlines()[0])
    desk.say("start-server")
    # Google's server lists phones as they happened to connect.
    lines = lambda text: "\n".join(sorted(desk.plain(text).splitlines()))
    words = lambda text: " ".join(sorted(text.replace(",", " ").split()))
    desk.say("devices", keep=lines)
    desk.say("devices", "-l", keep=lines)
    desk.say("host-features", keep=words)
    for phone in ("A1", "A2"):
        for word in ("get-state", "get-serialno", "get-devpath", "wait-for-device", "wait-for-any-device",
                     "wait-for-local-device"):
            desk.on(phone, word, name=f"{word} of {phone}")
        desk.on(phone, "features", name=f"features of {phone}", keep=words)
    desk.on("A1", "wait-for-device", "shell", "echo here")
    tracker = desk.popen("track-devices", stdout=-1)
    first = tracker.stdout.read(4)
    text = tracker.stdout.read(int(first, 16)).decode()
    tracker.kill()
    tracker.wait()
    desk.note("track-devices", lines(text))


def select(desk):
    desk.say("shell", "true", code=1)
    desk.say("-e", "shell", "true", code=1)
    desk.say("-d", "shell", "true", code=1)
    desk.say("-d", "get-state", code=1)
    desk.say("-s", "nobody", "shell", "true", code=1)
    desk.say("-s", "nobody", "get-state", code=1)
    desk.say("-s", "nobody", "forward", "tcp:0", "tcp:1", code=1)
    desk.say("-t", "99999", "shell", "true", code=1)
    desk.say("-t", "x", "shell", "true", code=1)
    desk.say("shell", "getprop", "ro.serialno", name="ANDROID_SERIAL", ANDROID_SERIAL=desk.names["A2"])
    desk.say("-s", "model:Pixel_4a", "shell", "getprop ro.serialno")
    desk.say("-s", "product:nothing", "shell", "true", code=1)
    lines = desk.stage.adb(desk.google, desk.port, ["devices", "-l"]).out.splitlines()
    line = next(line for line in lines if line.startswith(desk.names["A3"]))
    number = line.split("transport_id:")[1].split()[0]
    desk.say("-t", number, "shell", "getprop ro.serialno", name="-t the number of A3")
    desk.say("-t", number, "get-state", name="-t the number of A3, its state")


def shell(desk):
    for phone in ("A1", "A2"):
        desk.on(phone, "shell", "echo", "hello", name=f"shell echo hello on {phone}")
        desk.on(phone, "shell", "exit 42", code=42, name=f"its exit code on {phone}")
        desk.on(phone, "shell", "nonsense-of-nobody", code=127, name=f"no such program on {phone}")
        desk.on(phone, "shell", "-n", "cat", name=f"without input on {phone}")
        desk.on(phone, "shell", "cat", stdin=b"one\ntwo\n", name=f"its input on {phone}")
        desk.on(phone, "shell", "-T", "echo raw", name=f"without terminal on {phone}")
        desk.on(phone, "shell", "-x", "exit 3", name=f"without codes on {phone}")
        desk.on(phone, "shell", stdin=b"echo a\nexit\n", name=f"a shell that reads lines on {phone}")
        desk.on(phone, "shell", "getprop", "ro.product.model", name=f"a property of {phone}")
    desk.on("A1", "shell", "echo out; echo err >&2; exit 7", code=7)
    desk.on("A1", "shell", "-t", "-t", "test -t 0 && echo terminal", name="with a terminal")
    desk.on("A1", "shell", "-e", "none", "-T", "cat", stdin=b"~.\nrest\n", name="without an escape")
    desk.on("A1", "shell", "wc -c", stdin=NOISE, name="5 MB of input")
    said = desk.on("A1", "shell", "seq 1 200000", keep=lambda text: digest(text.encode()), name="200,000 lines")
    desk.must("all of 200,000 lines came", said.out.endswith("\n200000\n"))
    desk.on("A1", "shell", "kill -9 $$", code=137, name="it is killed")
    desk.on("A1", "shell", "x" * 40000, code=127, keep=lambda _: "", name="a long command")


def execs(desk):
    def raw(*words, stdin=b""):
        child = desk.popen("-s", "127.0.0.1:15555", *words, stdin=-1, stdout=-1, stderr=-1)
        out, err = child.communicate(stdin, timeout=60)
        return out, err, child.returncode

    out, err, code = raw("exec-out", "cat /data/local/tmp/noise || true; printf 'a\\r\\nb\\0c'")
    desk.note("exec-out leaves bytes alone", repr(out[-6:]), "", code)
    name = f"{desk.google.name}.{desk.folder.name}"
    out, err, code = raw("exec-in", f"cat > /data/local/tmp/in.{name}", stdin=NOISE)
    desk.note("exec-in", repr(out), desk.plain(err.decode()), code)
    # Nobody waits for what was started: it may still write when adb has ended, with both servers.
    whole = f"while [ $(wc -c < /data/local/tmp/in.{name}) -lt {len(NOISE)} ]; do sleep 0.1; done; cat /data/local/tmp/in.{name}"
    out, err, code = raw("exec-out", whole)
    desk.note("exec-out of what went in", digest(out), desk.plain(err.decode()), code)
    desk.must(f"all that went in is there: {len(out)} of {len(NOISE)} bytes", out == NOISE)
    desk.on("A1", "exec-out", "false", name="exec-out tells no code")
    picture = desk.popen("-s", "127.0.0.1:15501", "exec-out", "screencap", "-p", stdout=-1).communicate()[0]
    desk.must("a screenshot is a PNG", picture.startswith(b"\x89PNG\r\n\x1a\n"))


def tree(folder):
    (folder / "tree/sub/deep").mkdir(parents=True)
    (folder / "tree/empty").mkdir()
    (folder / "tree/small").write_bytes(b"small\n")
    (folder / "tree/nothing").write_bytes(b"")
    (folder / "tree/sub/large").write_bytes(NOISE)
    (folder / "tree/sub/deep/ünïcode name").write_bytes(b"x" * 70000)
    os.chmod(folder / "tree/small", 0o755)
    for path in folder.glob("tree/**/*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))


def content(folder):
    files = sorted(path for path in folder.glob("**/*") if path.is_file())
    return "\n".join(f"{path.relative_to(folder)} {digest(path.read_bytes())}" for path in files)


def sync(desk):
    lines = lambda text: "\n".join(sorted(desk.plain(text).splitlines()))
    here = desk.folder / "sync"
    here.mkdir()
    tree(here)
    for phone, there in (("A1", "/data/local/tmp/peers"), ("A2", "/sdcard/peers")):
        def on(*words, phone=phone, **how):
            how.setdefault("name", f"{desk.plain(' '.join(words))} on {phone}")
            return desk.on(phone, *words, **how)

        on("push", str(here / "tree"), there)
        on("pull", there, str(here / f"back.{phone}"))
        desk.note(f"the tree of {phone} is back", content(here / f"back.{phone}"))
        desk.must(f"the tree of {phone} is whole", content(here / f"back.{phone}") == content(here / "tree"))
        on("push", str(here / "tree/small"), str(here / "tree/sub/large"), "/sdcard/" if phone == "A2" else "/data/local/tmp/")
        on("push", "--sync", str(here / "tree"), there)
        on("pull", "-a", f"{there}/sub/large", str(here / f"large.{phone}"))
        desk.note(f"large of {phone}", digest((here / f"large.{phone}").read_bytes()))
        on("push", str(here / "nobody"), there, code=1)
        on("pull", f"{there}/nobody", str(here / "x"), code=1)
        # The refusal may come before or after the client has counted its file.
        on("push", str(here / "tree/small"), "/proc/nobody/x", code=1, keep=lines)
        on("pull", there, "/proc/nobody", code=1)
        on("shell", "rm", "-r", there)
    on = lambda *words, **how: desk.on("A1", *words, **how)
    if desk.google.name != "adb29":
        for way in ("-Z", "-z brotli", "-z lz4", "-z zstd"):
            on("push", *way.split(), str(here / "tree/sub/large"), "/data/local/tmp/packed", name=f"push {way}")
            on("pull", *way.split(), "/data/local/tmp/packed", str(here / "unpacked"), name=f"pull {way}")
            desk.must(f"what came {way} is whole", (here / "unpacked").read_bytes() == NOISE)
        on("push", "-n", str(here / "tree/small"), "/data/local/tmp/dry", name="push -n")
        on("shell", "ls /data/local/tmp/dry", code=None, name="a dry run leaves nothing", keep=lambda _: "")
    product = here / "product"
    (product / "data/app").mkdir(parents=True)
    (product / "data/app/one").write_bytes(b"1" * 5000)
    (product / "system").mkdir()
    desk.on("A1", "sync", "data", name="sync data", ANDROID_PRODUCT_OUT=str(product))
    desk.on("A1", "sync", "data", name="sync data again", ANDROID_PRODUCT_OUT=str(product))
    desk.on("A1", "sync", "-l", "data", name="sync -l data", ANDROID_PRODUCT_OUT=str(product))
    desk.on("A1", "sync", code=1, name="sync without product")
    desk.on("A1", "shell", "rm -r /data/app /data/local/tmp/*", name="tidy up")


def install(desk):
    apk = lambda name: str(APKS / name)
    on = lambda *words, **how: desk.on("A2", *words, **how)
    on("install", apk("agent-1.apk"))
    on("install", "-r", apk("agent-2.apk"))
    on("install", "-r", "-d", apk("agent-1.apk"), code=1)
    on("install", "-r", "-t", "-g", apk("agent-2.apk"))
    for bad in ("agent-2-other-key.apk", "agent-2-unsigned.apk", "agent-2-truncated.apk"):
        on("install", "-r", apk(bad), code=1)
    on("install", apk("nobody.apk"), code=1)
    on("install", str(desk.folder / "nobody.zip"), code=1)
    on("install", "--no-streaming", "-r", apk("agent-2.apk"))
    on("install", "--streaming", "-r", apk("agent-2.apk"))
    on("install-multiple", "-r", apk("agent-2.apk"), apk("agent-2-split-en.apk"))
    on("install-multiple", "-r", apk("agent-2.apk"), apk("agent-2-split-fr-other-key.apk"), code=1)
    on("install-multi-package", apk("agent-2.apk"), apk("other-package-1.apk"), code=None)
    on("shell", "pm list packages")
    on("uninstall", "org.example.agent")
    on("uninstall", "org.example.agent", code=1)
    on("uninstall", "-k", "org.nobody", code=1)
    on("shell", "pm uninstall org.example.other", code=None)
    on("shell", "cmd package path org.example.agent", code=1)


def echo():
    """A port where what is said comes back."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection):
        while data := connection.recv(65536):
            connection.sendall(data)
        connection.close()

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


ECHO = echo()


def echoes(port):
    """Whether 1 MB that is said to the port comes back."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        threading.Thread(target=lambda: connection.sendall(NOISE[: 1 << 20]), daemon=True).start()
        heard = b""
        while len(heard) < 1 << 20 and (data := connection.recv(65536)):
            heard += data
    return heard == NOISE[: 1 << 20]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def forward(desk):
    to = f"tcp:{ECHO}"
    desk.hide(to, "tcp:ECHO")
    said = desk.on("A1", "forward", "tcp:0", to, keep=lambda _: "a port", name="forward tcp:0")
    local = f"tcp:{int(said.out)}"
    desk.hide(local[4:], "PORT")
    desk.must("a forward carries bytes", echoes(int(said.out)))
    desk.say("forward", "--list")
    desk.on("A1", "forward", "--no-rebind", local, "tcp:1", code=1)
    desk.on("A1", "forward", local, to)
    desk.must("a forward that was made anew carries bytes", echoes(int(said.out)))
    desk.on("A2", "forward", local, "tcp:7")
    desk.say("forward", "--list", name="forward --list of the other")
    desk.on("A2", "forward", "--remove", local)
    desk.on("A1", "forward", "--remove", "tcp:1", code=1)
    fixed = free_port()
    desk.hide(str(fixed), "FIXED")
    desk.on("A1", "forward", f"tcp:{fixed}", "localabstract:nobody")
    with socket.create_connection(("127.0.0.1", fixed), 10) as connection:
        desk.note("a forward to nobody ends", repr(connection.recv(1)))
    desk.on("A1", "forward", f"tcp:{fixed}", "jdwp:1")
    desk.on("A1", "forward", "localabstract:peers", to)
    desk.on("A1", "forward", f"tcp:{desk.port}", to, code=1, name="forward of a port that is taken")
    desk.on("A1", "forward", "--remove-all")
    desk.say("forward", "--list", name="forward --list of none")
    desk.on("A1", "forward", "tcp:99999", to, code=1)
    desk.on("A1", "forward", "nope:1", to, code=1)
    desk.on("A1", "forward", "tcp:x", to, code=1)


def reverse(desk):
    to = f"tcp:{ECHO}"
    desk.hide(to, "tcp:ECHO")
    for phone in ("A1", "A2"):
        on = lambda *words, name, **how: desk.on(phone, *words, name=f"{name} on {phone}", **how)
        said = on("reverse", "tcp:0", to, name="reverse tcp:0", keep=lambda _: "a port")
        port = said.out.strip()
        desk.hide(port, "PORT")
        if phone == "A1":
            desk.must("a tunnel carries bytes", echoes(int(port)))
        on("reverse", "--list", name="reverse --list", keep=lambda text: desk.plain(text).split(" ", 1)[1])
        on("reverse", "--no-rebind", f"tcp:{port}", to, code=1, name="reverse --no-rebind")
        on("reverse", f"tcp:{port}", to, name="reverse anew")
        on("reverse", "--remove", f"tcp:{port}", name="reverse --remove")
        on("reverse", "--remove", f"tcp:{port}", code=1, name="reverse --remove again")
        on("reverse", "--remove-all", name="reverse --remove-all")
        on("reverse", "--list", name="reverse --list of none")
        on("reverse", "nope:1", to, code=1, name="reverse of nonsense")


def logs(desk):
    desk.on("A2", "logcat", "-c", name="logcat -c")
    desk.on("A2", "logcat", "-d", name="logcat -d", keep=lambda text: text.splitlines()[0])
    following = desk.popen("-s", "127.0.0.1:15501", "logcat", stdout=-1)
    lines = [following.stdout.readline() for _ in range(3)]
    following.kill()
    following.wait()
    desk.note("logcat goes on", lines[0].decode())
    desk.must("logcat says a line after the other", all(line.endswith(b"\n") for line in lines))
    desk.on("A2", "bugreport", str(desk.folder / "report.zip"), code=None, name="bugreport of a phone that has none")
    desk.on("A1", "bugreport", str(desk.folder / "report.zip"), code=None, name="bugreport of adbd")
    desk.on("A2", "shell", "dumpsys battery", name="dumpsys battery", keep=lambda text: text.splitlines()[0])
    tracker = desk.popen("-s", "127.0.0.1:15501", "track-jdwp", stdout=-1)
    desk.note("track-jdwp", repr(tracker.stdout.read(4)))
    tracker.kill()
    tracker.wait()


def restart(desk):
    wait = lambda: desk.stage.adb(desk.google, desk.port, ["-s", "127.0.0.1:15502", "wait-for-device", "shell", "true"])
    on = lambda *words, **how: desk.on("A3", *words, **how)
    on("remount", code=None)
    for words in (["root"], ["root"], ["unroot"], ["tcpip", "5555"], ["usb"]):
        on(*words)
        wait()
    on("shell", "id", name="who the shell is")
    desk.on("A2", "root", name="root on a phone that was sold")
    desk.on("A2", "unroot", name="unroot on a phone that was sold")
    on("tcpip", "x", code=1)
    on("disable-verity", code=None)
    on("reboot")
    desk.stage.all_there(desk.google)
    on("shell", "echo back")
    on("sideload", str(APKS / "agent-1.apk"), code=1)


def server(desk):
    desk.say("connect", "127.0.0.1:15501")
    desk.say("connect", "127.0.0.1:1", code=None)
    desk.say("disconnect", "10.1.2.3:5", code=1)
    desk.say("pair", "127.0.0.1:1", "123456", code=1)
    desk.say("mdns", "services", code=1 if desk.google.name == "adb29" else 0)
    desk.on("A2", "emu", "kill", code=1)
    desk.say("reconnect", "offline")
    desk.on("A2", "attach", code=1)
    desk.on("A2", "detach", code=1)
    desk.say("kill-server", code=None) if desk.port in WAYS.values() else desk.note("kill-server", "")


def raw(desk):
    """Requests as clients other than Google's send them, byte by byte."""
    def note(*requests):
        desk.note(desk.plain(" ".join(requests)), desk.plain(repr(ask(desk.port, *requests))))

    # Both servers know this phone by its address.
    here = PHONES["A2"]
    note("host:version")
    for request in ("host:track-devices", "host:track-devices-l"):
        okay, text = first(desk.port, request)
        desk.must(f"{request}: {okay} and a line for each phone", okay == b"OKAY" and text.count(b"\n") == len(PHONES))
    for bind in (f"host:transport:{here}", f"host:tport:serial:{here}", f"host-serial:{here}:transport", f"host-serial:{here}:tport:any"):
        note(bind, "shell:echo bound")
        note(bind, "host:get-state")
    for bind in ("host:transport-any", "host:transport-local", "host:transport-usb", "host:tport:any", "host:tport:usb",
                 "host:transport:nobody", "host:transport-id:99999", "host:transport-id:x"):
        note(bind, "shell:true")
    for service in ("shell,v2,raw:exit 3", "exec:echo hello", "localabstract:nobody", "tcp:1", "dev:/nobody", "nonsense:", "jdwp:1"):
        note(f"host:transport:{here}", service)
    # Each server has a name of its own for it, and so another length before it.
    serial = ask(desk.port, f"host-serial:{here}:get-serialno")
    desk.note("host-serial:<A2>:get-serialno", desk.plain(repr(serial[:4] + serial[8:])))
    for question in ("get-state", "get-devpath"):
        note(f"host-serial:{here}:{question}")
    for question in ("get-state", "get-serialno", "get-devpath"):
        note("host-local:" + question)
        note("host-usb:" + question)
        note(f"host-transport-id:99999:{question}")
    note("host-serial:nobody:get-state")
    note("host:get-state")
    for wait in ("any-device", "local-device", "any-any"):
        note(f"host-serial:{here}:wait-for-{wait}")
    for wait in ("", "any", "x-device", "any-nonsense"):
        note(f"host:wait-for-{wait}")
    for request in ("list-forward", "killforward:tcp:1", "killforward:", "killforward-all", "forward:tcp:0",
                    "forward:norebind:tcp:0", "nonsense", "", "emulator:1", "disconnect:10.1.2.3:5"):
        note(f"host:{request}")
    note(f"host-serial:{here}:forward:tcp:0;")


FAMILIES = {
    "lists": lists,
    "raw": raw,
    "select": select,
    "shell": shell,
    "exec": execs,
    "sync": sync,
    "install": install,
    "forward": forward,
    "reverse": reverse,
    "logs": logs,
    "restart": restart,
    "server": server,
}
