"""One client of Google's at one server: what it said to each command, with what differs from run to run taken out."""

import hashlib
import re
import subprocess

from stage import APKS, PHONES, SERIALS

VARYING = [
    (r"transport_id:\d+", "transport_id:N"),
    (r"[\d.]+ MB/s", "S MB/s"),
    (r" in [\d.]+s\b", " in T s"),
    (r"ld-linux-[\w-]+\.so\.2: ", "adb: "),
    (r"/vmdl\d+\.tmp/", "/vmdlN.tmp/"),
]


class Record:
    """A command and what came of it."""

    def __init__(self, name, out, err, code):
        self.name, self.out, self.err, self.code = name, out, err, code

    def text(self):
        return f"[{self.code}]\n{self.out}" + (f"--- stderr\n{self.err}" if self.err else "")


class Desk:
    def __init__(self, stage, google, port, folder):
        self.stage, self.google, self.port, self.folder = stage, google, port, folder
        self.records, self.faults = [], []
        self.hidden = [(str(folder), "HERE"), (str(APKS), "APKS")]
        folder.mkdir(parents=True)
        listed = stage.adb(google, port, ["devices"]).out
        # What each phone is called at this server.
        self.names = SERIALS if all(serial in listed for serial in SERIALS.values()) else PHONES

    def plain(self, text):
        for known, word in self.hidden:
            text = text.replace(known, word)
        for names in (PHONES, SERIALS):
            for name, known in names.items():
                text = text.replace(known, f"<{name}>")
        for pattern, word in VARYING:
            text = re.sub(pattern, word, text)
        return re.sub(r"(<A\d>) +", r"\1 ", text)

    def hide(self, known, word):
        """From now on this stands for what differs from run to run."""
        self.hidden.insert(0, (known, word))

    def say(self, *words, code=0, name=None, keep=None, **how):
        """Runs adb. `keep` makes of its output what is compared; `code` is what it must end with, at whichever server."""
        said = self.stage.adb(self.google, self.port, words, **how)
        name = name or self.plain(" ".join(words))
        out = keep(said.out) if keep else self.plain(said.out)
        self.note(name, out, self.plain(said.err), said.code)
        if code is not None and said.code != code:
            self.faults.append(f"`{name}` ended with {said.code} instead of {code}: {said.out[-300:]!r} {said.err[-300:]!r}")
        return said

    def on(self, phone, *words, name=None, **how):
        """The same, on one phone: by its address, which both servers know it by."""
        return self.say("-s", PHONES[phone], *words, name=name or self.plain(" ".join(words)), **how)

    def note(self, name, out, err="", code=0):
        if any(known.name == name for known in self.records):
            name = f"{name} (#{sum(known.name.startswith(name) for known in self.records) + 1})"
        self.records.append(Record(name, str(out), err, code))

    def must(self, what, holds):
        """Something that has to hold, whatever the other server does."""
        if not holds:
            self.faults.append(what)

    def popen(self, *words, **how):
        environment = self.stage.environment({"ANDROID_ADB_SERVER_PORT": str(self.port)})
        return subprocess.Popen([self.google.program, *words], env=environment, **how)


def digest(content):
    return hashlib.sha256(content).hexdigest()[:16]
