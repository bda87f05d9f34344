"""Who may what: leases and the audit, roles and tokens, the socket and the ports of slots, and what the doctor finds."""

import contextlib
import json
import os
import socket
import ssl
import subprocess
import time

from clients import equal
from stage import FARMHAND_PORT, FORWARDER_PORT, SERIALS, SLOT_BASE, TLS_PORT
from suite import ECHO
from wire import exactly, framed

# A use ends so long after its last stream.
LEASE_S = 30
# A busy machine may be late.
LATE_S = 15
NOBODY = 65534


def cases(stage):
    for client, family, case in (
        ("lease", "of_a_use", lease), ("lease", "held_by_another", held), ("audit", "of_a_use", audit),
        ("role", "view", view), ("role", "use", use), ("role", "admin", admin),
        ("token", "revoked", revoked), ("token", "expired", expired), ("token", "wrong_100_times", guessed),
        ("socket", "of_the_group", unix_socket), ("listen", "loopback_or_tls", loopback), ("doctor", "foreign_server", doctor),
    ):
        yield client, family, lambda case=case: case(stage)
    for google in stage.googles:
        yield "slot", f"connect_{google.name}", lambda google=google: slot(stage, google)


def farmhand(stage, *words, state=None, code=0):
    said = stage.run([stage.farmhand, "--state", state or stage.state, *words], {})
    assert code is None or said.code == code, f"farmhand {words}: {said.code} {said.out} {said.err}"
    return said.out + said.err if code else said.out


def leases(stage, phone, state=None):
    phones = json.loads(farmhand(stage, "phones", "--json", state=state))
    return next(view["leases"] for view in phones if view.get("slot") == phone)


def free(stage, phone, state=None):
    """Waits until nobody has the phone."""
    stage.until(f"{phone} is free", lambda: not leases(stage, phone, state))


def adb(stage, port, *words, **how):
    return stage.adb(stage.googles[1], port, words, **how)


def records(stage, state=None, **fields):
    audited = json.loads(farmhand(stage, "audit", "--json", state=state))
    return [record for record in audited if all(record[name] == value for name, value in fields.items())]


def lease(stage):
    free(stage, "A2")
    equal(adb(stage, FARMHAND_PORT, "-s", "A2", "shell", "echo secret-word").out, "secret-word\n")
    ended = time.monotonic()
    (taken,) = leases(stage, "A2")
    equal((taken["who"], taken["tool"]), ("root", "adb"))
    # Another stream within that time, and it is counted anew.
    adb(stage, FARMHAND_PORT, "-s", "A2", "shell", "sleep 3")
    ended, first = time.monotonic(), ended
    free(stage, "A2")
    took = time.monotonic() - ended
    assert LEASE_S - 2 < took < LEASE_S + LATE_S, f"the lease ended {took:.1f} s after the last stream"
    return f"root had it until {took:.0f} s after the second stream, {time.monotonic() - first:.0f} s after the first"


def held(stage):
    far = stage.work / "far-state"
    free(stage, "A2", far)
    farmhand(stage, "phone", "A2", "hold", "--for", "1h", "--reason", "battery check", state=far)
    try:
        said = adb(stage, FORWARDER_PORT, "-s", "A2", "shell", "true")
        assert said.code == 1 and "A2 is taken: root holds it: battery check" in said.err, f"{said.code} {said.err}"
        equal(adb(stage, FORWARDER_PORT, "-s", "A2", "get-state").out, "device\n", "states are told to everybody")
    finally:
        farmhand(stage, "phone", "A2", "release", state=far)
    equal(adb(stage, FORWARDER_PORT, "-s", "A2", "shell", "echo free").out, "free\n")
    return said.err.strip()


def audit(stage):
    free(stage, "A2")
    before = len(records(stage, target=SERIALS["A2"]))
    equal(adb(stage, FARMHAND_PORT, "-s", "A2", "shell", "echo secret-word").out, "secret-word\n")
    (begin,) = records(stage, target=SERIALS["A2"])[: len(records(stage, target=SERIALS["A2"])) - before]
    equal((begin["who"], begin["what"]), ("root", "begins to work on it with adb: shell"))
    free(stage, "A2")
    end = stage.until("the use is told", lambda: records(stage, target=SERIALS["A2"])[: -before - 1 or None])[0]
    assert end["who"] == "root" and "shell in 1 stream" in end["what"] and "bytes" in end["what"], f"{end}"
    assert "secret-word" not in json.dumps(records(stage)), "what was said stands in the audit"
    return f"{begin['what']}; {end['what']}"


@contextlib.contextmanager
def desk(stage, owner, role, lasts="1h"):
    """A forwarder of the owner of a token: its port, its process and the token's id."""
    far, port = stage.work / "far-state", free_port()
    made = json.loads(farmhand(stage, "tokens", "add", owner, "--role", role, "--for", lasts, "--json", state=far))
    token = stage.work / f"{owner}.token"
    token.touch(mode=0o600)
    token.write_text(made["token"])
    words = [stage.farmhand, "adb-server", "connect", f"127.0.0.1:{TLS_PORT}", "--token-file", token, "--listen", f"127.0.0.1:{port}"]
    with open(stage.log / f"{owner}.log", "wb") as log:
        child = subprocess.Popen(list(map(str, words)), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=stage.environment({}))
    try:
        stage.listens(f"127.0.0.1:{port}")
        yield port, child, made["records"][0]["id"]
    finally:
        child.kill()
        child.wait()
        farmhand(stage, "tokens", "revoke", owner, state=far, code=None)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def view(stage):
    with desk(stage, "viewer", "view") as (port, *_):
        assert SERIALS["A2"] in adb(stage, port, "devices").out
        equal(adb(stage, port, "-s", "A2", "get-state").out, "device\n")
        why = "a token of role view is not enough for"
        for words in (["shell", "true"], ["exec-out", "true"], ["reverse", "tcp:0", "tcp:1"], ["reconnect"]):
            said = adb(stage, port, "-s", "A2", *words)
            assert said.code and why in said.out + said.err, f"{words}: {said.code} {said.out} {said.err}"
        # It is the desk's own, and leads nowhere.
        forward = adb(stage, port, "-s", "A1", "forward", "tcp:0", f"tcp:{ECHO}")
        with socket.create_connection(("127.0.0.1", int(forward.out)), 10) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(b"hello")
                equal(connection.recv(1), b"", "what comes by a forward")
    equal(records(stage, stage.work / "far-state", who="viewer"), [], "it has done nothing")
    return f"sees; else: {said.err.strip() or said.out.strip()}"


def use(stage):
    far = stage.work / "far-state"
    free(stage, "A2", far)
    with desk(stage, "user", "use") as (port, *_):
        equal(adb(stage, port, "-s", "A2", "shell", "echo hello").out, "hello\n")
        assert any(record["what"].startswith("begins to work") for record in records(stage, far, who="user"))
        said = adb(stage, port, "-s", "A2", "reverse", "tcp:0", "tcp:1")
        why = "not enough for tunnels to the rack's host: role admin is"
        assert said.code and why in said.out + said.err, f"{said.out} {said.err}"
    return f"works; no tunnel: {said.err.strip()}"


def admin(stage):
    far = stage.work / "far-state"
    free(stage, "A1", far)
    with desk(stage, "boss", "admin") as (port, *_):
        tunnel = adb(stage, port, "-s", "A1", "reverse", "tcp:0", "tcp:1")
        assert tunnel.code == 0, f"{tunnel.err}"
        adb(stage, port, "-s", "A1", "reverse", "--remove", f"tcp:{tunnel.out.strip()}")
    return "works, and has a tunnel to the rack's host"


def revoked(stage):
    with desk(stage, "leaver", "use") as (port, _, token):
        with socket.create_connection(("127.0.0.1", port), 10) as tracker:
            tracker.sendall(framed("host:track-devices"))
            equal(exactly(tracker, 4), b"OKAY")
            exactly(tracker, int(exactly(tracker, 4), 16))
            farmhand(stage, "tokens", "revoke", token, state=stage.work / "far-state")
            started = time.monotonic()
            equal(tracker.recv(1), b"", "who is connected is cut off")
            took = time.monotonic() - started
        said = adb(stage, port, "devices")
        assert said.code and "this token is not known here, or was revoked" in said.err, f"{said.out} {said.err}"
    return f"cut off after {took * 1000:.0f} ms; then: {said.err.strip()}"


def expired(stage):
    with desk(stage, "guest", "use", "8s") as (port, *_):
        def over():
            said = adb(stage, port, "devices")
            return said if said.code else None

        said = stage.until("the token's time is over", over)
        assert "this token's time is over" in said.err, f"{said.err}"
    return said.err.strip()


def guessed(stage):
    """By an address of its own: the others are let in all the while."""
    far, answers = stage.work / "far-state", []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for number in range(100):
        with socket.create_connection(("127.0.0.1", TLS_PORT), 10, source_address=("127.0.0.9", 0)) as plain:
            with context.wrap_socket(plain) as connection:
                connection.sendall(framed(f"farmhand:token:0badf00d-{number:064x}"))
                equal(exactly(connection, 4), b"FAIL", f"token {number}")
                answers.append(exactly(connection, int(exactly(connection, 4), 16)).decode())
    looked_at = [answer for answer in answers if "not known here" in answer]
    slowed = [answer for answer in answers if "too many wrong tokens came from your address" in answer]
    equal(len(looked_at) + len(slowed), 100, "answers")
    assert 3 <= len(looked_at) <= 8, f"{len(looked_at)} were looked at"
    equal(adb(stage, FORWARDER_PORT, "-s", "A2", "get-state").out, "device\n", "another address")
    told = records(stage, far, who="somebody at 127.0.0.9")
    assert 3 <= len(told) <= len(looked_at), f"{told}"
    return f"{len(looked_at)} looked at, {len(slowed)} not, {len(told)} rows in the audit; then: {slowed[-1]}"


def unix_socket(stage):
    path = stage.state / "adb.sock"
    mode = path.stat().st_mode & 0o777
    equal(oct(mode), "0o660", "who may is the group's")
    for google in stage.googles:
        said = stage.run([google.program, "-s", "A2", "shell", "echo hello"], {"ADB_SERVER_SOCKET": f"localfilesystem:{path}"})
        equal(said.out, "hello\n", f"{google.name}: {said.err}")
    for folder in (stage.work, stage.state):
        os.chmod(folder, 0o711)
    try:
        script = f"import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r})"
        tried = subprocess.run(["/usr/bin/python3", "-c", script], user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True)
    finally:
        for folder in (stage.work, stage.state):
            os.chmod(folder, 0o700)
    assert b"PermissionError" in tried.stderr, f"{tried.stderr}"
    return "three clients by the socket; who is not in its group may not connect"


def loopback(stage):
    """Without TLS it is not to be had from another address, and who says no token is told nothing."""
    subprocess.run(["ip", "address", "add", "10.9.9.9/32", "dev", "lo"], check=True)
    try:
        socket.create_connection(("10.9.9.9", FARMHAND_PORT), 5).close()
        raise AssertionError("the port without TLS answers at another address than the loopback's")
    except ConnectionRefusedError:
        pass
    with socket.create_connection(("10.9.9.9", TLS_PORT), 10) as plain:
        plain.sendall(framed("host:devices"))
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while more := plain.recv(4096):
                answer += more
    assert b"OKAY" not in answer and not any(serial.encode() in answer for serial in SERIALS.values()), f"{answer}"
    config = stage.work / "open.toml"
    config.write_text('[adb_server]\nslot_base = 7401\nslot_listen = "0.0.0.0"\n')
    said = stage.run([stage.farmhand, "config", "check", config], {})
    assert said.code and "keys" in said.out + said.err, f"slots without keys at all addresses: {said.out} {said.err}"
    return "refused, told nothing, and no slot's port without keys"


def doctor(stage):
    google = stage.googles[0]
    found = lambda: [finding for finding in json.loads(stage.run([stage.farmhand, "doctor", "--json"], {}).out)
                     if finding["code"] == "doctor.adb_port"]
    equal(found(), [], "before")
    words = [google.program, "-L", "tcp:5037", "server", "nodaemon"]
    child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                             env=stage.environment({"ADB_LOCAL_TRANSPORT_MAX_PORT": "5553"}))
    try:
        stage.listens("127.0.0.1:5037")
        (finding,) = found()
    finally:
        child.kill()
        child.wait()
    assert "`adb kill-server`" in finding["help"], f"{finding}"
    return f"{finding['what']}: {finding['help']}"


def slot(stage, google):
    """Google's server takes a slot's port for a phone; its key is listed."""
    address = f"127.0.0.1:{SLOT_BASE + 1}"
    on = lambda *words: stage.adb(google, google.port, ["-s", address, *words])
    said = stage.adb(google, google.port, ["connect", address])
    assert "connected to" in said.out, f"{said.out} {said.err}"
    try:
        stage.until("it is online", lambda: on("get-state").out == "device\n")
        equal(on("shell", "echo hello; exit 3").code, 3)
        equal(on("shell", "getprop", "ro.serialno").out.strip(), SERIALS["A2"], "who sits in A2")
        here, back = stage.work / f"slot.{google.name}", stage.work / f"slot.{google.name}.back"
        here.write_bytes(os.urandom((3 << 20) + 5))
        for words in (["push", here, "/sdcard/slot"], ["pull", "/sdcard/slot", back], ["shell", "rm /sdcard/slot"]):
            ended = on(*words)
            equal(ended.code, 0, f"{words}: {ended.out} {ended.err}")
        assert back.read_bytes() == here.read_bytes(), "what came back"
    finally:
        stage.adb(google, google.port, ["disconnect", address])
    return f"{address} is A2: shell, and 3 MB there and back"
