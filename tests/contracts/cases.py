"""How each backend is made for the contract suite: with the toy worker's trials, in a study folder of its own.

A new backend gets an entry in CASES.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from in_process_backend import InProcessBackend
from ray_clusters import RayNodes
from slurm_node import SlurmNode
from toy_trials import DEADLINE_SECONDS, wait_until
from toy_worker_program import toy_backend
from warm_server import ForkedProcess, WarmServers

from tunectl.core.folders import StudyFolder
from tunectl.core.records import WorkloadReference
from tunectl.execution import processes
from tunectl.execution.backends import offering
from tunectl.execution.backends.backend import Backend, ProcessEnded, ProcessStarted
from tunectl.execution.backends.local import LocalBackend
from tunectl.execution.backends.offering import OfferingBackend
from tunectl.execution.worker_engine import WorkerOrder
from tunectl.language.study_spec import RaySection, ResourcesSection, SlurmSection
from tunectl.store.claimed_trials import StopRequest, claimed_trials, read_claimant, request_stop

PROGRAM = Path(__file__).with_name("toy_worker_program.py")
RESOURCES = ResourcesSection(devices="cpu", heartbeat_seconds=0.5, grace_seconds=20.0)
SLOTS = 4


class Case:
    """A backend and the toy trials that are launched on it, in the folder `study`.

    `has_processes`: a trial is a process. `trains_here`: it is one of this machine, under this process.
    """

    has_processes = trains_here = True
    seconds = DEADLINE_SECONDS

    def __init__(self, study: Path, make: Callable[[], Backend], resources: ResourcesSection = RESOURCES) -> None:
        self.study, self.make, self.resources = StudyFolder(study), make, resources
        self.study.trials.mkdir(parents=True, exist_ok=True)
        for path in (self.study.study, self.study.plan):
            path.touch()
        self.backend = make()
        self.slots = self.backend.slots(resources, SLOTS)
        self.events: list[object] = []

    def begin(self, factory: str = "loads") -> None:
        """Start the backend, and let it begin to load."""
        self.backend.start()
        text = str(self.study.path / "loading")  # where the toy worker that never loads writes its pid
        self.backend.load(WorkloadReference(text, factory, module="toy"), {})

    def folder(self, trial: int, behaviour: str) -> Path:
        """The folder of a trial that is launched next, with its request."""
        folder = self.study.trials / f"{trial:05d}"
        folder.mkdir(exist_ok=True)
        (folder / "request.json").write_text(json.dumps({"behaviour": behaviour}))
        return folder

    def launch(self, trial: int, behaviour: str, attempt: int = 1) -> Path:
        """Launch a trial; gives the folder in which it is before it starts, and when it has ended."""
        folder = self.folder(trial, behaviour)
        self.backend.launch(trial, folder, self.slots[trial % len(self.slots)], attempt)
        return folder

    def have_workers(self) -> None:
        """Have what trains the trials, where that is not the backend's own affair."""

    def has(self, trial: int, name: str) -> bool:
        """Whether the trial's folder has this file, wherever it is now."""
        return (self.study.trial(trial).path / name).exists()

    def until_it_runs(self, *trials: int) -> None:
        """Wait until these trials, which wait for a stop or ignore it, have begun."""
        for trial in trials:
            self._until(lambda trial=trial: self.has(trial, "waiting"), f"trial {trial} runs")  # type: ignore[misc]

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        def is_so() -> bool:
            self.events += self.backend.poll(0.02)  # a backend with an engine asks for workers in it
            return condition()

        wait_until(is_so, what, seconds=self.seconds)

    def until_ended(self, *trials: int) -> list[ProcessEnded]:
        """The ends of these trials."""
        deadline = time.monotonic() + self.seconds
        while not set(trials) <= {event.trial for event in self.events if isinstance(event, ProcessEnded)}:
            assert time.monotonic() < deadline, self.events
            self.events += self.backend.poll(0.05)
        ended = {event.trial: event for event in self.events if isinstance(event, ProcessEnded)}
        return [ended[trial] for trial in trials]

    def of(self, trial: int) -> list[type]:
        """The kinds of the events of a trial."""
        return [type(event) for event in self.events if getattr(event, "trial", None) == trial]

    def pids(self, trial: int) -> list[tuple[int, int]]:
        """The processes that have run a trial, each with its attempt."""
        lines = (self.study.trial(trial).path / "pids.jsonl").read_text().splitlines()
        return [(pid, attempt) for pid, attempt in map(json.loads, lines)]

    def lose(self, trial: int) -> None:
        """Kill what runs the trial, but not the trial's own process."""
        assert isinstance(self.backend, LocalBackend)
        assert self.backend._server is not None
        os.kill(self.backend._server.process.pid, signal.SIGKILL)

    def end(self) -> None:
        """End the run, whose trials have ended."""
        self.backend.close()

    def close(self) -> None:
        """End all, at the end of the test."""
        self.backend.close()


class InProcess(Case):
    """The fake backend, whose trials are threads."""

    has_processes = False


class WithWorkers(Case):
    """A backend that offers its trials. A worker is started by the test, of `servers`; an engine starts its own."""

    trains_here = False
    seconds = 60.0

    def __init__(self, study: Path, name: str, resources: ResourcesSection, servers: WarmServers | None = None) -> None:
        super().__init__(study, partial(OfferingBackend, name, toy_backend()), replace(resources, backend=name))
        self.to_start = 0 if servers is None else 1
        self.servers = servers
        self.workers: list[ForkedProcess | subprocess.Popen[bytes]] = []

    def launch(self, trial: int, behaviour: str, attempt: int = 1) -> Path:
        """Launch a trial, and start workers beside the first one."""
        self.have_workers()
        return super().launch(trial, behaviour, attempt)

    def have_workers(self) -> None:
        """Start the workers, each for four trials at a time, as a colleague would in a terminal."""
        words = ["worker", str(self.study.path), "--slots", "4", "--idle-seconds", "60", "--no-wait", "--quiet"]
        command = [sys.executable, "-P", str(PROGRAM), "-m", "tunectl", *words]
        for _ in range(self.to_start):
            if self.servers is not None and sys.platform.startswith("linux"):
                self.workers.append(self.servers.start_toy_program(words))
            else:
                self.workers.append(subprocess.Popen(command, start_new_session=True))
        self.to_start = 0

    def lose(self, trial: int) -> None:
        """Kill the worker, and start another one where the test starts them."""
        (claimed,) = [claimed for claimed in claimed_trials(self.study) if claimed.trial == trial]
        claimant = read_claimant(claimed.folder)
        assert claimant is not None
        os.kill(claimant.pid, signal.SIGKILL)
        self.to_start = min(1, len(self.workers))
        self.have_workers()

    def end(self) -> None:
        """End the run; its workers end by themselves."""
        assert isinstance(self.backend, OfferingBackend)
        self.backend.finish()
        self.backend.close()
        for worker in self.workers:
            worker.wait(self.seconds)

    def close(self) -> None:
        """Kill the trials that workers still have, and end the run."""
        assert isinstance(self.backend, OfferingBackend)
        for claimed in claimed_trials(self.study):
            request_stop(claimed, StopRequest(kill=True))
        deadline = time.monotonic() + self.seconds
        while claimed_trials(self.study) and time.monotonic() < deadline:
            self.backend.poll(0.05)
        self.backend.finish()
        self.backend.close()
        for worker in self.workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(5)
            worker.kill()
            worker.wait()


@contextlib.contextmanager
def local(study: Path, request: pytest.FixtureRequest) -> Iterator[Case]:
    yield Case(study, toy_backend)


@contextlib.contextmanager
def in_process(study: Path, request: pytest.FixtureRequest) -> Iterator[Case]:
    yield InProcess(study, InProcessBackend)


@contextlib.contextmanager
def external(study: Path, request: pytest.FixtureRequest) -> Iterator[Case]:
    yield WithWorkers(study, "external", RESOURCES, request.getfixturevalue("fast_machine"))


@contextlib.contextmanager
def ray(study: Path, request: pytest.FixtureRequest) -> Iterator[Case]:
    nodes: RayNodes = request.getfixturevalue("ray_nodes")
    section = RaySection(nodes.address, num_cpus=2)
    with _toy_workers():
        yield WithWorkers(study, "ray", replace(RESOURCES, ray=section))


@contextlib.contextmanager
def slurm(study: Path, request: pytest.FixtureRequest) -> Iterator[Case]:
    node: SlurmNode = request.getfixturevalue("slurm_node")
    section = SlurmSection(cpus_per_task=2)
    with _toy_workers(), pytest.MonkeyPatch.context() as patch:
        for name, value in node.environ.items():
            patch.setenv(name, value)
        yield WithWorkers(study, "slurm", replace(RESOURCES, slurm=section))


@contextlib.contextmanager
def _toy_workers() -> Iterator[None]:
    """Let engines start workers whose trials are toys."""
    python = (sys.executable, "-P", str(PROGRAM))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(offering, "WorkerOrder", partial(WorkerOrder, python=python))
        yield


CASES = {"local": local, "in_process": in_process, "external": external, "ray": ray, "slurm": slurm}
MARKED = {"ray": pytest.mark.ray, "slurm": pytest.mark.slurm}


def is_gone(case: Case, trial: int) -> bool:
    """Whether all processes that have run a trial have ended."""
    return not any(processes.is_alive(pid) for pid, _ in case.pids(trial))


__all__ = ["CASES", "MARKED", "RESOURCES", "Case", "ProcessEnded", "ProcessStarted", "WithWorkers", "is_gone"]
