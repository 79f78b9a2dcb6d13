"""The agent: the process that speaks with Ray for a run (`… ray_agent FD FOLDER`).

It is the only module that imports Ray, and no module imports it: so Ray's threads, signal handlers and output are not
in the runner's process, and neither is the end that Ray's library makes of a process that has lost its cluster.

FOLDER is for the files of a local cluster. FD is a socket to the runner (protocol.Connection). The runner sends
`connect` first, then `submit` (new workers, by their jobs' ids), `cancel` and `close`; the agent sends `connected` or
`refused`, and then every second how all workers are (`jobs`). Where the socket is closed, the runner has ended: workers
on a cluster go on, a cluster of our own ends.

Each worker is an actor (ray_node.WorkerOnNode) whose name is the job's id. On a cluster that was there before, the
actors are detached: they live as long as their workers, and the next run finds them by their names.
"""

from __future__ import annotations

import contextlib
import select
import shutil
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
import ray.exceptions
import ray.util

from tunectl.execution.engines.ray_node import WorkerOnNode
from tunectl.execution.engines.ray_place import LOCAL, reach
from tunectl.execution.engines.ray_words import CANCELLED, one_line, reason_of_death, reason_of_exit, unreachable
from tunectl.execution.protocol import Connection
from tunectl.execution.slots import available_cores
from tunectl.execution.worker_engine import JOB_VARIABLE

NAMESPACE = "tunectl"

_LOOK_SECONDS = 1.0
_KILLED_SECONDS = 5.0
_OBJECT_STORE_BYTES = 100 * 2**20  # no worker puts anything into it; by default Ray takes 30 % of the memory


@dataclass(slots=True)
class _Worker:
    """A worker's actor. `answer` is the pending answer to how it is; `ending` is when it was asked to end."""

    actor: Any
    answer: Any = None
    ending: float | None = None
    state: str = "queued"
    reason: str = ""
    log: str = ""
    host: str = ""

    def end(self, reason: str) -> None:
        """Note the end, and free what the actor holds."""
        self.state, self.reason, self.answer = "ended", reason, None
        with contextlib.suppress(ray.exceptions.RayError, ValueError):
            ray.kill(self.actor)


@dataclass(slots=True)
class _Agent:
    connection: Connection
    folder: str
    mark: str = ""
    grace_seconds: float = 0.0
    is_ours: bool = False
    closing: bool = False
    workers: dict[str, _Worker] = field(default_factory=dict)

    def run(self) -> None:
        """Serve the runner until it closes, and what has to end has ended."""
        poller = select.poll()
        poller.register(self.connection, select.POLLIN)
        looked = 0.0
        while not self._is_over():
            wait = max(0.0, looked + _LOOK_SECONDS - time.monotonic())
            if self.connection.closed:
                time.sleep(wait)
            elif poller.poll(wait * 1000):
                for message in self.connection.receive()[0]:
                    self._handle(message)
                self.closing = self.closing or self.connection.closed
                if self.closing and self.is_ours:
                    self._cancel()
            if time.monotonic() >= looked + _LOOK_SECONDS and ray.is_initialized():
                looked = time.monotonic()
                # Where the cluster does not answer, the runner hears nothing and knows by that.
                with contextlib.suppress(ray.exceptions.RayError, ConnectionError):
                    self._look()

    def _is_over(self) -> bool:
        return self.closing and not any(
            item.ending is not None and item.state != "ended" for item in self.workers.values()
        )

    def _handle(self, message: Mapping[str, Any]) -> None:
        match message["op"]:
            case "connect":
                self.mark, self.grace_seconds = message["mark"], message["grace_seconds"]
                self._connect(message["address"])
            case "submit":
                for job in message["jobs"]:
                    self._submit(job, message)
            case "cancel":
                self._cancel()
            case "close":
                self.closing = True

    def _connect(self, address: str) -> None:
        self.is_ours = address == LOCAL
        try:
            connect(address, self.folder)
        except Exception as error:  # Ray raises many kinds
            self.connection.send({"event": "refused", "message": unreachable(address, error)})
            self.closing = True
            return
        for name in self._names():
            with contextlib.suppress(ValueError):  # it has ended since
                self.workers[name] = _Worker(ray.get_actor(name, NAMESPACE))
        self.connection.send({"event": "connected", "known": list(self.workers), "nodes": _nodes()})

    def _names(self) -> list[str]:
        return [str(name) for name in ray.util.list_named_actors() if str(name).startswith(self.mark)]

    def _submit(self, job: str, message: Mapping[str, Any]) -> None:
        lifetime = None if self.is_ours else "detached"
        try:
            kind = ray.remote(WorkerOnNode).options(name=job, lifetime=lifetime, max_restarts=0, **message["options"])
            environment = {**message["environment"], JOB_VARIABLE: f"ray:{job}"}
            actor = kind.remote(message["arguments"], environment, f"{message['folder']}/{job}.log")
        except Exception as error:  # an option that Ray does not know, or a value that it does not take
            self.workers[job] = _Worker(None, state="ended", reason=f"Ray refuses this worker: {one_line(error)}")
            return
        self.workers[job] = _Worker(actor)

    def _cancel(self) -> None:
        for worker in self.workers.values():
            if worker.state == "queued":
                worker.end(CANCELLED)
            elif worker.state == "running" and worker.ending is None:
                worker.ending = time.monotonic()
                worker.actor.stop.remote()

    def _look(self) -> None:
        """Ask all workers how they are, take the answers that are there, and send the runner what is known."""
        open_ones = [worker for worker in self.workers.values() if worker.state != "ended"]
        for worker in open_ones:
            if worker.answer is None:
                worker.answer = worker.actor.state.remote()
        answers = [worker.answer for worker in open_ones]
        ready = ray.wait(answers, num_returns=len(answers), timeout=0)[0] if answers else []
        for worker in open_ones:
            if worker.answer in ready:
                self._take(worker)
            self._end_late(worker)
        jobs = {
            name: {"state": worker.state, "reason": worker.reason, "log": worker.log, "host": worker.host}
            for name, worker in self.workers.items()
        }
        self.connection.send({"event": "jobs", "jobs": jobs, "known": self._names(), "nodes": _nodes()})

    def _take(self, worker: _Worker) -> None:
        answer, worker.answer = worker.answer, None
        try:
            found = ray.get(answer)
        except ray.exceptions.ActorUnavailableError:
            return  # it may come back
        except ray.exceptions.RayError as error:
            worker.end(CANCELLED if worker.ending is not None else reason_of_death(str(error)))
            return
        worker.state, worker.log, worker.host = "running", found["log"], found["host"]
        if found["code"] is not None:
            worker.end(CANCELLED if worker.ending is not None else reason_of_exit(found))

    def _end_late(self, worker: _Worker) -> None:
        """Kill a worker that was asked to end and did not."""
        if worker.ending is None or worker.state == "ended":
            return
        late = time.monotonic() - worker.ending - self.grace_seconds
        if late > _KILLED_SECONDS:
            worker.end(CANCELLED)
        elif late > 0:
            worker.actor.kill.remote()


def connect(address: str, folder: str) -> None:
    """Connect to the cluster at `address`, or start one whose files are in `folder` where it is "local"."""
    options: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": "ERROR"}
    if address != LOCAL:
        reach(address)
        ray.init(address=address, **options)
        return
    ray.init(
        address=LOCAL,
        num_cpus=available_cores(),
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        _temp_dir=folder,
        **options,
    )


def _nodes() -> list[dict[str, float]]:
    """What each node that is alive has of each resource."""
    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def main(arguments: Sequence[str]) -> None:
    """Serve the runner at the other end of the socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    fd, folder = arguments
    try:
        _Agent(Connection(socket.socket(fileno=int(fd))), folder).run()
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
