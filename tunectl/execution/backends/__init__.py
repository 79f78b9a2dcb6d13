"""Where trials run: a Backend starts, watches and ends the processes of trials; BACKENDS holds those there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tunectl.core.own_code_request import Request
from tunectl.core.records import WorkloadReference
from tunectl.execution.events import ServerReady
from tunectl.execution.slots import Slot


@dataclass(frozen=True, slots=True)
class Started:
    """A trial's process is there."""

    trial: int
    pid: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A trial's process, and all that it had started, is gone.

    Either `code` (its exit code) or `signal` (what killed it) is set, neither where the process could not be started
    or `lost` is true: then the backend failed, not the trial. `message` says why it ended, where that is known.
    `seconds` counts from its launch. `is_users` marks an exit code that is not the worker's: the user's code chose it.
    """

    trial: int
    code: int | None
    signal: int | None
    seconds: float
    lost: bool = False
    message: str = ""
    is_users: bool = False

    @property
    def verdict(self) -> int | None:
        """The exit code by which the worker says how the trial ended; None where the worker said nothing."""
        return None if self.is_users else self.code


Report = Started | Ended | ServerReady


class Backend(Protocol):
    """A place where trials run. Its methods are called from one thread."""

    def start(self, *, own_code: bool = False) -> None:
        """Begin to load what every trial needs; returns at once. `own_code`: what trains is the user's."""
        ...

    def load(self, workload: WorkloadReference) -> None:
        """Begin to load the workload of all trials and probes; returns at once."""
        ...

    def wait_ready(self, stop_requested: Callable[[], int] = lambda: 0) -> ServerReady | None:
        """Wait until trials can start, or until a stop is asked for: then None.

        Raises WorkloadError, with the user's traceback as its note, where the workload does not load.
        """
        ...

    def probe(self, request: Request, slot: Slot, stop_requested: Callable[[], int] = lambda: 0) -> int | None:
        """Build a workload as a trial on this slot would and take one batch through it.

        Gives the size in bytes of a checkpoint's tensors (0 where it cannot be known), None when a stop was asked for
        before anything was known. Raises WorkloadError where it does not work.
        """
        ...

    def hold(self, fd: int) -> None:
        """Keep a copy of this descriptor (the study folder's lock) open as long as any process of the backend lives."""
        ...

    def launch(self, trial: int, folder: Path, slot: Slot, attempt: int) -> None:
        """Start the trial whose request.json lies in `folder`; returns at once, `poll` tells what became of it."""
        ...

    def poll(self, timeout_seconds: float) -> Sequence[Report]:
        """What has happened since the last call; waits up to `timeout_seconds` for something to."""
        ...

    def stop(self, trial: int) -> None:
        """Ask the trial to save and end: SIGTERM to its first process alone; its loaders must live while it saves."""
        ...

    def kill(self, trial: int) -> None:
        """End the trial and all that it started, now."""
        ...

    def close(self) -> None:
        """End all that the backend started and wait until it is gone; may be called twice."""
        ...


def _local() -> Backend:
    from tunectl.execution.backends.local import LocalBackend

    return LocalBackend()


BACKENDS: Mapping[str, Callable[[], Backend]] = {"local": _local}
"""The backends by name."""
