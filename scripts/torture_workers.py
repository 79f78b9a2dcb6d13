"""Disturb `tunectl worker` and `tunectl run --backend external` at seeded moments, and compare with a local run.

A workload of ours and a program take turns. Each study folder has a runner and three "hosts" with a worker each, which
is started again when it has ended. One host sees the folder late, one sees it through a mount of its own under another
host name (where this may be done), and two of three runners see it late, too (see late_folder.c). Faults: a worker is
killed, alone or with all that it has started; the runner is killed; a trial's process is killed; a worker gets SIGTERM
or SIGUSR2, or its time is nearly over; it is stopped, alone or with its processes, until its trial was taken over, and
then goes on; its disk is full for a while. The command is called again until the study is complete, then comes a fresh
folder, until each kind of fault came often enough. Times are scaled: heartbeats every second instead of 10 s, and a
folder that is up to 3 s late instead of 30 s. `--true` studies at the end have the true ones.

Compared are, without times, devices and attempts, the tables and every trial's measurements, steps, results and
checkpoints, with a run of the same study by the local backend. Exit code 1, with the folders kept, if a trial is lost,
a byte differs, a process is left, a call hangs or ends by an error, a traceback is printed, or something of an offer or
a claim is left in the folder.

    python scripts/torture_workers.py --each 20
"""

from __future__ import annotations

import argparse
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from comparing import differences
from disturbed_workers import ROOT, can_mount, kept_if_wrong, remnants, undisturbed
from late_folder import COUNTS, LateHost, compiled
from worker_rounds import FULL, GONE_SECONDS, KINDS, Course, Host, Round

WORKLOAD = ROOT / "scripts" / "torture_study" / "blobs_workers.yaml"
PROGRAM = ROOT / "scripts" / "injection_study" / "program_workers.yaml"
NOT_OF_PROGRAM = frozenset({FULL})  # a program whose own files cannot be written fails, as it would by itself
BEAT_SECONDS, TRUE_BEAT_SECONDS = 1.0, 10.0
TRUE_FAULTS, TRUE_HANG_SECONDS = 8, 1800.0
LATE_PERIODS, WAITED_PERIODS = 3.0, 6.0
"""A folder that is 30 s late, and the 60 s that are waited for what shows late, in heartbeats of 10 s."""


@dataclass
class Torture:
    """The rounds with all that they have in common."""

    place: Path
    library: Path
    mounts: bool
    course: Course

    def next_study(self) -> Path:
        """The workload and the program take turns."""
        return PROGRAM if self.course.ledger.rounds % 2 else WORKLOAD

    def one(self, study: Path, beat_seconds: float) -> None:
        """One study folder; with the true times it has fewer faults, since each takes longer."""
        ledger = self.course.ledger
        ledger.rounds += 1
        number = ledger.rounds
        folder = self.place / f"round {number:03d}"
        before, began, calls = ledger.sent.copy(), time.monotonic(), ledger.calls
        delay = LATE_PERIODS * beat_seconds
        runner = self._view(f"{number} runner", folder, delay if number % 3 else 0.0, contents=number % 3 == 2)
        current = Round(self.course, folder, study, self._hosts(number, folder, delay), runner)
        current.late_seconds = WAITED_PERIODS * beat_seconds
        if beat_seconds != BEAT_SECONDS:
            current.most, current.hang_seconds = TRUE_FAULTS, TRUE_HANG_SECONDS
        is_program = study.stem == PROGRAM.stem
        current.without = NOT_OF_PROGRAM if is_program else frozenset()
        current.complete()
        found = differences(folder, self.place / study.stem, own_code=is_program)
        ledger.take(found)
        left = remnants(folder)
        ledger.remnants += len(left)
        came = ledger.sent - before
        print(
            f"{folder.name} of {study.stem}: {came.total()} faults, {ledger.calls - calls} calls of run, "
            f"{time.monotonic() - began:.0f} s",
            flush=True,
        )
        if found.lost or found.bytes or left:
            print(f"  lost {list(found.lost)}, differing bytes {found.bytes_by_file}, left {left}", flush=True)
        elif ledger.good:
            shutil.rmtree(folder)

    def _view(self, name: str, folder: Path, delay_seconds: float, *, contents: bool = False) -> LateHost:
        view = LateHost(self.library, self.place / f"host {name}", folder, delay_seconds, contents)
        view.make()
        return view

    def _hosts(self, number: int, folder: Path, delay_seconds: float) -> list[Host]:
        def log(name: str) -> Path:
            return self.place / f"round {number:03d}.{name}.log"

        hosts = [
            Host("near", folder, self._view(f"{number} near", folder, 0.0), (), log("near")),
            Host(
                "late",
                folder,
                self._view(f"{number} late", folder, delay_seconds, contents=number % 2 == 0),
                (),
                log("late"),
            ),
        ]
        elsewhere, before = folder, tuple[str, ...]()
        if self.mounts:
            elsewhere = self.place / "mounted"
            elsewhere.mkdir(exist_ok=True)
            script = 'hostname elsewhere && mount --bind "$0" "$1" && shift && exec "$@"'
            before = ("unshare", "--mount", "--uts", "sh", "-c", script, str(folder), str(elsewhere))
        view = self._view(f"{number} elsewhere", elsewhere, 0.0)
        return [*hosts, Host("elsewhere", elsewhere, view, before, log("elsewhere"))]


def with_beat(study: Path, place: Path, seconds: float) -> Path:
    """The same study with another heartbeat, in a folder of its own."""
    folder = place / "true"
    shutil.copytree(study.parent, folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    text = study.read_text()
    before = f"heartbeat_seconds: {BEAT_SECONDS:g}"
    if before not in text:
        raise SystemExit(f"{study}: expected {before}")
    copy = folder / study.name
    copy.write_text(text.replace(before, f"heartbeat_seconds: {seconds:g}"))
    return copy


def show(torture: Torture) -> None:
    ledger = torture.course.ledger
    for kind in KINDS:
        print(f"{kind:42} {ledger.sent[kind]:5}")
    print(f"{'in all':42} {ledger.sent.total():5}")
    print("shown late, or no room: " + ", ".join(f"{name} {torture.course.views[name]}" for name in COUNTS))
    print(
        f"{ledger.rounds} studies, {ledger.calls} calls of run, {ledger.workers} workers; calls and workers that hung: "
        f"{ledger.hung}, that failed: {ledger.failed}; tracebacks: {ledger.tracebacks}"
    )
    print(
        f"lost trials: {ledger.lost}; differing bytes: {ledger.bytes}; remnants of claims: {ledger.remnants}; "
        f"processes left after {GONE_SECONDS:.0f} seconds: {ledger.survivors}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=20, help="how often each kind of fault must come")
    parser.add_argument("--seconds", type=float, default=7200.0, help="send no more faults after this time")
    parser.add_argument("--true", type=int, default=0, help="how many studies have heartbeats of 10 s, and 30 s late")
    parser.add_argument("--short", action="store_true", help="what came within --seconds is enough")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    # A shell starts background jobs with SIGINT ignored, and the studies would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    place, began = Path(tempfile.mkdtemp(prefix="tunectl-torture-workers-")), time.monotonic()
    os.environ["TUNECTL_RUNTIME_DIR"] = str(place / "runtime")
    # Compiled once: where bytecode is not written, each of hundreds of processes would compile all modules.
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(place / "bytecode")}
    (place / "runtime").mkdir(mode=0o700)
    for study in (WORKLOAD, PROGRAM):
        print(f"{study.name}: {undisturbed(study, place / study.stem):.1f} s by the local backend", flush=True)
    course = Course(arguments.each, random.Random(arguments.seed), time.monotonic() + arguments.seconds)
    torture = Torture(place, compiled(place), can_mount(), course)
    with kept_if_wrong(place, torture.course.ledger):
        while torture.course.wanted() and time.monotonic() < torture.course.deadline:
            torture.one(torture.next_study(), BEAT_SECONDS)
        torture.course.deadline, torture.course.each = math.inf, 10**6
        for _ in range(arguments.true):
            torture.one(with_beat(torture.next_study(), place, TRUE_BEAT_SECONDS), TRUE_BEAT_SECONDS)
    show(torture)
    seldom = [kind for kind in KINDS if torture.course.ledger.sent[kind] < arguments.each]
    print(f"in {time.monotonic() - began:.0f} s; kinds that came less than {arguments.each} times: {len(seldom)}")
    return 0 if torture.course.ledger.good and (arguments.short or not seldom) else 1


if __name__ == "__main__":
    sys.exit(main())
