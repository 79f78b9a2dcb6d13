"""Disturb a study on Slurm at seeded moments, continue with the same command, and compare with a local run.

A Slurm of one node is started for this (tests/slurm_node.py). Faults: a job is cancelled (scancel), a worker or the
runner is killed, the node is drained and resumed, and a worker that Slurm no longer knows is stopped until its trial
was taken over, and then goes on. The jobs last a minute: most workers are ended by the warning of their time limit,
which counts as a fault, too. The command is called again until the study is complete, then comes a fresh folder, until
all faults are spent. Compared are, without times, devices and attempts, the tables and every trial's measurements,
steps and checkpoints, with a run of the same study by the local backend. Exit code 1, with the folders kept, if a trial
is lost, a byte differs, or a process is left.

    python scripts/torture_slurm.py --faults 200
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

from comparing import Differences, differences
from disturbing import MARK, Process, children, left_of

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from slurm_node import KILL_WAIT_SECONDS, NODE, SlurmNode, running_node  # noqa: E402

STUDY = ROOT / "scripts" / "torture_study" / "blobs_slurm.yaml"
SCANCEL, KILL_WORKER, KILL_RUNNER = "scancel of a job", "SIGKILL to a worker", "SIGKILL to the runner"
DRAIN, STALL, LIMIT = "node drained and resumed", "worker stalled, trial taken over", "time limit of a minute"
SENT = (SCANCEL, KILL_WORKER, KILL_RUNNER, DRAIN, STALL)
KINDS = (*SENT, LIMIT)

LOOK_SECONDS = 0.05
APART_SECONDS = (0.2, 9.0)
DRAINED_SECONDS = (1.0, 5.0)
LEFT_SECONDS = (0.0, 4.0)  # between the runner's death and the next call
STALLED_SECONDS = 60.0
GONE_SECONDS = KILL_WAIT_SECONDS + 10.0
HANG_SECONDS = 420.0
WORKER = b"worker"
_CLAIM = re.compile(r"(\d+)\..*-(\d+)-[0-9a-f]+")
_WARNED = re.compile(r"its time is nearly over|DUE TO TIME LIMIT")


@dataclass
class Ledger:
    """Which faults came, by kind, and what they caused."""

    sent: Counter[str] = field(default_factory=Counter)
    taken_over: int = 0
    calls: int = 0
    rounds: int = 0
    jobs: int = 0
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


def descendants(pid: int) -> list[Process]:
    """The processes that a process has started, and those that these have."""
    found = []
    for child in children(pid):
        process = Process.of(child)
        found += [*([process] if process is not None else []), *descendants(child)]
    return found


def claims_of(folder: Path, pid: int) -> list[str]:
    """The names of the folders that a worker has claimed."""
    with contextlib.suppress(OSError):
        names = [path.name for path in (folder / "claimed").iterdir()]
        return [name for name in names if (match := _CLAIM.fullmatch(name)) is not None and int(match[2]) == pid]
    return []


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

    def complete(self) -> None:
        """Call the command until it has ended by itself, with faults meanwhile."""
        began = time.monotonic()
        self._wait_before_next()
        while True:
            now = time.monotonic()
            if now - began > HANG_SECONDS:
                print(f"a round hangs: see {self.folder}", flush=True)
                self.ledger.hung += 1
                break
            self._go_on_after_faults(now)
            if self.runner is not None and (code := self.runner.poll()) is not None:
                self.runner = None
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
                self.ledger.sent[self.faults.popleft()] += 1
                self.struck += 1
                self._wait_before_next()
            time.sleep(LOOK_SECONDS)
        self._end()

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
            case "SIGKILL to a worker":
                workers = [item for item in workers_of(self.folder) if not self._is_stray(item)]
                if workers:
                    self.generator.choice(workers).send(signal.SIGKILL)
                return bool(workers)
            case "scancel of a job":
                jobs = self.node.call("squeue", "--noheader", "--states=R", "--format=%i").split()
                if jobs:
                    self.node.call("scancel", self.generator.choice(jobs))
                return bool(jobs)
            case "node drained and resumed":
                if self.resume_at is not None:
                    return False
                self.node.call("scontrol", "update", f"NodeName={NODE}", "State=drain", "Reason=torture")
                self.resume_at = time.monotonic() + self.generator.uniform(*DRAINED_SECONDS)
                return True
            case _:
                return self._stall()

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
                self.ledger.taken_over += is_gone
                if not is_gone:
                    print(f"a stalled worker kept {claims}: see {self.folder}.log", flush=True)
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
        self.ledger.survivors += len(left)
        for process in left:
            words = Path(f"/proc/{process.pid}/cmdline")
            print(f"left: {process.pid} {words.read_bytes().decode(errors='replace') if words.exists() else ''}")
            process.send(signal.SIGKILL)
        logs = [path.read_text(errors="replace") for path in (self.folder / "workers").glob("*.log")]
        self.ledger.jobs += len(logs)
        self.ledger.sent[LIMIT] += sum(_WARNED.search(log) is not None for log in logs)


def drawn(generator: random.Random, count: int) -> deque[str]:
    """`count` faults, each kind equally often up to one."""
    found: list[str] = []
    while len(found) < count:
        found += generator.sample(SENT, len(SENT))
    return deque(found[:count])


def run_rounds(node: SlurmNode, place: Path, arguments: argparse.Namespace, faults: deque[str]) -> Ledger:
    """Start new folders until all faults or all the time are used."""
    ledger, generator = Ledger(), random.Random(arguments.seed + 1)
    deadline = time.monotonic() + arguments.seconds
    dead_job = node.call("sbatch", "--parsable", "--output=/dev/null", "--wrap=true").strip()
    while faults and time.monotonic() < deadline:
        ledger.rounds += 1
        folder = place / f"round {ledger.rounds:03d}"
        before, began = len(faults), time.monotonic()
        calls, limits = ledger.calls, ledger.sent[LIMIT]
        Round(node, folder, arguments.study.resolve(), faults, ledger, generator, deadline, dead_job).complete()
        found = differences(folder, place / "reference")
        ledger.take(found)
        print(
            f"{folder.name}: {before - len(faults)} faults and {ledger.sent[LIMIT] - limits} time limits, "
            f"{ledger.calls - calls} calls of run, {time.monotonic() - began:.0f} s",
            flush=True,
        )
        if found.lost or found.bytes:
            print(f"  lost {list(found.lost)}, differing bytes {found.bytes_by_file}", flush=True)
        elif ledger.good:
            shutil.rmtree(folder)
    return ledger


def show(ledger: Ledger) -> None:
    for kind in KINDS:
        print(f"{kind:34} {ledger.sent[kind]:5}")
    print(f"{'in all':34} {ledger.sent.total():5}")
    print(f"stalled workers whose trial was taken over before they went on: {ledger.taken_over}")
    print(f"{ledger.rounds} studies, {ledger.calls} calls of run, {ledger.jobs} jobs, {ledger.hung} that hung")
    print(
        f"lost trials: {ledger.lost}; differing bytes: {ledger.bytes}; "
        f"processes left after {GONE_SECONDS:.0f} seconds: {ledger.survivors}"
    )


def undisturbed(study: Path, folder: Path) -> float:
    """Make the reference by the local backend; return its seconds."""
    began = time.monotonic()
    words = [sys.executable, "-m", "tunectl", "run", str(study), "--dir", str(folder), "--quiet", "--slots", "2"]
    with open(folder.with_name(folder.name + ".log"), "ab") as log:
        done = subprocess.run([*words, "--backend", "local"], cwd=ROOT, stdout=log, stderr=log, check=False)
    if done.returncode != 0:
        raise SystemExit(f"the undisturbed run failed: see {folder}.log")
    return time.monotonic() - began


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
    parser.add_argument("--faults", type=int, default=200, help="besides the time limits, which come by themselves")
    parser.add_argument("--seconds", type=float, default=7200.0, help="stop sending faults after this time")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    # A shell starts background jobs with SIGINT ignored, and the studies would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    place, began = Path(tempfile.mkdtemp(prefix="tunectl-torture-slurm-")), time.monotonic()
    print(f"{arguments.study.name}: {undisturbed(arguments.study, place / 'reference'):.1f} s by the local backend")
    faults = drawn(random.Random(arguments.seed), arguments.faults)
    ledgers: list[Ledger] = []
    with kept_if_wrong(place, ledgers), running_node() as node:
        ledgers.append(run_rounds(node, place, arguments, faults))
    show(ledgers[0])
    print(f"{arguments.faults - len(faults)} of {arguments.faults} faults in {time.monotonic() - began:.0f} s")
    return 0 if ledgers[0].good else 1


if __name__ == "__main__":
    sys.exit(main())
