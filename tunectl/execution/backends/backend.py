"""The interface of a backend: a place where trials run, such as this machine or a cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tunectl.core.own_code_request import Request
from tunectl.core.probed_trial import ProbedTrial
from tunectl.core.records import FactorySignature, Scalar, WorkloadReference
from tunectl.execution.shared_places import Places
from tunectl.execution.slots import Slot
from tunectl.store.written_files import OutputFile

if TYPE_CHECKING:
    # A backend is started before the modules that read a study are imported.
    from tunectl.language.study_spec import ResourcesSection


@dataclass(frozen=True, slots=True)
class BackendReady:
    """The workload is loaded and trials can start, after `seconds`.

    `signature` is what the workload's factory takes, None where the backend did not load it. `messages` are lines for
    the user about what the backend found while it loaded. `files` are those of the user that were imported.
    """

    seconds: float
    signature: FactorySignature | None = None
    messages: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProcessStarted:
    """A trial's process has started. `pid` is its number on the machine where it runs.

    `device` is the name of its device in the tables, and `where` says in words on which host, and in which job, it
    runs: both "" where the slot says it. `outputs` are the files that its worker prints to. `is_late`: what the trial
    writes may show late, on a file server.
    """

    trial: int
    pid: int
    device: str = ""
    where: str = ""
    outputs: tuple[OutputFile, ...] = ()
    is_late: bool = False


@dataclass(frozen=True, slots=True)
class ProcessEnded:
    """A trial's process has ended, and so have all processes that it started.

    Either `code` (its exit code) or `signal` (what killed it) is set. Neither is set where the process could not be
    started, or where `lost` is true: then the backend failed, not the trial. `message` says why it ended, where that is
    known. `seconds` counts from the launch. `is_users`: the exit code was chosen by the user's code and not by the
    worker.

    The other fields are of trials that wait in a queue for a worker. `never_began`: it was taken back before a worker
    took it. `released`: the worker itself had to end, and the trial goes on elsewhere. `timed_out`: the worker stopped
    it after the longest time for one attempt. `had_company`: other trials were on its device. `cause` is the engine's
    word for the end of its worker, of a trial that was lost or released; one that `is_excused` says nothing about the
    trial (a pre-emption).
    """

    trial: int
    code: int | None
    signal: int | None
    seconds: float
    lost: bool = False
    message: str = ""
    is_users: bool = False
    never_began: bool = False
    released: bool = False
    timed_out: bool = False
    had_company: bool = False
    cause: str = ""
    is_excused: bool = False

    @property
    def verdict(self) -> int | None:
        """The exit code by which the worker says how the trial ended; None where the worker did not say it."""
        return None if self.is_users else self.code


BackendEvent = BackendReady | ProcessStarted | ProcessEnded


class Backend(Protocol):
    """A place where trials run. All methods are called from one thread.

    Each trial is trained by tunectl.execution.worker, in a process that reads and writes the trial's folder. A backend
    starts that process itself, or offers the trial to workers that do (backends/offering.py). It reports what happened
    by `poll`; it reads no results. What the machine is asked for (`places`, `hold`, the devices in `slots`) is the
    affair of a backend that starts the processes; the documentation of each says what others do. The contract suite
    (tests/contracts) holds for all.
    """

    @property
    def name(self) -> str:
        """The name by which a study chooses it."""
        ...

    def slots(self, resources: ResourcesSection, count: int | None = None) -> tuple[Slot, ...]:
        """The places for trials: at most `count` of them (`--slots`), or all that the study's resources allow.

        A backend whose trials wait for workers gives queues, as many as trials are expected to run at the same time.
        Never empty. Works before `start`. Raises UsageError where the resources cannot be had, naming those that can.
        """
        ...

    def places(
        self, resources: ResourcesSection, slots: Sequence[Slot], say: Callable[[str], None], *, waits: bool = True
    ) -> Places:
        """The places of these slots, which other runs may use, too; the same at each call.

        `say` shows a line to the user. Without `waits` a trial starts where those of others are. A backend whose trials
        run where a queue assigns the devices gives OWN_PLACES.
        """
        ...

    def start(self, *, own_code: bool = False) -> None:
        """Begin to load what every trial needs, and return at once. `own_code`: the user's own code does the training.

        Raises TunectlError where the backend cannot start.
        """
        ...

    def load(
        self, workload: WorkloadReference, arguments: Mapping[str, Scalar], code: Sequence[WorkloadReference] = ()
    ) -> None:
        """Begin to load the workload of all trials and probes, and return at once.

        `arguments` are those that its factory gets in every trial, for the workload's `preload`. `code` are the
        optimizers and schedules that the study names.
        """
        ...

    def wait_ready(self, stop_requested: Callable[[], int] = lambda: 0) -> BackendReady | None:
        """Wait until trials can start. Gives None where a stop was requested first.

        Where workers train, they load the workload themselves; it is loaded here to find what is wrong with it.
        Raises WorkloadError, with the user's traceback as its note, where the workload cannot be loaded.
        """
        ...

    def probe(self, request: Request, slot: Slot, stop_requested: Callable[[], int] = lambda: 0) -> ProbedTrial | None:
        """Build a workload as a trial on this slot would, and take one batch through it.

        Gives None where a stop was requested before the probe ended. Raises WorkloadError where the workload does not
        work.
        """
        ...

    def hold(self, fd: int) -> None:
        """Keep a copy of this file descriptor, a lock of the study folder, open while a process of the backend runs.

        A backend whose processes run on other machines does nothing here.
        """
        ...

    def launch(self, trial: int, folder: Path, slot: Slot, attempt: int) -> None:
        """Start the trial whose request.json is in `folder`, or offer it to workers, and return at once.

        While workers have it, the folder is elsewhere (`StudyFolder.trial`); at its end it is back. `poll` then gives
        one ProcessStarted at most, and exactly one ProcessEnded, whatever happens.
        """
        ...

    def poll(self, timeout_seconds: float) -> Sequence[BackendEvent]:
        """What happened since the last call, in order. Waits at most `timeout_seconds` where nothing has happened."""
        ...

    def end_recorded(self, trial: int) -> None:
        """The end of this trial, which `poll` gave, is in its folder: nothing else needs to say it any more.

        Not called where the end could not be recorded, as on a full disk: the next run then takes it from what a
        worker has written. A backend that starts the processes itself does nothing here.
        """
        ...

    def stop(self, trial: int) -> None:
        """Ask the trial to save its state and end. Does nothing where it has ended.

        Only the worker's own process is asked: its data-loader processes must live while it saves.
        """
        ...

    def kill(self, trial: int) -> None:
        """End the trial and all processes that it started, now. Does nothing where it has ended."""
        ...

    def close(self) -> None:
        """End all that the backend started on this machine, and wait until it has ended. A second call does nothing.

        Workers go on with the trials that they have, where they can: the next run picks them up.
        """
        ...
