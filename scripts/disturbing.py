"""Faults for torture.py: which process of a run is which, and signals to it at seeded moments.

Linux only: processes are found through /proc, by parentage and by a mark in their environment.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Target = Literal["runner", "server", "trial", "loader"]
TARGETS: tuple[Target, ...] = ("runner", "server", "trial", "loader")
STOP_CONTINUE, STOP_KILL = "SIGSTOP, SIGCONT", "SIGSTOP, SIGKILL"
KINDS = ("SIGKILL", "SIGTERM", STOP_CONTINUE, STOP_KILL)
CELLS = (("SIGINT", "runner"), *((kind, target) for kind in KINDS for target in TARGETS))
"""What can be done to whom; SIGINT is Ctrl-C, which reaches the runner alone."""

MARK = "TUNECTL_TORTURE"
PROC = Path("/proc")
_STATE, _PARENT, _GROUP, _SESSION, _STARTED = 0, 1, 2, 3, 19
_LOG = re.compile(r"/trials/(\d+)/log\.txt$")

_EARLY_SHARE, _EARLY_SECONDS = 0.12, 2.0  # some strike while the run starts up
_AT_ONCE_SHARE, _AT_ONCE_SECONDS = 0.25, 0.01  # some follow the one before at once: two processes die together
_APART_SECONDS = 0.5
_PAUSE_SECONDS = (0.01, 0.6)


@dataclass(frozen=True)
class Fault:
    """One disturbance: `wait_seconds` after the one before, or after the call began to train; at once if `early`.

    `choice` in [0, 1) picks among several processes. `pause_seconds` lie between SIGSTOP and what follows it.
    """

    kind: str
    target: str
    wait_seconds: float
    pause_seconds: float
    choice: float
    early: bool


def drawn(generator: random.Random, count: int) -> deque[Fault]:
    """`count` faults, every kind and target equally often up to one."""
    cells: list[tuple[str, str]] = []
    while len(cells) < count:
        cells += generator.sample(CELLS, len(CELLS))
    return deque(_drawn(generator, kind, target) for kind, target in cells[:count])


def _drawn(generator: random.Random, kind: str, target: str) -> Fault:
    early = target in ("runner", "server") and generator.random() < _EARLY_SHARE
    at_once = generator.random() < _AT_ONCE_SHARE
    longest = _EARLY_SECONDS if early else _AT_ONCE_SECONDS if at_once else _APART_SECONDS
    return Fault(
        kind, target, generator.uniform(0, longest), generator.uniform(*_PAUSE_SECONDS), generator.random(), early
    )


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command's name; [] where the process is gone."""
    try:
        return (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _runs(fields: list[str]) -> bool:
    return bool(fields) and fields[_STATE] not in "ZX"


@dataclass(frozen=True)
class Process:
    """A process. `started` (clock ticks since boot) distinguishes it from a later one with the same pid."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The running process with this pid."""
        fields = _stat(pid)
        return cls(pid, fields[_STARTED]) if _runs(fields) else None

    def runs(self) -> bool:
        fields = _stat(self.pid)
        return _runs(fields) and fields[_STARTED] == self.started

    def send(self, number: int) -> None:
        if self.runs():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def children(pid: int) -> Iterator[int]:
    """The processes that a process has started and that run, or have not been waited for."""
    with contextlib.suppress(OSError):
        for task in (PROC / str(pid) / "task").iterdir():
            with contextlib.suppress(OSError):
                yield from map(int, (task / "children").read_text().split())


def _is_server(pid: int) -> bool:
    try:
        return b"tunectl.execution.server" in (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def _trial_of(pid: int) -> int | None:
    """The trial whose log is the process's standard output."""
    try:
        found = _LOG.search(str((PROC / str(pid) / "fd" / "1").readlink()))
    except OSError:
        return None
    return int(found[1]) if found else None


def left_of(mark: str, sessions: set[int]) -> list[Process]:
    """The running processes with this mark in their environment, and all in the sessions of its servers."""
    found = []
    wanted = f"{MARK}={mark}".encode()
    for entry in PROC.iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            fields = _stat(int(entry.name))
            if _runs(fields) and (int(fields[_SESSION]) in sessions or _is_marked(entry, wanted)):
                found.append(Process(int(entry.name), fields[_STARTED]))
    return found


def _is_marked(entry: Path, wanted: bytes) -> bool:
    try:
        return wanted in (entry / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


@dataclass
class Family:
    """The processes of one call of `run`, as `look` found them: trials' and loaders' by their trial."""

    runner: Process
    server: Process | None = None
    trials: dict[Process, int] = field(default_factory=dict)
    loaders: dict[Process, int] = field(default_factory=dict)
    sessions: set[int] = field(default_factory=set)

    def look(self) -> None:
        """Look again; a server whose runner has ended is still known."""
        for pid in children(self.runner.pid) if self.runner.runs() else ():
            if _is_server(pid):
                self.server = Process.of(pid)
                self.sessions.add(pid)
        self.trials, self.loaders = {}, {}
        if self.server is None or not self.server.runs():
            return
        for pid in children(self.server.pid):
            trial = _trial_of(pid)
            leader = Process.of(pid)
            fields = _stat(pid)
            if trial is None or leader is None or not fields or int(fields[_GROUP]) != pid:
                continue
            self.trials[leader] = trial
            for child in children(pid):
                loader = Process.of(child)
                if loader is not None:
                    self.loaders[loader] = trial

    def victim(self, fault: Fault) -> tuple[Process | None, set[int]]:
        """The process to send to (None if there is none now), and the trials that it concerns."""
        match fault.target:
            case "runner":
                return (self.runner if self.runner.runs() else None), set(self.trials.values())
            case "server":
                there = self.server is not None and self.server.runs()
                return (self.server if there else None), set(self.trials.values())
            case _:
                among = self.trials if fault.target == "trial" else self.loaders
                if not among:
                    return None, set()
                process = sorted(among, key=lambda process: process.pid)[int(fault.choice * len(among))]
                return process, {among[process]}


@dataclass
class Later:
    """The signals that follow a SIGSTOP, with their times."""

    waiting: list[tuple[float, Process, int]] = field(default_factory=list)

    def strike(self, fault: Fault, process: Process) -> None:
        """Send the fault's signal, or its first one."""
        match fault.kind:
            case "SIGSTOP, SIGCONT" | "SIGSTOP, SIGKILL":
                process.send(signal.SIGSTOP)
                follows = signal.SIGCONT if fault.kind == STOP_CONTINUE else signal.SIGKILL
                self.waiting.append((time.monotonic() + fault.pause_seconds, process, follows))
            case kind:
                process.send(signal.Signals[kind])

    def send_due(self) -> None:
        now = time.monotonic()
        due = [item for item in self.waiting if item[0] <= now]
        self.waiting = [item for item in self.waiting if item[0] > now]
        for _, process, number in due:
            process.send(number)
