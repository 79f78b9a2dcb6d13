"""A backend with the toy worker, folders of toy trials, and waiting by deadline."""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Callable
from pathlib import Path

from tunectl.core.records import Scalar, WorkloadReference
from tunectl.execution import processes
from tunectl.execution.backends.backend import ProcessEnded, ProcessStarted
from tunectl.execution.backends.local import LocalBackend
from tunectl.execution.devices import CPU
from tunectl.execution.slots import make_slots

DEADLINE_SECONDS = 60.0


def wait_until(condition: Callable[[], object], what: str, seconds: float = DEADLINE_SECONDS) -> None:
    """Polls a state of the system, which sends no event, up to a deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so after {seconds} s: {what}"
        select.select([], [], [], 0.002)


def pid_in(path: Path) -> int:
    wait_until(lambda: path.exists() and path.read_text(), f"{path} holds a pid")
    return int(path.read_text())


def all_gone(*pids: int) -> bool:
    return not any(processes.is_alive(pid) for pid in pids)


class Toys:
    """Launches toy trials on a backend and collects what it reports."""

    def __init__(self, root: Path, factory: str = "loads", text: str = "toy:loads") -> None:
        environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        self.root = root
        self.slots = make_slots([CPU], count=4, threads_per_trial=3)
        self.workload = WorkloadReference(text, factory, module="toy")
        self.backend = LocalBackend(environ, "toy_worker")
        self.started: dict[int, int] = {}
        self.ended: dict[int, ProcessEnded] = {}

    def start(self, **arguments: Scalar) -> None:
        self.backend.start()
        self.backend.load(self.workload, arguments)

    def folder(self, trial: int, behaviour: str = "completes") -> Path:
        folder = self.root / f"{trial:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "request.json").write_text(json.dumps({"behaviour": behaviour}))
        return folder

    def launch(self, trial: int, behaviour: str, attempt: int = 1) -> Path:
        folder = self.folder(trial, behaviour)
        self.backend.launch(trial, folder, self.slots[trial % 4], attempt)
        return folder

    def poll_once(self) -> None:
        for report in self.backend.poll(0.05):
            if isinstance(report, ProcessStarted):
                self.started[report.trial] = report.pid
            elif isinstance(report, ProcessEnded):
                assert report.trial not in self.ended, "a trial ends once"
                self.ended[report.trial] = report

    def until_ended(self, *trials: int) -> tuple[ProcessEnded, ...]:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not all(trial in self.ended for trial in trials):
            assert time.monotonic() < deadline, f"trials {trials} did not end: {self.ended}"
            self.poll_once()
        return tuple(self.ended[trial] for trial in trials)

    def until_started(self, trial: int) -> int:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while trial not in self.started:
            assert time.monotonic() < deadline, f"trial {trial} did not start"
            self.poll_once()
        return self.started[trial]

    @property
    def server_pid(self) -> int:
        assert self.backend._server is not None
        return self.backend._server.process.pid
