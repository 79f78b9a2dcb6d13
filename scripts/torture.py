"""Disturb a study at seeded moments, continue with the same command, and compare with an undisturbed run.

The study (torture_study/) has two loader processes a trial, randomness in its data and its model, and infeasible
trials. Its undisturbed run is the reference. Then faults: SIGKILL, SIGTERM, SIGINT, SIGSTOP followed by SIGCONT or by
SIGKILL, to the runner, the fork server, a trial's process or a loader process; several may hit one call of
`tunectl run`. The command is called again until the study is complete, then comes a fresh folder, until all faults are
spent. Compared are, without times, device and attempts, the tables and every trial's measurements, steps and
checkpoints. Exit code 1, with the folders kept, if a trial is lost, a byte differs, a process outlives its runner
by five seconds, or a call hangs.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

from comparing import Differences, differences
from disturbing import CELLS, MARK, Family, Fault, Later, Process, drawn, left_of

ROOT = Path(__file__).resolve().parent.parent
STUDY = ROOT / "scripts" / "torture_study" / "blobs.yaml"
GONE_SECONDS = 5.0
HANG_SECONDS = 240.0
LOOK_SECONDS = 0.005
USUAL = ("--slots", "2")
ORDERS = {"slots 1": ("--slots", "1"), "reversed": ("--slots", "2", "--order", "reversed")}

Cell = tuple[str, str]


@dataclass
class Ledger:
    """Which faults were sent, by fault and target, and what they caused."""

    sent: Counter[Cell] = field(default_factory=Counter)
    at_work: Counter[Cell] = field(default_factory=Counter)
    calls_ended: Counter[Cell] = field(default_factory=Counter)
    resumed: Counter[Cell] = field(default_factory=Counter)
    run_again: Counter[Cell] = field(default_factory=Counter)
    calls: int = 0
    rounds: int = 0
    hung: int = 0
    survivors: int = 0
    lost: int = 0
    bytes: int = 0

    @property
    def good(self) -> bool:
        return not (self.hung or self.survivors or self.lost or self.bytes)

    def take(self, found: Differences) -> None:
        self.lost += len(found.lost)
        self.bytes += found.bytes


@dataclass
class Round:
    """One study folder from its first call to its completion: who trained what, and which fault hit it last."""

    folder: Path
    faults: deque[Fault]
    ledger: Ledger
    deadline: float
    trained_by: dict[int, set[Process]] = field(default_factory=dict)
    last_fault: dict[int, Cell] = field(default_factory=dict)
    last_cell: Cell | None = None

    def note_attempts(self, family: Family) -> None:
        """A trial seen with another process than before was hit: it continues from its resume.pt, or starts again."""
        for process, trial in family.trials.items():
            earlier = self.trained_by.setdefault(trial, set())
            if earlier and process not in earlier:
                cell = self.last_fault.get(trial, self.last_cell)
                goes_on = (self.folder / "trials" / f"{trial:05d}" / "resume.pt").exists()
                if cell is not None:
                    (self.ledger.resumed if goes_on else self.ledger.run_again)[cell] += 1
            earlier.add(process)

    def note_fault(self, fault: Fault, trials: set[int]) -> None:
        cell = (fault.kind, fault.target)
        self.last_cell = cell
        self.ledger.sent[cell] += 1
        unfinished = [
            trial for trial in trials if not (self.folder / "trials" / f"{trial:05d}" / "result.json").exists()
        ]
        self.ledger.at_work[cell] += bool(unfinished)
        self.last_fault |= dict.fromkeys(trials, cell)


@dataclass
class Strikes:
    """The faults of one call: each comes some time after the one before, or after the call began to train."""

    round: Round
    family: Family
    began: float
    trained: float | None = None
    struck: float = 0.0
    sent: int = 0
    later: Later = field(default_factory=Later)

    def look(self) -> None:
        """Look at the processes, send the signals whose time has come."""
        self.family.look()
        self.round.note_attempts(self.family)
        if self.trained is None and self.family.trials:
            self.trained = time.monotonic()
        self.later.send_due()
        while self._strike():
            pass

    def _strike(self) -> bool:
        faults, now = self.round.faults, time.monotonic()
        if not faults or now > self.round.deadline:
            return False
        fault = faults[0]
        since = self.began if fault.early else self.trained
        if since is None or now < max(since, self.struck) + fault.wait_seconds:
            return False
        process, trials = self.family.victim(fault)
        if process is None:
            return False
        self.later.strike(faults.popleft(), process)
        self.round.note_fault(fault, trials)
        self.struck, self.sent = now, self.sent + 1
        return True


def start(study: Path, folder: Path, options: tuple[str, ...]) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "tunectl", "run", str(study), "--dir", str(folder), "--quiet", *options]
    environment = {**os.environ, MARK: str(folder)}
    with open(folder.with_name(folder.name + ".log"), "ab") as log:
        return subprocess.Popen(words, cwd=ROOT, env=environment, stdout=log, stderr=log)


def settle(strikes: Strikes, folder: Path) -> int:
    """Return how many processes are left five seconds after the runner's end, and end them."""
    deadline = time.monotonic() + GONE_SECONDS
    while (left := left_of(str(folder), strikes.family.sessions)) and time.monotonic() < deadline:
        strikes.look()
        time.sleep(LOOK_SECONDS)
    for process in left:
        words = Path(f"/proc/{process.pid}/cmdline")
        print(f"left: {process.pid} {words.read_bytes().decode(errors='replace') if words.exists() else ''}")
        process.send(signal.SIGKILL)
    return len(left)


def call(study: Path, current: Round, options: tuple[str, ...]) -> tuple[int, int]:
    """One call of the command, with what faults hit it; its exit code, and how many hit it."""
    ledger = current.ledger
    with start(study, current.folder, options) as process:
        began = time.monotonic()
        runner = Process.of(process.pid)
        strikes = Strikes(current, Family(runner or Process(process.pid, "")), began)
        while process.poll() is None:
            strikes.look()
            if time.monotonic() > began + HANG_SECONDS:
                print(f"a call hangs: see {current.folder}.log")
                ledger.hung += 1
                process.kill()
                process.wait()
            time.sleep(LOOK_SECONDS)
        ledger.survivors += settle(strikes, current.folder)
    ledger.calls += 1
    if process.returncode != 0 and current.last_cell is not None and strikes.sent:
        ledger.calls_ended[current.last_cell] += 1
    return process.returncode, strikes.sent


def disturbed(study: Path, current: Round, generator: random.Random) -> None:
    """Call the command until the study is complete; a call that no fault hit is the last one."""
    while True:
        options = generator.choice([USUAL, USUAL, *ORDERS.values()])
        code, faults = call(study, current, options)
        if code == 0 or faults == 0:
            return


def in_other_orders(study: Path, place: Path, reference: Path, ledger: Ledger) -> None:
    for name, options in ORDERS.items():
        folder = place / name
        current = Round(folder, deque(), ledger, 0.0)
        call(study, current, options)
        found = differences(folder, reference)
        ledger.take(found)
        print(f"{name}: {found.bytes} differing bytes", flush=True)


def run_rounds(study: Path, place: Path, reference: Path, faults: deque[Fault], seconds: float, seed: int) -> Ledger:
    """Start new folders until all faults or all the time are used."""
    ledger, generator = Ledger(), random.Random(seed + 1)
    deadline = time.monotonic() + seconds
    while faults and time.monotonic() < deadline:
        ledger.rounds += 1
        current = Round(place / f"round {ledger.rounds:03d}", faults, ledger, deadline)
        before, calls, began = len(faults), ledger.calls, time.monotonic()
        disturbed(study, current, generator)
        found = differences(current.folder, reference)
        ledger.take(found)
        print(
            f"{current.folder.name}: {before - len(faults)} faults, {ledger.calls - calls} calls of run, "
            f"{time.monotonic() - began:.0f} s",
            flush=True,
        )
        if found.lost or found.bytes:
            print(f"  lost {list(found.lost)}, differing bytes {found.bytes_by_file}", flush=True)
        else:
            shutil.rmtree(current.folder)
    return ledger


def show(ledger: Ledger) -> None:
    columns = {
        "sent": ledger.sent,
        "at work": ledger.at_work,
        "calls ended": ledger.calls_ended,
        "trials resumed": ledger.resumed,
        "trials run again": ledger.run_again,
    }
    print(f"{'fault':17} {'target':7}" + "".join(f" {name:>{len(name)}}" for name in columns))
    for cell in CELLS:
        print(f"{cell[0]:17} {cell[1]:7}" + "".join(f" {found[cell]:{len(name)}}" for name, found in columns.items()))
    print(f"{'in all':25}" + "".join(f" {found.total():{len(name)}}" for name, found in columns.items()))
    print(f"{ledger.rounds} studies, {ledger.calls} calls of run, {ledger.hung} of which hung")
    print(
        f"lost trials: {ledger.lost}; differing bytes: {ledger.bytes}; "
        f"processes left after {GONE_SECONDS:.0f} seconds: {ledger.survivors}"
    )


def undisturbed(study: Path, folder: Path) -> float:
    """Make the reference; return its seconds."""
    ledger = Ledger()
    began = time.monotonic()
    code, _ = call(study, Round(folder, deque(), ledger, 0.0), USUAL)
    if code != 0 or not ledger.good:
        raise SystemExit(f"the undisturbed run failed: see {folder}.log")
    return time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=STUDY)
    parser.add_argument("--faults", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=7200.0, help="stop sending faults after this time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--orders", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    # A shell starts background jobs with SIGINT ignored, and the studies would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    place, study, began = Path(tempfile.mkdtemp(prefix="tunectl-torture-")), arguments.study.resolve(), time.monotonic()
    reference = place / "reference"
    print(f"{study.name}: {undisturbed(study, reference):.1f} s undisturbed", flush=True)
    faults = drawn(random.Random(arguments.seed), arguments.faults)
    ledger = run_rounds(study, place, reference, faults, arguments.seconds, arguments.seed)
    if arguments.orders:
        in_other_orders(study, place, reference, ledger)
    show(ledger)
    print(f"{arguments.faults - len(faults)} of {arguments.faults} faults in {time.monotonic() - began:.0f} s")
    if not ledger.good:
        print(f"the folders are kept in {place}")
        return 1
    shutil.rmtree(place)
    if len(faults) == arguments.faults:
        print(f"no fault was sent within {arguments.seconds:g} s, which shows nothing: give more --seconds")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
