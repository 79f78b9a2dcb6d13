"""The same study in every order, interrupted and killed: its tables must come out the same, byte for byte.

One undisturbed run is the reference. Then: --slots 1, --slots 2, --order reversed; SIGINT at seeded moments; SIGKILL of
the runner at seeded moments; each followed by the same command until the study is complete. Compared are the
hyperparameters, best steps and best values of trials.csv (and all other columns but times and device). Ends with 1
where a table differs or a process is left.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STUDY = ROOT / "studies" / "smoke" / "conditional_optimizer.yaml"
UNCOMPARED = frozenset({"train_seconds", "eval_seconds", "startup_seconds", "device"})
MOST_CALLS = 50


@dataclass(frozen=True)
class Outcome:
    """One way of running the study: how often the command was called, and whether the tables agree."""

    name: str
    calls: int
    interrupted: int
    same: bool
    left: int


def command(study: Path, folder: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "tunectl", "run", str(study), "--dir", str(folder), "--quiet", *options]


def table(folder: Path) -> list[tuple[str, ...]]:
    """trials.csv without times and device, as text."""
    with open(folder / "tables" / "trials.csv", newline="") as file:
        rows = list(csv.reader(file))
    kept = [index for index, name in enumerate(rows[0]) if name not in UNCOMPARED]
    return [tuple(row[index] for index in kept) for row in rows]


def processes_of(folder: Path) -> list[int]:
    """Living processes that were started for this folder: its path stands in their environment."""
    marker = f"TUNECTL_INTERRUPTIONS={folder}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z" and marker in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def wait_until_gone(folder: Path, seconds: float) -> int:
    """How many processes are left after at most `seconds`."""
    deadline = time.monotonic() + seconds
    while (left := len(processes_of(folder))) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


@dataclass(frozen=True)
class Moment:
    """When a run is stopped: `seconds` after its start, or after its plan was written, when trials begin to train."""

    seconds: float
    in_training: bool

    def __str__(self) -> str:
        return f"{'+' if self.in_training else ''}{self.seconds:.2f}"


def call(
    study: Path,
    folder: Path,
    options: tuple[str, ...] = (),
    stop: signal.Signals | None = None,
    at: Moment | None = None,
) -> int:
    """One call of the command, ended by `stop` at a moment if it is still at work then; its exit code."""
    environment = {**os.environ, "TUNECTL_INTERRUPTIONS": str(folder)}
    words = command(study, folder, *options)
    quiet = subprocess.DEVNULL
    with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=quiet, stderr=quiet) as process:
        if stop is not None and at is not None:
            while at.in_training and not (folder / "plan.jsonl").exists() and process.poll() is None:
                time.sleep(0.005)
            try:
                process.wait(at.seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(stop)
        return process.wait()


def disturbed(study: Path, folder: Path, stop: signal.Signals, moments: list[Moment]) -> tuple[int, int, int]:
    """Run the study, stopped at each moment, until it is complete: calls, stops that hit, processes left."""
    calls = hits = left = 0
    for moment in moments:
        code = call(study, folder, (), stop, moment)
        calls += 1
        if code == 0:
            return calls, hits, left
        hits += 1
        left += wait_until_gone(folder, 5.0)
    while call(study, folder) != 0:
        calls += 1
        if calls > MOST_CALLS:
            raise SystemExit("the study does not come to its end")
    return calls + 1, hits, left


@dataclass(frozen=True)
class Reference:
    """The undisturbed run: its table, and how many seconds it took in all and while trials trained."""

    table: list[tuple[str, ...]]
    seconds: float
    training_seconds: float


def undisturbed(study: Path, folder: Path) -> Reference:
    started = time.time()
    if call(study, folder) != 0:
        raise SystemExit("the undisturbed run failed")
    seconds = time.time() - started
    training = started + seconds - (folder / "plan.jsonl").stat().st_mtime
    return Reference(table(folder), seconds, training)


def in_other_orders(study: Path, place: Path, reference: Reference) -> Iterator[Outcome]:
    for name, options in {
        "slots 1": ("--slots", "1"),
        "slots 2": ("--slots", "2"),
        "reversed": ("--order", "reversed"),
    }.items():
        folder = place / name
        call(study, folder, options)
        yield Outcome(name, 1, 0, table(folder) == reference.table, wait_until_gone(folder, 5.0))


def stopped(study: Path, place: Path, reference: Reference, each: int, generator: random.Random) -> Iterator[Outcome]:
    """`each` runs for SIGINT and as many for SIGKILL, stopped at random moments."""
    for stop in (signal.SIGINT, signal.SIGKILL):
        for number in range(each):
            folder = place / f"{stop.name} {number}"
            # Mostly in training, which starting up outlasts here; every third run is stopped three times in a row.
            moments = [
                Moment(generator.uniform(0, reference.seconds), in_training=False)
                if number % 5 == 4
                else Moment(generator.uniform(0, reference.training_seconds), in_training=True)
                for _ in range(3 if number % 3 == 2 else 1)
            ]
            calls, hits, left = disturbed(study, folder, stop, moments)
            shown = ", ".join(str(moment) for moment in moments)
            yield Outcome(f"{stop.name} at {shown} s", calls, hits, table(folder) == reference.table, left)


def show(outcomes: list[Outcome]) -> None:
    print(f"{'run':36} {'calls':>5} {'stopped':>7} {'tables':>9} {'processes left':>14}")
    for item in outcomes:
        print(
            f"{item.name:36} {item.calls:5} {item.interrupted:7} {'the same' if item.same else 'DIFFER':>9} "
            f"{item.left:14}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=STUDY)
    parser.add_argument("--moments", type=int, default=10, help="how often each signal is sent")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    # Started in the background, a shell has us ignore SIGINT, and so would the studies: they inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    place = Path(tempfile.mkdtemp(prefix="tunectl-interruptions-"))
    study = arguments.study.resolve()
    reference = undisturbed(study, place / "reference")
    print(
        f"{study.name}: {len(reference.table) - 1} trials, {reference.seconds:.1f} s undisturbed, "
        f"{reference.training_seconds:.1f} s of them training"
    )
    generator = random.Random(arguments.seed)
    outcomes = [
        *in_other_orders(study, place, reference),
        *stopped(study, place, reference, arguments.moments, generator),
    ]
    show(outcomes)
    good = all(item.same and item.left == 0 for item in outcomes)
    if good:
        shutil.rmtree(place)
    else:
        print(f"the folders are kept in {place}")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
