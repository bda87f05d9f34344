"""Runs every client against farmhand's adb server, and prints a CHECK line for each client and family of commands."""

import argparse
import shutil
import sys
import traceback

import clients
import handover
import hostile
import rules
from compare import Differences, compare
from desk import Desk
from stage import WAYS, Stage
from suite import FAMILIES


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("farmhand", "rackbench", "adbd", "node", "log"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--only", help="some families or clients, with commas between them")
    args = parser.parse_args()
    stage = Stage(args.farmhand, args.rackbench, args.adbd, args.log)
    try:
        stage.up()
        verdict = Verdict(args.only.split(",") if args.only else [])
        googles(stage, verdict)
        cases = [*clients.cases(stage, args.node), *handover.cases(stage), *rules.cases(stage), *hostile.cases(stage)]
        for client, family, case in cases:
            verdict.check(client, family, case)
    finally:
        stage.down()
        shutil.rmtree(stage.work, ignore_errors=True)
    sys.exit(1 if verdict.failed else 0)


class Verdict:
    def __init__(self, only):
        self.only, self.failed = only, False

    def check(self, client, family, case):
        """Runs a case, which gives what it saw, or raises what was wrong."""
        if self.only and family not in self.only and client not in self.only:
            return
        try:
            seen = case()
            print(f"CHECK adb_server.{client}_{family} ok {seen}", flush=True)
        except Exception as wrong:
            self.failed = True
            text = str(wrong) if isinstance(wrong, AssertionError) else traceback.format_exc()
            first, *rest = text.splitlines() or ["it failed"]
            print(f"CHECK adb_server.{client}_{family} FAIL {first[:400]}", flush=True)
            print("\n".join(f"    {line[:400]}" for line in rest), flush=True)


def googles(stage, verdict):
    differences = Differences()
    for google in stage.googles:
        for family in FAMILIES:
            verdict.check(google.name, family, lambda: alike(stage, google, family, differences))
    families = {family for family in FAMILIES if not verdict.only or family in verdict.only}
    for stale in differences.stale({google.name for google in stage.googles}, families):
        verdict.failed = True
        print(f"CHECK adb_server.differences FAIL {stale}")


def alike(stage, google, family, differences):
    """A family at Google's server, and each way to farmhand, one after the other: it leaves the phones as it found them."""
    stage.all_there(google)
    run, folder = FAMILIES[family], stage.log / google.name / family
    theirs, *ours = (Desk(stage, google, port, folder / name) for name, port in
                     (("google", google.port), *WAYS.items()))
    faults = []
    for desk in (theirs, *ours):
        run(desk)
        transcript = "\n".join(f"== {record.name}\n{record.text()}" for record in desk.records)
        (desk.folder / "transcript").write_text(transcript)
        faults += [f"{desk.folder.name}: {fault}" for fault in desk.faults]
    for desk in ours:
        faults += compare(google.name, desk.folder.name, desk.records, theirs.records, differences)
    count = sum(len(desk.records) for desk in ours)
    if faults:
        raise AssertionError(f"{len(faults)} of {count} commands\n" + "\n".join(faults))
    return f"{count} commands"


main()
