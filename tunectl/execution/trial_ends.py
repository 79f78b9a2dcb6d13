"""How the process of a trial ends: with a result, stopped, or unable to go on; and what it then writes."""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from tunectl.core import real_folders
from tunectl.core.errors import FolderError, LoaderError, LostRankError, ShortageError
from tunectl.core.exception_place import is_own
from tunectl.core.files import UNWRITABLE, flush_file
from tunectl.core.folders import TrialFolder
from tunectl.core.measurements import TrialSeconds
from tunectl.core.own_code_request import Request
from tunectl.core.path_errors import system_reason
from tunectl.core.records import TrialRequest, TrialResult
from tunectl.core.shortages import disk_shortage, file_size_remedy, shortage
from tunectl.execution import failures
from tunectl.execution.jobs import OUT_OF_MEMORY
from tunectl.execution.protocol import EXIT_CRASHED, EXIT_STOPPED, EXIT_UNWRITTEN, Assignment
from tunectl.store.trial_files import write_result


@dataclass(frozen=True, slots=True)
class TrialEnd:
    """The end of a trial as a process came to it: the exit code, with the result where it is 0, or with a message.

    `is_lost`: the process of another device of the trial had ended before, which is the reason.
    """

    code: int
    result: TrialResult | None = None
    message: str = ""
    is_lost: bool = False

    @classmethod
    def of(cls, result: TrialResult | None) -> TrialEnd:
        """That with a result, None where the trial was stopped and is saved."""
        return cls(EXIT_STOPPED) if result is None else cls(0, result)

    @property
    def is_of_all(self) -> bool:
        """Whether the processes of all devices come to this end by themselves."""
        return self.code == EXIT_STOPPED or (self.result is not None and self.result.state == "completed")

    def on_rank(self, rank: int) -> TrialEnd:
        """The end with the rank in its words, where that is not the first."""
        if rank == 0:
            return self
        result = self.result
        if result is not None and result.message:
            result = replace(result, message=f"rank {rank}: {result.message}")
        return replace(self, result=result, message=self.message and f"rank {rank}: {self.message}")

    def to_json(self) -> dict[str, Any]:
        """The end as a message."""
        return {**asdict(self), "result": None if self.result is None else self.result.to_json()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TrialEnd:
        """The end of a message."""
        result = content["result"]
        return cls(**{**content, "result": None if result is None else TrialResult.from_json(result)})


def end_by_exception(
    error: BaseException, trial: int, folder: TrialFolder, stop: Callable[[], bool], seconds: TrialSeconds
) -> TrialEnd:
    """The end of a trial in which this was raised; the traceback is printed where its words help a user."""
    if _is_of_lost_rank(error):
        return TrialEnd(EXIT_CRASHED, message=str(error), is_lost=True)
    failure = failures.describe(error)
    if not isinstance(error, ShortageError):  # the program's own output says more
        _say(failure.text)
    if stop() and not isinstance(error, Exception):
        return TrialEnd(EXIT_STOPPED)  # it was asked to stop, and ends this way
    disk_error = _disk_error(error, folder)
    if disk_error is not None:
        # The disk is at fault: this is no result of the trial, which goes on when there is room again.
        return _unwritten(disk_error)
    crash = _crash(error, folder)
    if crash:
        return TrialEnd(EXIT_CRASHED, message=crash)
    return TrialEnd(
        0,
        TrialResult(
            trial=trial,
            state="failed",
            reason="error",
            message=f"{failure.message} ({file_size_remedy()})" if _is_too_large(error) else failure.message,
            where=failure.where,
            traceback=failure.text,
            **asdict(seconds),
        ),
    )


def _say(text: str) -> None:
    """Print to the log, which may be on the disk that is full, or be a stream that the user's code has closed: what
    cannot be printed changes nothing of the end.
    """
    with contextlib.suppress(Exception):
        sys.stderr.write(text)
        sys.stderr.flush()


def conclude(end: TrialEnd, request: Request, folder: TrialFolder, assignment: Assignment) -> int:
    """Write the result of a trial, or why it has none; gives the exit code."""
    if end.result is not None:
        result = _signed(end.result, assignment)
        end = _written(folder, result)
        if end.code == 0 and isinstance(request, TrialRequest) and _has_ended_for_good(result, request):
            _remove_resume(folder, result)
    if end.message:
        assignment.write_answer(message=end.message)
    return end.code


def _has_ended_for_good(result: TrialResult, request: TrialRequest) -> bool:
    """Whether what a trial would go on from is of no more use: also where it was a rank that found it infeasible, and
    rank 0, which removes it otherwise, could not end in order.
    """
    is_infeasible = result.state == "infeasible" and result.reason not in (OUT_OF_MEMORY, "recovered")
    return request.keep_checkpoints == 0 or (request.devices > 1 and is_infeasible)


def _is_of_lost_rank(error: BaseException) -> bool:
    """Whether an exception was raised because another rank had ended, also in the middle of the user's code."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        if isinstance(current, LostRankError):
            return True
        seen.add(id(current))
        current = current.__cause__ or current.__context__
    return False


def _system_error(error: BaseException) -> BaseException:
    """The error of the system call behind a FolderError, which names the file; another error as it is."""
    return error.__cause__ if isinstance(error, FolderError) and isinstance(error.__cause__, OSError) else error


def _crash(error: BaseException, folder: TrialFolder) -> str:
    """Say why the trial could not go on although its code is right; "" where its code is at fault."""
    error = _system_error(error)
    if not folder.path.is_dir():
        return "its folder was deleted during the training"
    if isinstance(error, LoaderError):
        return ": ".join(filter(None, ["one of its data-loader processes died", shortage(error)]))
    lack = str(error) if isinstance(error, ShortageError) else shortage(error)
    return f"the machine was short of a resource: {lack}" if lack else ""


def _is_too_large(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EFBIG


def _unwritten(error: OSError) -> TrialEnd:
    reason = file_size_remedy() if _is_too_large(error) else ""
    return TrialEnd(EXIT_UNWRITTEN, message=": ".join(filter(None, [str(error), reason])))


def _disk_error(error: BaseException, folder: TrialFolder) -> OSError | None:
    """The error for which the trial's folder cannot be written; None where the trial failed for another reason.

    What user code prints is written there too. Its own files may be elsewhere.
    """
    error = _system_error(error)
    if isinstance(error, OSError):
        if error.errno not in UNWRITABLE:
            return None
        if is_own(error):
            return error
    # torch.save raises RuntimeErrors.
    return disk_shortage(folder.path, str(error)) if isinstance(error, (OSError, RuntimeError)) else None


def _signed(result: TrialResult, assignment: Assignment) -> TrialResult:
    # Another trial on this device may have taken the memory; the runner knows whether there was one.
    provisional = (result.state, result.reason) == ("infeasible", OUT_OF_MEMORY)
    return replace(result, device=assignment.label, attempt=assignment.attempt, provisional=provisional)


def _remove_resume(folder: TrialFolder, result: TrialResult) -> None:
    """Remove that from which a trial would go on, where it has ended for good and nothing of its weights is kept."""
    if result.state != "failed" and not result.provisional:
        with contextlib.suppress(OSError):  # it only takes space
            for path in (folder.previous_resume, folder.resume):
                real_folders.remove(path, folder.study)


def _at_home(folder: TrialFolder, result: TrialResult) -> TrialResult:
    """The result, with the paths in its texts as they are where people read them: the trial's folder moves."""
    notes = {what: folder.at_home(detail) for what, detail in result.notes.items()}
    message, traceback = folder.at_home(result.message), folder.at_home(result.traceback)
    return replace(result, message=message, traceback=traceback, notes=notes)


def _written(folder: TrialFolder, result: TrialResult) -> TrialEnd:
    try:
        # A trial that has a result is not asked for again: a power cut must not take what it was asked.
        flush_file(folder.request)
        write_result(folder, _at_home(folder, result))
    except OSError as error:
        if error.errno in UNWRITABLE:
            _say(f"tunectl: the result of trial {result.trial} could not be written: {error}\n")
            return _unwritten(error)
        # The disk is not at fault: the trial deleted its folder, or made a folder of its result.json.
        why = _crash(error, folder) or f"its {folder.result.name} could not be written: {system_reason(error)}"
        return TrialEnd(EXIT_CRASHED, message=why)
    return TrialEnd(0)
