"""The engine `ray`: workers as actors of a Ray cluster; an agent (ray_agent) speaks with Ray for this process."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tunectl.core import real_folders
from tunectl.core.errors import TunectlError, UsageError
from tunectl.core.installation import install_command
from tunectl.core.path_errors import path_errors, system_reason
from tunectl.execution.engines import ray_place
from tunectl.execution.engines.ray_agent_process import AgentProcess
from tunectl.execution.engines.ray_place import LOCAL, cluster_address
from tunectl.execution.engines.ray_room import Needs, WorkerSize, amounts, no_node_has, room
from tunectl.execution.engines.ray_words import CANCELLED, NODE_FAIL, unreachable
from tunectl.execution.engines.study_mark import new_job, study_mark
from tunectl.execution.worker_engine import EngineJob, WorkerOrder
from tunectl.language.study_spec import ResourcesSection

_FRESH_SECONDS = 10.0
"""How old what the agent says may be to be what Ray knows now. The agent says it every second."""

_CONNECT_SECONDS = 60.0
_END_SECONDS = 20.0
_LONGEST_PAUSE_SECONDS = 60.0


def make(order: WorkerOrder) -> RayEngine:
    """The engine for a study, which begins to connect.

    Raises UsageError where Ray is not installed, or where the study chooses GPUs by their numbers.
    """
    check(order.resources)
    return RayEngine(order)


def check(resources: ResourcesSection) -> None:
    """Raise UsageError where Ray is not installed, or where the study chooses GPUs by their numbers."""
    if importlib.util.find_spec("ray") is None:
        raise UsageError(f"backend: ray needs the library ray, which is not installed: {install_command('ray')}")
    if isinstance(resources.devices, tuple):
        raise UsageError("resources.devices: expected auto or cpu: with backend: ray, Ray assigns the GPUs")


def reach(resources: ResourcesSection) -> None:
    """Raise TunectlError where nothing answers at the address of the cluster."""
    address = cluster_address(resources.ray.address)
    try:
        ray_place.reach(address)
    except (OSError, ValueError) as error:  # the latter for what is no host name
        raise TunectlError(f"backend ray: {unreachable(address, error)}") from error


def can_be_left(resources: ResourcesSection) -> bool:
    """Whether workers go on when the command has ended; a cluster of our own ends with it."""
    return cluster_address(resources.ray.address) != LOCAL


def time_limit(_resources: ResourcesSection) -> str:
    """No words: a worker on Ray has no time limit."""
    return ""


class RayEngine:
    """Workers on a Ray cluster; see WorkerEngine. A job's id is the name of its actor.

    Nothing here waits for Ray: until the agent has connected, workers that were asked for are queued here. An agent
    that dies (Ray's library ends a process that has lost its cluster) is started again, and finds the actors by name.
    `clock` counts seconds.
    """

    name = "ray"

    def __init__(self, order: WorkerOrder, clock: Callable[[], float] = time.monotonic) -> None:
        self._order, self._clock = order, clock
        self._address = cluster_address(order.resources.ray.address)
        self._mark = study_mark(order.folder, order.study)
        self._jobs: dict[str, EngineJob] = {}
        self._unsent: list[str] = []
        self._known: frozenset[str] = frozenset()
        self._nodes: tuple[Needs, ...] | None = None
        self._heard: float | None = None
        self._refused = ""
        self._said: set[str] = set()
        self._failures, self._next_try = 0, 0.0
        self._closed = False
        self._agent: AgentProcess | None = None
        self._start()

    @property
    def can_be_left(self) -> bool:
        """Whether workers go on when this process has ended; a cluster of our own ends with it."""
        return self._address != LOCAL

    @property
    def most(self) -> int:
        """`resources.ray.workers`, else as many as the cluster has room for; 1 until that is known."""
        self._receive()
        return self._order.resources.ray.workers or max(1, room(self._nodes or (), self._size().needs))

    @property
    def trials_at_once(self) -> int:
        """One for each trial's devices among those of a worker."""
        self._receive()
        return self._size().slots

    def submit(self, workers: int) -> None:
        """Ask for more workers; see WorkerEngine. Raises TunectlError where there is no cluster, or no room ever."""
        self._receive()
        if self._refused and self._clock() < self._next_try:
            raise TunectlError(self._refused)
        lacking = "" if self._nodes is None else no_node_has(self._nodes, self._size().needs)
        if lacking and self.can_be_left:
            self._say_once(f"{lacking}; the workers wait until such a node joins the cluster")
        elif lacking:
            raise TunectlError(lacking)
        for _ in range(workers):
            job = new_job(self._mark)
            self._jobs[job] = EngineJob("queued", "the cluster was not reached yet")
            self._unsent.append(job)
        self._send_unsent()

    def jobs(self) -> Mapping[str, EngineJob]:
        """The workers of this study, also those of earlier runs that still run."""
        self._receive()
        return self._jobs

    def knows(self, job: str) -> bool | None:
        """Whether Ray has an actor with this name; None where Ray has not answered lately."""
        self._receive()
        if self._heard is None or self._clock() - self._heard > _FRESH_SECONDS:
            return None
        known = self._jobs.get(job)
        return job in self._known if known is None else known.state != "ended"

    def cancel(self) -> None:
        """Ask all workers to end; those that have not ended some seconds after the grace period are killed."""
        self._receive()
        for job in self._unsent:
            self._jobs[job] = EngineJob("ended", CANCELLED)
        self._unsent = []
        if self._agent is not None:
            self._agent.send(op="cancel")

    def close(self) -> None:
        """End the agent, and with it a cluster of our own; see WorkerEngine."""
        self._closed = True
        deadline = self._clock() + _CONNECT_SECONDS
        while self._unsent and self._agent is not None and not self._agent.has_ended and self._clock() < deadline:
            self._receive(1.0)  # the run is left before the cluster was reached
        if self._agent is not None:
            self._agent.send(op="close")
            deadline = self._clock() + self._order.resources.grace_seconds + _END_SECONDS
            while not self._agent.has_ended and self._clock() < deadline:
                for message in self._agent.messages(1.0):
                    self._handle(message)
            self._agent.end(_END_SECONDS)
            self._agent = None

    def _size(self) -> WorkerSize:
        has_gpus = any(node.get("GPU", 0) for node in self._nodes or ())
        return WorkerSize.of(self._order.resources, has_gpus=has_gpus)

    def _start(self) -> None:
        self._refused = ""
        try:
            self._agent = AgentProcess()
        except OSError as error:
            self._fail(f"the process that speaks with Ray cannot be started: {system_reason(error)}")
            return
        grace = self._order.resources.grace_seconds
        self._agent.send(op="connect", address=self._address, mark=self._mark, grace_seconds=grace)

    def _send_unsent(self) -> None:
        if self._agent is None or self._nodes is None or not self._unsent:
            return
        size = self._size()
        with path_errors(self._order.folder, "written"):
            real_folders.made(self._order.folder, self._order.study)
        self._agent.send(
            op="submit",
            jobs=self._unsent,
            options=size.options,
            # The node has a Python of its own, at a path of its own.
            arguments=self._order.command("--slots", str(size.slots))[1:],
            environment=size.environment(is_ours=not self.can_be_left),
            folder=str(self._order.folder),
        )
        for job in self._unsent:
            self._jobs[job] = EngineJob("queued", size.waiting)
        self._unsent = []

    def _receive(self, wait_seconds: float = 0.0) -> None:
        """Take what the agent has said; start another one where it died."""
        if self._agent is None:
            if not self._closed and self._clock() >= self._next_try:
                self._start()
            return
        for message in self._agent.messages(wait_seconds):
            self._handle(message)
        if self._agent.has_ended:
            ended = self._agent.end(_END_SECONDS)
            self._agent = None
            self._fail(self._refused or f"the process that speaks with Ray {ended}")

    def _handle(self, message: Mapping[str, Any]) -> None:
        if message["event"] == "refused":
            self._refused = message["message"]
            return
        self._heard, self._failures = self._clock(), 0
        self._nodes, self._known = tuple(message["nodes"]), frozenset(message["known"])
        if message["event"] == "connected":
            place = f"the cluster at {self._address}" if self.can_be_left else "a local cluster"
            self._say_once(f"Ray: {place}; each worker has {amounts(self._size().needs)}")
            self._forget_missing()
            self._send_unsent()
            return
        for job, item in message["jobs"].items():
            log = Path(item["log"]) if item["log"] else None
            waiting = self._size().waiting if item["state"] == "queued" else ""
            self._jobs[job] = EngineJob(item["state"], item["reason"] or waiting, log)

    def _forget_missing(self) -> None:
        """End the jobs of an earlier agent that its successor has not found."""
        for job, known in self._jobs.items():
            if known.state != "ended" and job not in self._known and job not in self._unsent:
                self._jobs[job] = EngineJob("ended", NODE_FAIL, known.log)

    def _fail(self, message: str) -> None:
        """Note that there is no agent, and when to try again; what cannot be known again has ended."""
        self._refused = message
        self._failures += 1
        self._next_try = self._clock() + min(2.0**self._failures, _LONGEST_PAUSE_SECONDS)
        gone = self._jobs if not self.can_be_left else self._unsent
        for job in list(gone):
            if self._jobs[job].state != "ended":
                self._jobs[job] = EngineJob("ended", message, self._jobs[job].log)
        self._unsent = []
        self._heard = None
        self._nodes = None

    def _say_once(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._order.say(line)
