"""A study folder whose workers and runner are disturbed until it is complete, for torture_workers.py."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from disturbed_workers import ROOT, TRACEBACK, Ledger, claims_of, descendants, trials_of, words_of
from disturbing import MARK, Process, left_of
from late_folder import COUNTS, LateHost

KILL_WORKER, KILL_TREE = "SIGKILL to a worker", "SIGKILL to a worker and all it started"
KILL_RUNNER, KILL_TRIAL = "SIGKILL to the runner", "SIGKILL to a trial's process"
TERMINATE, WARN, SHORT = "SIGTERM to a worker", "SIGUSR2 to a worker", "a worker's time is nearly over"
STALL_ALONE, STALL_ALL = "worker stopped, trial taken over", "worker and trial stopped, taken over"
FULL = "disk full for a worker"
SENT = (KILL_WORKER, KILL_TREE, KILL_RUNNER, KILL_TRIAL, TERMINATE, WARN, STALL_ALONE, STALL_ALL, FULL)
LATE_WORKER, LATE_RUNNER = "worker that sees the folder late", "runner that sees the folder late"
KINDS = (*SENT, SHORT, LATE_WORKER, LATE_RUNNER)

LOOK_SECONDS = 0.05
APART_SECONDS = (0.1, 2.0)
LEFT_SECONDS = (0.0, 3.0)  # between the runner's death and the next call
AWAY_SECONDS = (0.0, 1.0)  # between a worker's end and the next one on its host
FULL_SECONDS = (0.3, 3.0)
LEAST_SECONDS = 15.0
"""Less than `--stop-after-seconds` takes with the 5 s of grace of the studies is refused."""
SHORT_SECONDS = (1.0, 8.0)  # after twice the time that a worker takes to begin: trials are released at half of it
STALLED_SECONDS = 90.0
GONE_SECONDS = 40.0
HANG_SECONDS = 420.0
USUAL_CODES = {0, 3, 130, -signal.SIGKILL}
"""How a worker may end: nothing is left, its disk is full, it was asked to stop, it was killed."""


@dataclass
class Host:
    """A host with one worker, started again when it has ended."""

    name: str
    folder: Path  # as this host sees it
    view: LateHost
    before: tuple[str, ...]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    start_at: float = 0.0
    started_at: float = 0.0
    has_begun: bool = False
    read_from: int = 0
    late_before: int = 0
    full_before: int = 0
    full_until: float | None = None
    stalled: tuple[str, list[Process], list[str], float] | None = None

    @property
    def is_at_work(self) -> bool:
        return self.process is not None and self.stalled is None

    def late(self) -> int:
        """How often it was shown something late."""
        counts = self.view.counts()
        return sum(counts[name] for name in COUNTS[:3])


@dataclass
class Course:
    """What all rounds have in common: which faults are still to come, and what was found."""

    each: int
    generator: random.Random
    deadline: float
    ledger: Ledger = field(default_factory=Ledger)
    views: Counter[str] = field(default_factory=Counter)
    begins_after: float = 0.0  # what the last worker took to claim a trial

    def wanted(self) -> list[str]:
        """The kinds of faults that are still to come, those first that came most seldom."""
        left = [kind for kind in KINDS if self.ledger.sent[kind] < self.each]
        return sorted(left, key=lambda kind: (self.ledger.sent[kind], self.generator.random()))


@dataclass
class Round:
    """One study folder from its first call to its completion."""

    course: Course
    folder: Path
    study: Path
    hosts: list[Host]
    runner_view: LateHost
    most: int = 10**6  # faults
    without: frozenset[str] = frozenset()  # kinds of faults
    hang_seconds: float = HANG_SECONDS
    late_seconds: float = 60.0
    runner: subprocess.Popen[bytes] | None = None
    runner_late: int = 0
    call_at: float = 0.0
    offers_since: float = 0.0  # when the runner that runs now was seen to offer trials
    next_at: float = 0.0

    def __post_init__(self) -> None:
        self.ledger, self.generator = self.course.ledger, self.course.generator

    def complete(self) -> None:
        """Call the command until it has ended by itself, with faults meanwhile."""
        progress, since = (0, 0), time.monotonic()
        self._wait_before_next()
        while True:
            now = time.monotonic()
            if (seen := self._progress()) != progress:
                progress, since = seen, now
            if now - since > self.hang_seconds:
                print(f"a round hangs: see {self.folder}", flush=True)
                self.ledger.hung += 1
                break
            self._go_on_after_faults(now)
            self._keep_hosts(now)
            if self.runner is not None and (code := self.runner.poll()) is not None:
                self._runner_ended()
                if code == 0:
                    break
                print(f"a call that was not killed ended with {code}: see {self.folder}.log", flush=True)
                self.ledger.failed += 1
                break
            if self.runner is None and now >= self.call_at:
                self._call()
            if self.next_at <= now < self.course.deadline:
                self._strike()
            time.sleep(LOOK_SECONDS)
        self._end()

    def _progress(self) -> tuple[int, int]:
        """How many trials have ended, and how many faults came: a round hangs where neither changes."""
        if self.runner is None or not self._offers():
            self.offers_since = time.monotonic()
        return len(list(self.folder.glob("trials/*/result.json"))), self.ledger.sent.total()

    def _note(self, what: str) -> None:
        """Write down what was done, and when, beside the outputs of the runner and the workers."""
        with open(self.folder.with_name(self.folder.name + ".faults.txt"), "a") as file:
            file.write(f"{time.strftime('%H:%M:%S')}.{int(time.time() * 1000) % 1000:03d} {what}\n")

    def _wait_before_next(self) -> None:
        self.next_at = time.monotonic() + self.generator.uniform(*APART_SECONDS)

    def _environment(self, view: LateHost, name: str) -> dict[str, str]:
        runtime = self.folder.parent / "runtime" / name
        runtime.mkdir(parents=True, exist_ok=True)
        runtime.chmod(0o700)
        return {**os.environ, MARK: str(self.folder), "TUNECTL_RUNTIME_DIR": str(runtime), **view.environment}

    def _command(self) -> list[str]:
        return [sys.executable, "-P", str(ROOT / "scripts" / "scaled_tunectl.py"), f"{self.late_seconds:g}"]

    # --- the runner

    def _call(self) -> None:
        words = [*self._command(), "run", str(self.study), "--dir", str(self.folder), "--quiet"]
        with open(self.folder.with_name(self.folder.name + ".log"), "ab") as log:
            self.runner = subprocess.Popen(
                [*words, "--backend", "external"],
                cwd=ROOT,
                env=self._environment(self.runner_view, "runner"),
                stdout=log,
                stderr=log,
            )
        self.ledger.calls += 1
        self._note(f"runner {self.runner.pid} called")

    def _runner_ended(self) -> None:
        self.runner = None
        counts = self.runner_view.counts()
        late = sum(counts[name] for name in COUNTS[:3])
        self.ledger.sent[LATE_RUNNER] += self.runner_view.delay_seconds > 0 and late > self.runner_late
        self.runner_late = late

    def _offers(self) -> bool:
        """Whether the runner that runs now offers trials: until then it loads the workload, and workers would end."""
        with contextlib.suppress(OSError, ValueError):
            written = json.loads((self.folder / "run.json").read_bytes())
            return self.runner is not None and written.get("pid") == self.runner.pid
        return False

    # --- the workers

    def _keep_hosts(self, now: float) -> None:
        """Start the workers that are missing, and take note of those that have ended."""
        for host in self.hosts:
            if host.process is not None and host.process.poll() is not None:
                self._worker_ended(host, host.process.returncode)
            if host.process is not None and not host.has_begun and self._claims(host):
                host.has_begun, self.course.begins_after = True, now - host.started_at
            if host.process is None and now >= host.start_at and self._offers():
                self._start(host)

    def _start(self, host: Host) -> None:
        words = [*host.before, *self._command(), "worker", str(host.folder), "--slots", "1"]
        environment = self._environment(host.view, host.name)
        begins_after = self.course.begins_after
        if SHORT in self.course.wanted() and begins_after > 0 and self.generator.random() < 0.3:
            seconds = 2 * begins_after + self.generator.uniform(*SHORT_SECONDS)
            if self.generator.random() < 0.5:
                words += ["--stop-after-seconds", f"{max(seconds, LEAST_SECONDS):.2f}"]
            else:
                environment |= {"SLURM_JOB_ID": "77", "SLURM_JOB_END_TIME": f"{time.time() + seconds:.2f}"}
        host.read_from = host.log.stat().st_size if host.log.exists() else 0
        with open(host.log, "ab") as log:
            host.process = subprocess.Popen(
                words, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        host.started_at, host.has_begun = time.monotonic(), False
        self.ledger.workers += 1
        self._note(f"worker {host.process.pid} started on {host.name}")

    def _worker_ended(self, host: Host, code: int) -> None:
        self._note(f"worker ended on {host.name} with {code}")
        host.process, host.start_at = None, time.monotonic() + self.generator.uniform(*AWAY_SECONDS)
        if host.stalled is not None:
            self._go_on(host)
        said = " ".join(host.log.read_bytes()[host.read_from :].decode(errors="replace").split())
        self.ledger.sent[SHORT] += "its time is nearly over: " in said
        if "the worker has ended: its time is nearly over" in said and "its time is nearly over: " not in said:
            self.course.begins_after *= 1.5  # it had not begun by then
        late = host.late()
        self.ledger.sent[LATE_WORKER] += host.view.delay_seconds > 0 and late > host.late_before
        host.late_before = late
        if code not in USUAL_CODES:
            print(f"a worker ended with {code}: see {host.log}", flush=True)
            self.ledger.failed += 1

    # --- faults

    def _strike(self) -> None:
        """Do one of the faults that came most seldom and can be done now."""
        for kind in self.course.wanted() if self.most > 0 else ():
            if kind in SENT and kind not in self.without and self._strikes(kind):
                self.most -= 1
                self._wait_before_next()
                return

    def _strikes(self, kind: str) -> bool:
        if kind == KILL_RUNNER:
            return self._kill_runner()
        busy = [host for host in self.hosts if host.is_at_work and host.process and self._claims(host)]
        hosts = busy
        if kind in (KILL_WORKER, KILL_TREE) and self.ledger.sent[kind] % 5 == 4:
            hosts = [host for host in self.hosts if host.is_at_work]  # also one that begins, or has no trial now
        if not hosts:
            return False
        host = self.generator.choice(hosts)
        process = None if host.process is None else Process.of(host.process.pid)
        if process is None:
            return False
        match kind:
            case _ if kind == FULL:
                return self._fill_disk(host)
            case _ if kind in (STALL_ALONE, STALL_ALL):
                return self._stall(host, process, kind)
            case _ if kind == KILL_TRIAL:
                trials = trials_of(process.pid)
                if not trials:
                    return False
                process = self.generator.choice(trials)
                process.send(signal.SIGKILL)
            case _ if kind == KILL_TREE:
                for each in (process, *descendants(process.pid)):
                    each.send(signal.SIGKILL)
            case _:
                number = {KILL_WORKER: signal.SIGKILL, TERMINATE: signal.SIGTERM, WARN: signal.SIGUSR2}[kind]
                process.send(number)
        self.ledger.sent[kind] += 1
        self._note(f"{kind}: {process.pid} on {host.name}, which has {self._claims(host)}")
        return True

    def _claims(self, host: Host) -> list[str]:
        """The trials that its worker has claimed, and has written so: it hears signals then."""
        if host.process is None:
            return []
        names = claims_of(self.folder, host.process.pid)
        return [name for name in names if (self.folder / "claimed" / name / "claim.json").exists()]

    def _kill_runner(self) -> bool:
        if self.runner is None or not (self.folder / "run.json").exists():
            return False
        offers = self._offers()
        is_busy = offers and any(host.is_at_work and self._claims(host) for host in self.hosts)
        if not is_busy and self.ledger.sent[KILL_RUNNER] % 5 != 4:  # some strike while it begins
            return False
        self.runner.kill()
        self.runner.wait()
        self._runner_ended()
        self.call_at = time.monotonic() + self.generator.uniform(*LEFT_SECONDS)
        self.ledger.sent[KILL_RUNNER] += 1
        self._note(KILL_RUNNER)
        return True

    def _fill_disk(self, host: Host) -> bool:
        if host.full_until is not None:
            return False
        host.full_before = host.view.counts()["disk full"]
        host.view.fill_disk(full=True)
        host.full_until = time.monotonic() + self.generator.uniform(*FULL_SECONDS)
        self._note(f"{FULL}: {host.name}")
        return True

    def _stall(self, host: Host, process: Process, kind: str) -> bool:
        """Stop a worker that has a trial; it counts when the trial was taken over."""
        if self.runner is None or any(other.stalled is not None for other in self.hosts):
            return False
        family = [process, *(descendants(process.pid) if kind == STALL_ALL else [])]
        claims = self._claims(host)
        for each in family:
            each.send(signal.SIGSTOP)
        host.stalled = (kind, family, claims, time.monotonic())
        self._note(f"{kind}: {[each.pid for each in family]} on {host.name} stopped, which has {claims}")
        return True

    def _go_on_after_faults(self, now: float) -> None:
        for host in self.hosts:
            if host.full_until is not None and now >= host.full_until:
                self._empty_disk(host)
            if host.stalled is None:
                continue
            _, _, claims, since = host.stalled
            if not any((self.folder / "claimed" / name).exists() for name in claims):
                self._go_on(host)
            elif now - max(since, self.offers_since) > STALLED_SECONDS:
                print(f"a stopped worker kept {claims}: see {self.folder}.log", flush=True)
                self.ledger.hung += 1
                self._go_on(host)

    def _empty_disk(self, host: Host) -> None:
        host.view.fill_disk(full=False)
        host.full_until = None
        self._note(f"{FULL}: {host.name} has room again")
        self.ledger.sent[FULL] += host.view.counts()["disk full"] > host.full_before

    def _go_on(self, host: Host) -> None:
        """Let a stopped worker go on; it counts where its trial was taken over before."""
        if host.stalled is None:
            return
        kind, family, claims, _ = host.stalled
        self.ledger.sent[kind] += not any((self.folder / "claimed" / name).exists() for name in claims)
        self._note(f"{kind}: goes on")
        for each in family:
            each.send(signal.SIGCONT)
        host.stalled = None

    # --- the end

    def _end(self) -> None:
        """Undo the faults, and count what does not end by itself."""
        for host in self.hosts:
            self._go_on(host)
            if host.full_until is not None:
                self._empty_disk(host)
        if self.runner is not None:
            self.runner.kill()
            self.runner.wait()
            self._runner_ended()
        deadline = time.monotonic() + GONE_SECONDS
        while (left := left_of(str(self.folder), set())) and time.monotonic() < deadline:
            for host in self.hosts:
                if host.process is not None:
                    host.process.poll()
            time.sleep(LOOK_SECONDS)
        self.ledger.survivors += len(left)
        for process in left:
            print(f"left: {process.pid} {words_of(process)}", flush=True)
            process.send(signal.SIGKILL)
        for host in self.hosts:
            if host.process is not None:
                self._worker_ended(host, host.process.wait())
            self.course.views += host.view.counts()
        self.course.views += self.runner_view.counts()
        logs = [self.folder.with_name(self.folder.name + ".log"), *(host.log for host in self.hosts)]
        found = sum(log.read_text(errors="replace").count(TRACEBACK) for log in logs if log.exists())
        if found:
            print(f"{found} tracebacks: see {self.folder}*.log", flush=True)
        self.ledger.tracebacks += found
