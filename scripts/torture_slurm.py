"""Disturb a study on Slurm at seeded moments, continue with the same command, and compare with a local run.

A Slurm of one node is started for this (tests/slurm_node.py). Faults: a job is cancelled (scancel), a worker or the
runner is killed, the node is drained and resumed, a worker that Slurm no longer knows is stopped until its trial was
taken over, and then goes on, and a worker is ended by the time limit of its job, which is a minute. Each kind comes
`--each` times. Time limits cannot be sent: when it is their turn, nothing else is done until one has come. The command
is called again until the study is complete, then comes a fresh folder, until all faults are spent. Compared are,
without times, devices and attempts, the tables and every trial's measurements, steps and checkpoints, with a run of the
same study by the local backend. Exit code 1, with the folders kept, if a trial is lost, a byte differs, or a process is
left; also if there were fewer faults of a kind than asked for.

    python scripts/torture_slurm.py --each 34
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from comparing import differences
from disturbed_workers import claims_of, descendants, undisturbed
from disturbing import MARK, Process, left_of
from slurm_ledger import KINDS, LIMIT, STALL, Ledger, show

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from slurm_node import KILL_WAIT_SECONDS, NODE, SlurmNode, running_node  # noqa: E402

STUDY = ROOT / "scripts" / "torture_study" / "blobs_slurm.yaml"
LOOK_SECONDS = 0.05
APART_SECONDS = (0.2, 9.0)
DRAINED_SECONDS = (1.0, 5.0)
LEFT_SECONDS = (0.0, 4.0)  # between the runner's death and the next call
STALLED_SECONDS = 60.0
GONE_SECONDS = KILL_WAIT_SECONDS + 30.0
HANG_SECONDS = 420.0  # without a fault, and without the end of a trial
LIMIT_SECONDS = 150.0
"""How long a time limit is waited for before other faults have their turn."""

COUNT_SECONDS = 1.0
WORKER = b"worker"
_WARNED = re.compile(r"its time is nearly over|DUE TO TIME LIMIT")


def workers_of(folder: Path) -> list[Process]:
    """The processes of `tunectl worker` for this study folder, in jobs and beside them."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            is_worker = WORKER in words and os.fsencode(folder) in words
            if is_worker and (process := Process.of(int(entry.name))) is not None:
                found.append(process)
    return sorted(found, key=lambda process: process.pid)


@dataclass
class Round:
    """One study folder from its first call to its completion."""

    node: SlurmNode
    folder: Path
    study: Path
    faults: deque[str]
    ledger: Ledger
    generator: random.Random
    deadline: float
    dead_job: str
    runner: subprocess.Popen[bytes] | None = None
    stray: subprocess.Popen[bytes] | None = None
    stalled: tuple[list[Process], list[str], float] | None = None
    resume_at: float | None = None
    call_at: float = 0.0
    next_at: float = 0.0
    struck: int = 0  # faults since the last call began
    kinds: Counter[str] = field(default_factory=Counter)
    limits: set[str] = field(default_factory=set)  # the logs of jobs that were warned of their time limit
    limit_since: float | None = None
    left: int = 0
    progress: tuple[int, int] = (0, 0)
    progress_at: float = 0.0
    counted_at: float = 0.0

    def complete(self) -> None:
        """Call the command until it has ended by itself, with faults meanwhile."""
        self.progress_at = time.monotonic()
        self._wait_before_next()
        while True:
            now = time.monotonic()
            if now - self.counted_at >= COUNT_SECONDS:
                self._count(now)
            if now - self.progress_at > HANG_SECONDS:
                print(f"a round hangs: see {self.folder}", flush=True)
                self.ledger.hung += 1
                break
            self._go_on_after_faults(now)
            if self.runner is not None and (code := self.runner.poll()) is not None:
                self.runner = None
                self._count(now)
                if code == 0 and self.stalled is None:
                    break
                if code != 0 and self.struck == 0:
                    print(f"a call that no fault hit ended with {code}: see {self.folder}.log", flush=True)
                    self.ledger.hung += 1
                    break
            if self.runner is None and now >= self.call_at:
                self._call()
            self._keep_stray()
            if self.faults and self.next_at <= now < self.deadline and self._strike(self.faults[0]):
                kind = self.faults.popleft()
                if kind != STALL:  # which counts when its trial was taken over
                    self._came(kind)
                self.struck += 1
                self._wait_before_next()
            time.sleep(LOOK_SECONDS)
        self._end()

    def _came(self, kind: str) -> None:
        self.ledger.sent[kind] += 1
        self.kinds[kind] += 1

    def _count(self, now: float) -> None:
        """Count the time limits that have come, and see whether anything goes on."""
        self.counted_at = now
        for path in (self.folder / "workers").glob("*.log"):
            if path.name not in self.limits and _WARNED.search(path.read_text(errors="replace")):
                self.limits.add(path.name)
                self._came(LIMIT)
                self.struck += 1  # workers that are warned before they have begun a trial make a call end
                self.limit_since = None
                if LIMIT in self.faults:
                    self.faults.remove(LIMIT)
                    self._wait_before_next()
        ended = sum(1 for _ in self.folder.glob("trials/*/result.json"))
        if self.progress != (ended, self.kinds.total()):
            self.progress, self.progress_at = (ended, self.kinds.total()), now

    def _wait_before_next(self) -> None:
        self.next_at = time.monotonic() + self.generator.uniform(*APART_SECONDS)

    def _environment(self, **more: str) -> dict[str, str]:
        return {**self.node.environ, MARK: str(self.folder), **more}

    def _call(self) -> None:
        words = [sys.executable, "-m", "tunectl", "run", str(self.study), "--dir", str(self.folder), "--quiet"]
        with open(self.folder.with_name(self.folder.name + ".log"), "ab") as log:
            self.runner = subprocess.Popen(
                [*words, "--backend", "slurm"], cwd=ROOT, env=self._environment(), stdout=log, stderr=log
            )
        self.ledger.calls += 1
        self.struck = 0

    def _keep_stray(self) -> None:
        """Keep a worker of a job that Slurm has given up, as on a host that it cannot reach."""
        if self.stray is not None and self.stray.poll() is None:
            return
        if not (self.folder / "run.json").exists() or STALL not in self.faults:
            return
        words = [sys.executable, "-P", "-m", "tunectl", "worker", str(self.folder), "--idle-seconds", "5"]
        with open(self.folder.with_name(self.folder.name + ".stray.log"), "ab") as log:
            self.stray = subprocess.Popen(
                [*words, "--slots", "1"],
                cwd=ROOT,
                env=self._environment(SLURM_JOB_ID=self.dead_job),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _strike(self, kind: str) -> bool:
        """Do it if it can be done now."""
        match kind:
            case "SIGKILL to the runner":
                if self.runner is None or not (self.folder / "run.json").exists():
                    return False
                self.runner.kill()
                self.runner.wait()
                self.runner = None
                self.call_at = time.monotonic() + self.generator.uniform(*LEFT_SECONDS)
                return True
            case "time limit of a minute":
                return self._is_late(time.monotonic())
            case "SIGKILL to a worker":
                workers = [item for item in workers_of(self.folder) if not self._is_stray(item)]
                if workers:
                    self.generator.choice(workers).send(signal.SIGKILL)
                return bool(workers)
            case "scancel of a job":
                jobs = self.node.call("squeue", "--noheader", "--states=R", "--format=%i").split()
                if not jobs:
                    return False
                with contextlib.suppress(RuntimeError):  # it has just ended by itself
                    self.node.call("scancel", self.generator.choice(jobs))
                    return True
                return False
            case "node drained and resumed":
                if self.resume_at is not None:
                    return False
                self.node.call("scontrol", "update", f"NodeName={NODE}", "State=drain", "Reason=torture")
                self.resume_at = time.monotonic() + self.generator.uniform(*DRAINED_SECONDS)
                return True
            case _:
                return self._stall()

    def _is_late(self, now: float) -> bool:
        """Wait for a time limit, which is counted when it comes; let others go first where none comes."""
        self.limit_since = now if self.limit_since is None else self.limit_since
        if now - self.limit_since > LIMIT_SECONDS:
            self.limit_since = None
            self.faults.rotate(-1)
        return False

    def _is_stray(self, process: Process) -> bool:
        return self.stray is not None and process.pid == self.stray.pid

    def _stall(self) -> bool:
        """Stop the worker that Slurm does not know, alone or with all of its processes, while it has a trial."""
        if self.stray is None or self.stalled is not None or self.runner is None:
            return False
        process = Process.of(self.stray.pid)
        claims = claims_of(self.folder, self.stray.pid)
        if process is None or not claims:
            return False
        family = [process, *(descendants(process.pid) if self.generator.random() < 0.5 else [])]
        for each in family:
            each.send(signal.SIGSTOP)
        self.stalled = (family, claims, time.monotonic())
        return True

    def _go_on_after_faults(self, now: float) -> None:
        """Resume the drained node, and let a stalled worker go on once its trial was taken over."""
        if self.resume_at is not None and now >= self.resume_at:
            self.node.call("scontrol", "update", f"NodeName={NODE}", "State=resume")
            self.resume_at = None
        if self.stalled is not None:
            family, claims, since = self.stalled
            is_gone = not any((self.folder / "claimed" / name).exists() for name in claims)
            if is_gone or now - since > STALLED_SECONDS:
                if is_gone:
                    self._came(STALL)
                else:
                    print(f"a stalled worker kept {claims} for {STALLED_SECONDS:.0f} s", flush=True)
                    self.ledger.kept += 1
                    self.faults.append(STALL)
                for each in family:
                    each.send(signal.SIGCONT)
                self.stalled = None

    def _end(self) -> None:
        """End what the round has left to end, and count what did not end by itself."""
        if self.resume_at is not None:
            self._go_on_after_faults(self.resume_at)
        if self.runner is not None:
            self.runner.kill()
            self.runner.wait()
        deadline = time.monotonic() + GONE_SECONDS
        while (left := left_of(str(self.folder), set())) and time.monotonic() < deadline:
            if self.stray is not None:
                self.stray.poll()
            time.sleep(LOOK_SECONDS)
        self.left = len(left)
        for process in left:
            words = Path(f"/proc/{process.pid}/cmdline")
            print(f"left: {process.pid} {words.read_bytes().decode(errors='replace') if words.exists() else ''}")
            process.send(signal.SIGKILL)
        self._count(time.monotonic())
        self.ledger.jobs += sum(1 for _ in (self.folder / "workers").glob("*.log"))


def drawn(generator: random.Random, each: int) -> deque[str]:
    """`each` faults of every kind, mixed."""
    return deque(kind for _ in range(each) for kind in generator.sample(KINDS, len(KINDS)))


def run_rounds(node: SlurmNode, place: Path, arguments: argparse.Namespace, faults: deque[str]) -> Ledger:
    """Start new folders until all faults or all the time are used."""
    ledger, generator = Ledger(), random.Random(arguments.seed + 1)
    deadline = time.monotonic() + arguments.seconds
    dead_job = node.call("sbatch", "--parsable", "--output=/dev/null", "--wrap=true").strip()
    number = 0
    while faults and time.monotonic() < deadline:
        number += 1
        folder = place / f"round {number:03d}"
        calls, began = ledger.calls, time.monotonic()
        study = Round(node, folder, arguments.study.resolve(), faults, ledger, generator, deadline, dead_job)
        study.complete()
        found = differences(folder, place / "reference")
        ledger.take(found, study.left, study.kinds)
        print(
            f"{folder.name}: {study.kinds.total()} faults, {study.kinds[LIMIT]} of them time limits, "
            f"{ledger.calls - calls} calls of run, {time.monotonic() - began:.0f} s; {len(faults)} faults to come",
            flush=True,
        )
        if found.lost or found.bytes:
            print(f"  lost {list(found.lost)}, differing bytes {found.bytes_by_file}", flush=True)
        elif ledger.good:
            shutil.rmtree(folder)
    return ledger


@contextlib.contextmanager
def kept_if_wrong(place: Path, ledgers: list[Ledger]) -> Iterator[None]:
    yield
    if all(ledger.good for ledger in ledgers):
        shutil.rmtree(place)
    else:
        print(f"the folders are kept in {place}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=STUDY)
    parser.add_argument("--each", type=int, default=34, help="faults of each of the six kinds, at least [34]")
    parser.add_argument("--seconds", type=float, default=7200.0, help="stop sending faults after this time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reference", type=Path, help="a folder in which the study was run undisturbed before")
    arguments = parser.parse_args()
    # A shell starts background jobs with SIGINT ignored, and the studies would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    place, began = Path(tempfile.mkdtemp(prefix="tunectl-torture-slurm-")), time.monotonic()
    # Compiled once: where bytecode is not written, each of hundreds of processes would compile all modules.
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(place / "bytecode")}
    if arguments.reference is None:
        seconds = undisturbed(arguments.study, place / "reference", ("--slots", "6"))
        print(f"{arguments.study.name}: {seconds:.1f} s by the local backend")
    else:
        shutil.copytree(arguments.reference, place / "reference")
    faults = drawn(random.Random(arguments.seed), arguments.each)
    ledgers: list[Ledger] = []
    with kept_if_wrong(place, ledgers), running_node() as node:
        ledgers.append(run_rounds(node, place, arguments, faults))
    (ledger,) = ledgers
    show(ledger)
    lacking = [kind for kind in KINDS if ledger.sent[kind] < arguments.each]
    print(f"{time.monotonic() - began:.0f} s" + "".join(f"; too few: {kind}" for kind in lacking))
    return 0 if ledger.good and not lacking else 1


if __name__ == "__main__":
    sys.exit(main())
