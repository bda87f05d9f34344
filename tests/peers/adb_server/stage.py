"""The stage: Google's adbd, virtual phones, the real daemon in front of them, and Google's own servers beside it.

    Google's adb ──▶ farmhand (5037 + 10000) ────────────────────────────┬──▶ A1: adbd 34 in a root of its own
                 ├─▶ farmhand adb-server connect ──TLS──▶ a second daemon ┼──▶ A2: virtual phone P1
                 └─▶ Google's own server ─────────────────────────────────┴──▶ A3: virtual phone P2 (restarts)

The way by TLS has a daemon of its own, since a daemon listens at one address.
"""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
APKS = REPOSITORY / "firmware-tools/apks"

FARMHAND_PORT = 15037
# Where the owners of tokens come in, and where the forwarder of one of them listens.
TLS_PORT, FORWARDER_PORT = 15038, 15039
# Where a client finds farmhand's adb server, by each way to it.
WAYS = {"farmhand": FARMHAND_PORT, "tls": FORWARDER_PORT}
SLOT_BASE = 17401
ADBD = "127.0.0.1:15555"
PHONES = {"A1": ADBD, "A2": "127.0.0.1:15501", "A3": "127.0.0.1:15502"}
# What they say of themselves.
SERIALS = {"A1": "PEER0001", "A2": "0A181JEC207411", "A3": "R58T30A1B2C"}

# Starting ten programs on a busy machine.
UP_WITHIN_S = 60
# One command: each of them ends within a second, where nothing is wrong.
COMMAND_S = 15


class Google:
    """One version of Google's adb: its client, and a server of its own."""

    def __init__(self, name, program, port):
        self.name, self.program, self.port = name, str(program), port


class Said:
    """What a command printed, and how it ended."""

    def __init__(self, out, err, code):
        self.out, self.err, self.code = out, err, code


class Stage:
    def __init__(self, farmhand, rackbench, adbd, log):
        self.farmhand, self.rackbench, self.start_adbd, self.log = farmhand, rackbench, adbd, pathlib.Path(log)
        # Short, since paths of sockets are.
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="farmhand-peers-"))
        self.home, self.state = self.work / "home", self.work / "state"
        self.children = []
        import adbutils

        newest = pathlib.Path(adbutils.__file__).parent / "binaries/adb"
        self.googles = [
            Google("adb29", shutil.which("adb"), 15129),
            Google("adb34", pathlib.Path(adbd).with_name("start-adb"), 15134),
            Google("adb36", newest, 15136),
        ]
        for google in self.googles:
            said = self.run([google.program, "version"], {})
            if f"Version {google.name[3:]}." not in said.out:
                raise SystemExit(f"check-adb-server: {google.program} is no adb {google.name[3:]}: {said.out}")

    # The order: what is there first is found at the first try.
    def up(self):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        (self.home / ".android").mkdir(parents=True)
        self.key = self.home / ".android/adbkey"
        subprocess.run([self.googles[0].program, "keygen", self.key], check=True, env=self.environment({}))
        self.start("adbd", ["unshare", "--mount", REPOSITORY / "firmware-tools/tests/judge/adbd.sh", self.start_adbd,
                            HERE / "android"], ADBD_PORT=ADBD.split(":")[1])
        self.start("rack", [self.rackbench, "rack", "--file", HERE / "rack.toml", "--dir", self.log / "rack"])
        for address in PHONES.values():
            self.listens(address)
        self.daemon("farmhand", self.state, f'listen = "127.0.0.1:{FARMHAND_PORT}"\nslot_base = {SLOT_BASE}\n'
                                            f'slot_listen = "0.0.0.0"\nkeys = ["{self.key}.pub"]\n')
        self.listens(f"127.0.0.1:{FARMHAND_PORT}")
        self.up_by_tls()
        for google in self.googles:
            # Else it takes whatever listens at 5555 and above for an emulator.
            self.start(google.name, [google.program, "-L", f"tcp:{google.port}", "server", "nodaemon"],
                       ADB_LOCAL_TRANSPORT_MAX_PORT="5553", ADB_MDNS="0")
            self.listens(f"127.0.0.1:{google.port}")
            self.all_there(google)

    def up_by_tls(self):
        state, token = self.work / "far-state", self.work / "token"
        self.daemon("far", state, f'listen = "0.0.0.0:{TLS_PORT}"\n')
        self.listens(f"127.0.0.1:{TLS_PORT}")
        self.until("the other daemon answers the command line",
                   lambda: self.run([self.farmhand, "--state", state, "status"], {}).code == 0)
        # A tunnel to the rack's host is the admin's, and all else is everybody's.
        words = ["tokens", "add", "mara", "--role", "admin", "--for", "1h", "--json"]
        said = self.run([self.farmhand, "--state", state, *words], {})
        if said.code:
            raise SystemExit(f"check-adb-server: there is no token: {said.err}")
        token.touch(mode=0o600)
        token.write_text(json.loads(said.out)["token"])
        self.start("forwarder", [self.farmhand, "adb-server", "connect", f"127.0.0.1:{TLS_PORT}", "--token-file", token,
                                 "--listen", f"127.0.0.1:{FORWARDER_PORT}"])
        self.listens(f"127.0.0.1:{FORWARDER_PORT}")

    def all_there(self, google):
        """Waits until all phones are online at Google's server and by each way to farmhand's."""
        def online(port, address):
            if self.adb(google, port, ["-s", address, "get-state"]).out == "device\n":
                return True
            # Google's server gives up a phone at a TCP address that is away.
            for word in ("disconnect", "connect") if port == google.port else ():
                self.adb(google, port, [word, address])
            return False

        for port in (google.port, *WAYS.values()):
            for name, address in PHONES.items():
                self.until(f"{name} is at port {port}", lambda: online(port, address))

    def down(self):
        for _, child in reversed(self.children):
            child.terminate()
        for _, child in self.children:
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()

    def daemon(self, name, state, adb_server):
        state.mkdir(mode=0o700)
        config = self.log / f"{name}.toml"
        config.write_text(self.config(adb_server))
        self.start(name, [self.farmhand, "run", "--config", config, "--state", state])

    def config(self, adb_server):
        slots = "".join(f'\n[[slot]]\nname = "{name}"\nendpoint = "tcp:{address}"\n' for name, address in PHONES.items())
        return (
            '[rack]\nname = "peers"\n[web]\nlisten = "off"\n[usb]\nscan = false\n'
            f'[adb_server]\n{adb_server}' + slots
        )

    def environment(self, more):
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("ADB_", "ANDROID_"))}
        return plain | {"HOME": str(self.home), "TMPDIR": str(self.work), "TERM": "xterm"} | more

    def start(self, name, words, **more):
        with open(self.log / f"{name}.log", "wb") as log:
            child = subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                     env=self.environment(more), start_new_session=True)
        self.children.append((name, child))
        return child

    def listens(self, address):
        host, port = address.split(":")

        def tried():
            with socket.create_connection((host, int(port)), 1):
                return True

        self.until(f"somebody listens at {address}", tried)

    def until(self, what, tried, within_s=UP_WITHIN_S):
        """Waits until `tried` gives something; an OSError is a try in vain."""
        end = time.monotonic() + within_s
        while True:
            for name, child in self.children:
                if child.poll() is not None:
                    raise SystemExit(f"check-adb-server: {name} has ended: {self.log}/{name}.log")
            try:
                if seen := tried():
                    return seen
            except OSError:
                pass
            if time.monotonic() > end:
                raise TimeoutError(f"not within {within_s} s: {what}")
            time.sleep(0.02)

    def run(self, words, more, stdin=b"", cwd=None):
        try:
            done = subprocess.run([str(word) for word in words], input=stdin, capture_output=True, timeout=COMMAND_S,
                                  env=self.environment(more), cwd=cwd)
        except subprocess.TimeoutExpired as late:
            out, err = ((text or b"").decode(errors="backslashreplace") for text in (late.stdout, late.stderr))
            return Said(out, f"{err}no end within {COMMAND_S} s", -1)
        text = (done.stdout.decode(errors="backslashreplace"), done.stderr.decode(errors="backslashreplace"))
        return Said(*text, done.returncode)

    def adb(self, google, port, words, stdin=b"", cwd=None, **more):
        more = {"ANDROID_ADB_SERVER_PORT": str(port)} | more
        return self.run([google.program, *words], more, stdin, cwd)
