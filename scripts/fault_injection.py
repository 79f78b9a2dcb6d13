"""Make system calls of a run fail, one by one, continue with the same command, and compare with an undisturbed run.

Calls about files of the study folder, and forks, fail in the runner, the fork server, the workers and the user's
program: the n-th call of a kind, n uniform over those that an undisturbed run makes, gets ENOSPC, EIO, EAGAIN, EINTR,
or writes half. Some faults hit each call of `tunectl run`; one that did not occur is not counted. Then the same
command is called without faults until the study is complete (with --retry-failed where the user's own program met the
fault and failed by it). Compared are, without times, device and attempts, the tables and every trial's measurements,
steps and checkpoints. Exit code 1, with the folders kept, if a trial is lost, a byte differs, a traceback is
printed, a process is left, a call hangs, or a cell occurred too seldom.

Linux with a C compiler: the faults are those of a library in LD_PRELOAD (injected_faults.c).
"""

from __future__ import annotations

import argparse
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from comparing import differences
from disturbing import MARK, left_of
from injected import ROLES, Cell, Happened, Injected, cells_of, compiled, drawn, read_state, write_state

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "scripts" / "injection_study"
GONE_SECONDS = 5.0
HANG_SECONDS = 180.0
LOOK_SECONDS = 0.02
MOST_CALLS = 8
PROGRAM = "program.py"
STUDIES = {"program": ROLES[:4], "digits": ("worker",)}
"""The roles of which each study's calls fail: in the second only what our own loop does is new."""


@dataclass
class Ledger:
    """Which faults occurred, by cell, and what they caused."""

    calls: dict[str, Counter[tuple[str, str]]] = field(default_factory=dict)
    counted: Counter[Cell] = field(default_factory=Counter)
    tried: Counter[Cell] = field(default_factory=Counter)
    runs: int = 0
    rounds: int = 0
    retried: int = 0
    lost: int = 0
    bytes: int = 0
    tracebacks: int = 0
    left: int = 0
    hung: int = 0

    @property
    def good(self) -> bool:
        return not (self.lost or self.bytes or self.tracebacks or self.left or self.hung)


@dataclass(frozen=True)
class Place:
    """Where the studies run, and the library that makes their calls fail."""

    folder: Path
    library: Path
    seconds: float


@dataclass
class Ended:
    """How a call of the command ended: its exit code, what came about, and what was wrong with it."""

    code: int
    happened: list[Happened]
    left: int
    hung: bool


def call(place: Place, study: str, folder: Path, faults: Sequence[Injected], *options: str) -> Ended:
    """One call of the command in which these faults are armed."""
    state = folder.with_name(folder.name + ".state")
    write_state(state, folder, PROGRAM, faults)
    words = [sys.executable, "-m", "tunectl", "run", str(PLACE / f"{study}.yaml"), "--dir", str(folder), "--quiet"]
    environment = os.environ | {
        MARK: str(folder),
        "LD_PRELOAD": str(place.library),
        "TUNECTL_FAULTS": str(state),
        # Compiled once: where bytecode is not written, each of thousands of calls would compile all modules.
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(place.folder / "bytecode"),
    }
    with (
        open(folder.with_name(folder.name + ".log"), "ab") as log,
        subprocess.Popen(
            [*words, "--slots", "2", *options], cwd=ROOT, env=environment, stdout=log, stderr=log
        ) as process,
    ):
        hung = False
        try:
            process.wait(HANG_SECONDS)
        except subprocess.TimeoutExpired:
            hung = True
            process.kill()
    left = settled(folder)
    return Ended(process.returncode, read_state(state, faults)[1], left, hung)


def settled(folder: Path) -> int:
    """Return how many processes are left five seconds after the runner's end, and end them."""
    deadline = time.monotonic() + GONE_SECONDS
    while (left := left_of(str(folder), set())) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    for process in left:
        process.send(signal.SIGKILL)
    return len(left)


class Rounds:
    """Studies from their first call to their completion; several at a time."""

    def __init__(self, place: Place, cells: Sequence[Cell], wanted: int, generator: random.Random, most: int) -> None:
        self.place, self.cells, self.wanted, self.generator, self.most = place, cells, wanted, generator, most
        self.ledger = Ledger()
        self.lock = threading.Lock()
        self.deadline = math.inf

    def next(self) -> tuple[str, Path, list[Injected]] | None:
        """A study, its folder and its faults; None if all cells have occurred often enough."""
        with self.lock:
            ledger = self.ledger
            left = [cell for cell in self.cells if ledger.counted[cell] < self.wanted]
            if not left or time.monotonic() > self.deadline:
                return None
            study = min(left, key=lambda cell: (ledger.counted[cell], self.generator.random())).study
            left = [cell for cell in left if cell.study == study]
            faults = drawn(self.generator, left, ledger.tried, ledger.calls[study], self.most)
            ledger.tried.update(fault.cell for fault in faults)
            ledger.rounds += 1
            return study, self.place.folder / f"round {ledger.rounds:05d}", faults

    def work(self) -> None:
        """Rounds until there is nothing left to do."""
        while (item := self.next()) is not None:
            self.one(*item)

    def one(self, study: str, folder: Path, faults: Sequence[Injected]) -> None:
        """One study: disturbed once, continued until it is complete, compared."""
        ended = [call(self.place, study, folder, faults)]
        happened = ended[0].happened
        retries = 0
        while len(ended) < MOST_CALLS and (ended[-1].code != 0 or len(ended) == 1):
            # A fault that ends the user's own program is a failure of the program, like any other.
            is_programs = ended[-1].code == 1 and any(item.fault.cell.role == "program" for item in happened)
            retries += is_programs
            ended.append(call(self.place, study, folder, (), *(["--retry-failed"] if is_programs else [])))
        found = differences(folder, self.place.folder / study, own_code=study == "program")
        log = folder.with_name(folder.name + ".log").read_text(errors="replace")
        tracebacks = log.count("Traceback (most recent call last)") + (folder / "faults.txt").exists()
        with self.lock:
            ledger = self.ledger
            ledger.counted.update(item.fault.cell for item in happened)
            ledger.tried.update(item.cell for item in faults)
            for fault in faults:
                ledger.tried[fault.cell] -= 1
            ledger.runs += len(ended)
            ledger.retried += retries
            ledger.lost += len(found.lost)
            ledger.bytes += found.bytes
            ledger.tracebacks += tracebacks
            ledger.left += sum(item.left for item in ended)
            ledger.hung += sum(item.hung for item in ended)
        wrong = found.lost or found.bytes or tracebacks or any(item.left or item.hung for item in ended)
        if not wrong:
            shutil.rmtree(folder, ignore_errors=True)
            for suffix in (".log", ".state"):
                folder.with_name(folder.name + suffix).unlink()
            return
        print(f"{folder.name} of {study}, exit codes {[item.code for item in ended]}:", flush=True)
        for item in happened:
            print(f"  {item.fault.cell}, call {item.fault.place}: {item.where.replace(str(folder), '…')}")
        print(
            f"  lost {list(found.lost)}, differing bytes {found.bytes_by_file}, tracebacks {tracebacks}, "
            f"left {sum(item.left for item in ended)}, hung {sum(item.hung for item in ended)}",
            flush=True,
        )


def undisturbed(place: Place, study: str) -> Counter[tuple[str, str]]:
    """Make the reference, and count its calls."""
    folder = place.folder / study
    began = time.monotonic()
    ended = call(place, study, folder, ())
    if ended.code != 0 or ended.left:
        raise SystemExit(f"the undisturbed run failed: see {folder}.log")
    calls, _ = read_state(folder.with_name(folder.name + ".state"), ())
    print(f"{study}: {time.monotonic() - began:.1f} s undisturbed", flush=True)
    for role in STUDIES[study]:
        print(
            f"  {role:8} " + ", ".join(f"{name} {count}" for (of, name), count in calls.items() if of == role and count)
        )
    return calls


def show(rounds: Rounds) -> None:
    ledger = rounds.ledger
    errors = ("ENOSPC", "EIO", "EAGAIN", "EINTR", "short write")
    print(f"\n{'study':8} {'role':8} {'call':10}" + "".join(f" {name:>11}" for name in errors))
    for study, role, name in dict.fromkeys((cell.study, cell.role, cell.call) for cell in rounds.cells):
        counts = [
            str(ledger.counted[cell]) if (cell := Cell(study, role, name, error)) in rounds.cells else "-"
            for error in errors
        ]
        print(f"{study:8} {role:8} {name:10}" + "".join(f" {count:>11}" for count in counts))
    print(f"{ledger.counted.total()} faults in {ledger.rounds} studies and {ledger.runs} calls of run")
    print(f"calls with --retry-failed, after the user's own program failed: {ledger.retried}")
    print(
        f"lost trials: {ledger.lost}; differing bytes: {ledger.bytes}; tracebacks: {ledger.tracebacks}; "
        f"processes left after {GONE_SECONDS:.0f} seconds: {ledger.left}; calls that hung: {ledger.hung}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=22, help="how often each call, error and role must occur")
    parser.add_argument("--at-once", type=int, default=8, help="how many faults are armed in a call of run")
    parser.add_argument(
        "--seconds", type=float, default=36_000.0, help="start no more studies after this time of faults"
    )
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", metavar="WORDS", help="cells with these words, as 'worker write EIO'")
    parser.add_argument("--short", action="store_true", help="what occurred within --seconds is enough")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder, began = Path(tempfile.mkdtemp(prefix="tunectl-injection-")), time.monotonic()
    place = Place(folder, compiled(folder), arguments.seconds)
    wanted = set(arguments.only.split())
    rounds = Rounds(place, [], arguments.each, random.Random(arguments.seed), arguments.at_once)
    cells: list[Cell] = []
    for study, roles in STUDIES.items():
        if wanted & (STUDIES.keys() - {study}) and study not in wanted:
            continue
        rounds.ledger.calls[study] = undisturbed(place, study)
        cells += cells_of(study, rounds.ledger.calls[study], roles)
    rounds.cells = [cell for cell in cells if wanted <= {cell.study, cell.role, cell.call, *cell.error.split()}]
    rounds.deadline = time.monotonic() + place.seconds
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for worker in [pool.submit(rounds.work) for _ in range(arguments.jobs)]:
            worker.result()
    show(rounds)
    seldom = [cell for cell in rounds.cells if rounds.ledger.counted[cell] < arguments.each]
    print(
        f"in {time.monotonic() - began:.0f} s; {len(seldom)} of {len(rounds.cells)} cells occurred less than "
        f"{arguments.each} times"
    )
    if not rounds.ledger.good or not rounds.ledger.counted or (seldom and not arguments.short):
        print(f"what went wrong is kept in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
