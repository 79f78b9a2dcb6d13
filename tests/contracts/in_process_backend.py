"""A backend for tests whose trials are threads of this process: what a backend needs at the least, and no more."""

from __future__ import annotations

import json
import queue
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tunectl.core.errors import WorkloadError
from tunectl.core.own_code_request import Request
from tunectl.core.probed_trial import ProbedTrial
from tunectl.core.records import Scalar, TrialRequest, WorkloadReference
from tunectl.execution.backends.backend import BackendEvent, BackendReady, ProcessEnded, ProcessStarted
from tunectl.execution.devices import CPU
from tunectl.execution.protocol import EXIT_STOPPED
from tunectl.execution.shared_places import OWN_PLACES, Places
from tunectl.execution.slots import Slot, make_slots
from tunectl.language.study_spec import ResourcesSection

CHECK_SECONDS = 0.01


@dataclass
class _Trial:
    stop: threading.Event = field(default_factory=threading.Event)
    killed: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None


class InProcessBackend:
    """Runs in threads what the trials' request.json asks for; the behaviours are those of toy_worker."""

    name = "in_process"

    def __init__(self) -> None:
        self._workload: WorkloadReference | None = None
        self._started = False
        self._trials: dict[int, _Trial] = {}
        self._events: queue.SimpleQueue[BackendEvent] = queue.SimpleQueue()

    def slots(self, resources: ResourcesSection, count: int | None = None) -> tuple[Slot, ...]:
        return make_slots([CPU], 1, resources.threads_per_trial, count, cores=4)

    def places(
        self, resources: ResourcesSection, slots: Sequence[Slot], say: Callable[[str], None], *, waits: bool = True
    ) -> Places:
        return OWN_PLACES

    def start(self, *, own_code: bool = False) -> None:
        self._started = True

    def load(
        self, workload: WorkloadReference, arguments: Mapping[str, Scalar], code: Sequence[WorkloadReference] = ()
    ) -> None:
        self._workload = workload

    def wait_ready(self, stop_requested: Callable[[], int] = lambda: 0) -> BackendReady | None:
        assert self._started
        assert self._workload is not None
        if self._workload.factory == "raises":
            error = WorkloadError("the workload could not be loaded: ValueError: there is no such data set")
            error.add_note("Traceback (most recent call last): …")
            raise error
        while self._workload.factory == "never_loads":
            if stop_requested():
                return None
            time.sleep(CHECK_SECONDS)
        return BackendReady(0.0)

    def probe(self, request: Request, slot: Slot, stop_requested: Callable[[], int] = lambda: 0) -> ProbedTrial | None:
        assert isinstance(request, TrialRequest)
        while request.study == "hangs":
            if stop_requested():
                return None
            time.sleep(CHECK_SECONDS)
        if request.study != "works":
            raise WorkloadError(f"the workload does not work: {request.study}")
        return ProbedTrial(1234)

    def hold(self, fd: int) -> None:
        """Nothing: no process outlives this one."""

    def launch(self, trial: int, folder: Path, slot: Slot, attempt: int) -> None:
        running = self._trials[trial] = _Trial()
        running.thread = threading.Thread(target=self._run, args=(trial, running, folder, attempt), daemon=True)
        running.thread.start()

    def _run(self, trial: int, running: _Trial, folder: Path, attempt: int) -> None:
        began = time.monotonic()
        self._events.put(ProcessStarted(trial, threading.get_native_id()))
        behaviour = json.loads((folder / "request.json").read_text())["behaviour"]
        with (folder / "pids.jsonl").open("a") as file:
            file.write(json.dumps([threading.get_native_id(), attempt]) + "\n")
        code: int | None = 0
        if behaviour in ("waits_for_stop", "ignores_stop"):
            (folder / "waiting").touch()
            heeded = running.stop if behaviour == "waits_for_stop" else threading.Event()
            while not heeded.is_set() and not running.killed.is_set():
                time.sleep(CHECK_SECONDS)
            code = EXIT_STOPPED
        elif behaviour == "completes":
            result = {"trial": trial, "state": "completed", "attempt": attempt, "format": 1}
            (folder / "result.json").write_text(json.dumps(result))
        elif behaviour == "exits_3":
            code = 3
        elif behaviour == "kills_itself":
            running.killed.set()
        killed = signal.SIGKILL if running.killed.is_set() else None
        seconds = time.monotonic() - began
        is_users = behaviour == "exits_3"
        self._events.put(ProcessEnded(trial, None if killed else code, killed, seconds, is_users=is_users))

    def poll(self, timeout_seconds: float) -> Sequence[BackendEvent]:
        events: list[BackendEvent] = []
        try:
            events.append(self._events.get(timeout=max(timeout_seconds, 1e-3)))
            while True:
                events.append(self._events.get_nowait())
        except queue.Empty:
            return events

    def end_recorded(self, trial: int) -> None:
        """Nothing: only `poll` says how a trial ended."""

    def stop(self, trial: int) -> None:
        self._trials[trial].stop.set()

    def kill(self, trial: int) -> None:
        self._trials[trial].killed.set()

    def close(self) -> None:
        for running in self._trials.values():
            running.killed.set()
            if running.thread is not None:
                running.thread.join()
