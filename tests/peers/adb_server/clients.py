"""Clients in Python and JavaScript that speak to an adb server by themselves, and one that speaks to a phone."""

import io
import pathlib
import random
import time

from stage import APKS, FARMHAND_PORT, HERE, PHONES, SERIALS, SLOT_BASE

NOISE = random.Random(5).randbytes((3 << 20) + 11)


def equal(seen, expected, what=""):
    assert seen == expected, f"{what}: {seen!r} instead of {expected!r}"


def cases(stage, node):
    yield from ((name, family, lambda case=case: case(stage)) for (name, family), case in PYTHON.items())
    for family in ("lists", "shell", "sync", "install", "forward", "logs"):
        yield "adbkit", family, lambda family=family: adbkit(stage, node, family)


def adbkit(stage, node, family):
    said = stage.run(["node", HERE / "adbkit.js", family, FARMHAND_PORT, APKS, stage.work], {"NODE_PATH": f"{node}/node_modules"})
    assert said.code == 0, f"{said.err or said.out}"
    return said.out.strip()


def adbutils_device(stage, phone):
    import adbutils

    client = adbutils.AdbClient(host="127.0.0.1", port=FARMHAND_PORT)
    return client, client.device(phone)


def adbutils_lists(stage):
    client, device = adbutils_device(stage, "A1")
    equal(client.server_version(), 41)
    listed = client.device_list()
    equal(len(listed), len(PHONES), "device_list")
    equal([info.state for info in client.list()], ["device"] * len(PHONES), "list")
    equal(device.get_state(), "device")
    equal(client.device(listed[0].serial).get_serialno(), listed[0].serial)
    assert "shell_v2" in device.get_features()
    client.wait_for(listed[0].serial, timeout=10)
    event = next(client.track_devices())
    assert event.present and event.status == "device", f"{event}"
    return f"{len(listed)} phones"


def adbutils_shell(stage):
    _, device = adbutils_device(stage, "A1")
    equal(device.shell("echo hello"), "hello")
    answer = device.shell2("echo out; (exit 42)")
    equal((answer.output.strip(), answer.returncode), ("out", 42))
    answer = device.shell2("echo out; echo err >&2; exit 7", v2=True)
    equal((answer.stdout.strip(), answer.stderr.strip(), answer.returncode), ("out", "err", 7))
    with device.shell("cat", stream=True) as stream:
        stream.send(b"through\n")
        equal(stream.read(8), b"through\n")
    _, phone = adbutils_device(stage, "A2")
    equal(phone.prop.model, "Pixel 4a")
    return "codes, both outputs, a stream"


def adbutils_sync(stage):
    _, device = adbutils_device(stage, "A1")
    there = "/data/local/tmp/adbutils"
    device.sync.push(io.BytesIO(NOISE), there)
    equal(device.sync.stat(there).size, len(NOISE))
    equal(device.sync.read_bytes(there), NOISE, "what came back")
    assert "adbutils" in [entry.path for entry in device.sync.list("/data/local/tmp")]
    back = stage.work / "adbutils.back"
    device.sync.pull(there, back)
    equal(back.read_bytes(), NOISE, "what was pulled")
    device.remove(there)
    equal(device.sync.exists(there), False)
    return f"{len(NOISE)} bytes there and back"


def adbutils_install(stage):
    _, phone = adbutils_device(stage, "A2")
    phone.sync.push(APKS / "agent-1.apk", "/data/local/tmp/agent.apk")
    phone.install_remote("/data/local/tmp/agent.apk")
    equal(phone.list_packages(), ["org.example.agent"])
    phone.uninstall("org.example.agent")
    equal(phone.list_packages(), [])
    return "installed and gone"


def adbutils_forward(stage):
    from suite import ECHO, echoes

    client, device = adbutils_device(stage, "A1")
    port = device.forward_port(ECHO)
    assert echoes(port), "a forward carries bytes"
    equal([(item.local, item.remote) for item in device.forward_list()], [(f"tcp:{port}", f"tcp:{ECHO}")])
    connection = device.create_connection("tcp", ECHO)
    connection.send(b"ping")
    equal(connection.recv(4), b"ping")
    connection.close()
    device.reverse("tcp:17555", f"tcp:{ECHO}")
    assert echoes(17555), "a tunnel carries bytes"
    equal([(item.remote, item.local) for item in device.reverse_list()], [("tcp:17555", f"tcp:{ECHO}")])
    stage.adb(stage.googles[0], FARMHAND_PORT, ["-s", "A1", "reverse", "--remove-all"])
    stage.adb(stage.googles[0], FARMHAND_PORT, ["-s", "A1", "forward", "--remove-all"])
    return "forward, socket and tunnel"


def ppadb_client():
    from ppadb.client import Client

    return Client(host="127.0.0.1", port=FARMHAND_PORT)


def ppadb_device(phone):
    """It looks for the name in the list of devices."""
    return ppadb_client().device(SERIALS[phone])


def ppadb_lists(stage):
    client = ppadb_client()
    equal(client.version(), 41)
    equal(len(client.devices()), len(PHONES))
    equal(len(client.devices(state="device")), len(PHONES))
    device = ppadb_device("A1")
    equal(device.get_state(), "device")
    equal(device.get_serial_no(), SERIALS["A1"])
    equal(ppadb_device("A2").list_features()["android.hardware.wifi"], True)
    return f"{len(PHONES)} phones"


def ppadb_shell(stage):
    device = ppadb_device("A1")
    equal(device.shell("echo hello"), "hello\n")
    equal(ppadb_device("A2").get_properties()["ro.product.model"], "Pixel 4a")
    lines = []

    def read(connection):
        while data := connection.read(1024):
            lines.append(data)
        connection.close()

    device.shell("seq 1 5000", handler=read)
    equal(b"".join(lines).splitlines()[-1], b"5000")
    return "outputs and a handler"


def ppadb_sync(stage):
    device = ppadb_device("A1")
    here, back = stage.work / "ppadb", stage.work / "ppadb.back"
    here.write_bytes(NOISE)
    device.push(str(here), "/data/local/tmp/ppadb")
    device.pull("/data/local/tmp/ppadb", str(back))
    equal(back.read_bytes(), NOISE, "what came back")
    device.shell("rm /data/local/tmp/ppadb")
    return f"{len(NOISE)} bytes there and back"


def ppadb_install(stage):
    phone = ppadb_device("A2")
    assert phone.install(str(APKS / "agent-1.apk")), "install"
    assert phone.is_installed("org.example.agent"), "is_installed"
    assert phone.uninstall("org.example.agent"), "uninstall"
    assert not phone.is_installed("org.example.agent"), "is_installed afterwards"
    return "installed and gone"


def ppadb_forward(stage):
    from suite import ECHO, echoes, free_port

    device, port = ppadb_device("A1"), free_port()
    device.forward(f"tcp:{port}", f"tcp:{ECHO}")
    assert echoes(port), "a forward carries bytes"
    equal(device.list_forward(), {f"tcp:{port}": f"tcp:{ECHO}"})
    device.killforward(f"tcp:{port}")
    equal(device.list_forward(), {})
    # Its own `reverse` names the tunnel with a colon, which no adbd takes.
    return "forwards"


def adb_shell_device(stage, key):
    from adb_shell.adb_device import AdbDeviceTcp
    from adb_shell.auth.sign_pythonrsa import PythonRSASigner

    device = AdbDeviceTcp("127.0.0.1", SLOT_BASE, default_transport_timeout_s=9)
    signer = PythonRSASigner(pathlib.Path(f"{key}.pub").read_text(), pathlib.Path(key).read_text())
    device.connect(rsa_keys=[signer], auth_timeout_s=2)
    return device


def adb_shell_auth(stage):
    from adb_shell.auth.keygen import keygen

    device = adb_shell_device(stage, stage.key)
    equal(device.shell("echo hello"), "hello\n")
    device.close()
    stranger = stage.work / "stranger"
    keygen(str(stranger))
    started = time.monotonic()
    try:
        adb_shell_device(stage, stranger)
    except Exception as refused:
        seen = f"{type(refused).__name__} after {time.monotonic() - started:.0f} s for a stranger"
    else:
        raise AssertionError("a stranger was let in")
    return seen


def adb_shell_shell(stage):
    device = adb_shell_device(stage, stage.key)
    equal(device.shell("seq 1 20000").splitlines()[-1], "20000")
    equal("".join(device.streaming_shell("echo one; echo two")).split(), ["one", "two"])
    equal(device.exec_out("printf 'a\\nb'", decode=False), b"a\nb")
    device.close()
    return "shell, stream, exec"


def adb_shell_sync(stage):
    device = adb_shell_device(stage, stage.key)
    device.push(io.BytesIO(NOISE), "/data/local/tmp/adb-shell")
    back = io.BytesIO()
    device.pull("/data/local/tmp/adb-shell", back)
    equal(back.getvalue(), NOISE, "what came back")
    equal(device.stat("/data/local/tmp/adb-shell")[1], len(NOISE))
    assert b"adb-shell" in [bytes(entry.filename) for entry in device.list("/data/local/tmp")]
    device.shell("rm /data/local/tmp/adb-shell")
    device.close()
    return f"{len(NOISE)} bytes there and back"


PYTHON = {
    ("adbutils", "lists"): adbutils_lists,
    ("adbutils", "shell"): adbutils_shell,
    ("adbutils", "sync"): adbutils_sync,
    ("adbutils", "install"): adbutils_install,
    ("adbutils", "forward"): adbutils_forward,
    ("ppadb", "lists"): ppadb_lists,
    ("ppadb", "shell"): ppadb_shell,
    ("ppadb", "sync"): ppadb_sync,
    ("ppadb", "install"): ppadb_install,
    ("ppadb", "forward"): ppadb_forward,
    ("adb_shell", "auth"): adb_shell_auth,
    ("adb_shell", "shell"): adb_shell_shell,
    ("adb_shell", "sync"): adb_shell_sync,
}
