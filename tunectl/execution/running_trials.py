"""The trials that run, or wait in a queue of the backend, and the slot that is free for another one."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from tunectl.core import real_folders
from tunectl.core.errors import FolderError
from tunectl.core.folders import TrialFolder
from tunectl.core.path_errors import path_errors
from tunectl.core.records import AttemptEnd, TrialResult
from tunectl.execution.backends.backend import ProcessEnded, ProcessStarted
from tunectl.execution.failures import with_last_line
from tunectl.execution.jobs import MOST_IDLE_RELEASES, STOPPED_EARLY, Hopeless, Job, Tick, TrialStarted
from tunectl.execution.shared_places import Places
from tunectl.execution.slots import Slot
from tunectl.store.trial_files import append_attempt, read_result, write_result
from tunectl.store.trial_progress import progress_made


@dataclass(slots=True)
class Running:
    """A trial that was launched. In a queue it `began` when a worker took it; elsewhere it begins when it is launched.

    `launched` is the time of that on the scheduler's clock. `device` is the name in the tables. `was_tried` says that
    there was a try to record its end.
    """

    job: Job
    slot: Slot
    folder: TrialFolder
    launched: float
    had_company: bool
    log_bytes: int = 0
    device: str = ""
    stop_sent: float | None = None
    kill_sent: float | None = None
    timed_out: bool = False
    hopeless: Hopeless | None = None
    began: bool = True
    was_tried: bool = False

    def begin(self, event: ProcessStarted, now: float) -> TrialStarted:
        """Note that its process has started; what the run says of it."""
        self.device = event.device or self.device
        if not self.began:
            self.began, self.launched = True, now
        place = (event.pid, self.device, event.where, event.outputs, event.is_late)
        return TrialStarted(self.job.trial, self.slot, self.job.attempt, *place)

    def own_result(self) -> TrialResult | None:
        """The result of this attempt, None where there is none; raises FolderError where that cannot be found out.

        That of another attempt, which a file server may still show, says nothing of this one.
        """
        result = read_result(self.folder)
        return result if result is not None and result.attempt == self.job.attempt else None

    def may_fit_elsewhere(self, ended: ProcessEnded) -> bool:
        """Whether only its worker's host may have had no room for its files: it was not released again and again."""
        return ended.released and self.job.idle_releases(progress_made(self.folder)) < MOST_IDLE_RELEASES

    def with_log(self, message: str) -> str:
        """The message with the last line that this attempt has printed."""
        return with_last_line(message, self.folder.log, self.log_bytes)

    def record(self, reason: str, message: str, *, final: bool, reached: int | None = None) -> AttemptEnd:
        """Record how this attempt ended without a result; raises FolderError where it cannot be written.

        To be called again then: it is recorded once.
        """
        attempt = AttemptEnd(self.job.attempt, reason, message, final, self.device, reached)
        again, self.was_tried = self.was_tried, True
        append_attempt(self.folder, attempt, again=again)
        return attempt

    def stopped_early(self, hopeless: Hopeless) -> TrialResult:
        """Write the result of a trial that was stopped early, and remove that from which it would go on.

        What was judged counts, however its process ended then, and also where its resume.pt cannot be removed, which
        nothing reads any more. Raises OSError or FolderError where the result cannot be written.
        """
        result = TrialResult(
            self.job.trial,
            "stopped",
            STOPPED_EARLY,
            hopeless.message,
            final_step=hopeless.step,
            train_seconds=hopeless.seconds,
            device=self.device,
            attempt=self.job.attempt,
        )
        with path_errors(self.folder.result, "written"):
            write_result(self.folder, result)
        for path in (self.folder.resume, self.folder.previous_resume):
            with contextlib.suppress(OSError, FolderError):
                real_folders.remove(path, self.folder.study)
        return result


def tick(running: Collection[Running], waiting: int, stopping: int, *, is_asked: bool) -> Tick:
    """The event of a round in which these trials are launched, and this number waits; see Tick."""
    offered = sum(not item.began for item in running)
    return Tick(len(running) - offered, waiting, stopping, is_asked, offered)


def on_device(running: Iterable[Running], slot: Slot) -> list[Running]:
    """The trials on the device of a slot. In a queue that is not known."""
    return [] if slot.is_queue else [item for item in running if item.slot.device == slot.device]


def next_launch(
    waiting: Iterable[Job], running: Collection[Running], slots: Sequence[Slot], places: Places
) -> tuple[Job, Slot] | None:
    """The trial to launch next and its slot; None where none can be launched now. A queue takes any number of trials.

    The emptiest device comes first. A device that a trial has for itself gets no other trial.
    """
    if slots[0].is_queue:
        return next(((job, replace(slots[0], is_alone=job.alone)) for job in waiting), None)
    taken = {item.slot.index for item in running}
    free = sorted(
        (len(on_device(running, slot)), slot.index, slot)
        for slot in slots
        if slot.index not in taken and not any(item.job.alone for item in on_device(running, slot))
    )
    for job in waiting:
        if not free:
            return None
        for company, _, slot in free:
            if (not job.alone or company == 0) and places.take(slot, alone=job.alone):
                return job, slot
        if not job.alone:
            return None  # other runs use all these places
        # It waits for the emptiest device, on which no other trial starts until nothing runs there.
        free = [item for item in free if item[2].device != free[0][2].device]
    return None


def late_result(folder: TrialFolder, attempt: int) -> TrialResult | None:
    """The result of a trial that has ended for good, which a file server shows only now; None where there is none.

    A trial is launched where it had none when the study was opened. To launch it again would remove it. Only that of
    the last attempt before `attempt`, which is launched next, is one: files of a trial are those of its last attempt.
    """
    result = read_result(folder)
    if result is None or result.provisional or result.state == "failed" or result.attempt < attempt - 1:
        return None
    return result
