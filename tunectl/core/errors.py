"""The errors that are shown to a user, and the form of their messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunectl.core.exception_text import quoted_traceback
from tunectl.core.wording import printable

PathKey = tuple[str | int, ...]
"""A place in the document: ("hyperparameters", "momentum", "range", 0)."""

Place = tuple[int, int]
"""Line and column, counted from 1."""

EXIT_DONE = 0
EXIT_SOME_FAILED = 1
EXIT_BAD_STUDY = 2
EXIT_FOLDER = 3
EXIT_INTERRUPTED = 130


class TunectlError(Exception):
    """An error that the user can correct; printed as it is, without a traceback."""

    exit_code: int = EXIT_BAD_STUDY


class UsageError(TunectlError):
    """A command was called with wrong options or arguments."""


class WorkloadError(TunectlError):
    """The workload cannot be built, or does not give what the study needs."""


class FolderError(TunectlError):
    """The study folder is in use, does not match the study, or cannot be read or written."""

    exit_code = EXIT_FOLDER


class StoppedError(TunectlError):
    """A stop was requested while the command waited, before it had begun anything."""

    exit_code = EXIT_INTERRUPTED


class LoaderError(TunectlError):
    """A data-loader process of a trial ended, by a signal or by itself."""


class LostRankError(TunectlError):
    """A trial on several devices cannot go on in this process: that of another device has ended, which says why."""


class ShortageError(TunectlError):
    """A program of a trial reached a limit of the machine; the message says which, and what to do."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One problem in a study file: its place, and what is expected there.

    `line` and `column` count from 1. `path` is dotted (`hyperparameters.momentum.range`), "" for the whole file.
    """

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}:"
        return f"{where} {self.path}: {self.message}" if self.path else f"{where} {self.message}"


def problem_at(
    file: str,
    places: Mapping[PathKey, Place],
    path: PathKey,
    message: str,
    other_files: Mapping[PathKey, str] | None = None,
) -> Problem:
    """A problem with the value at `path`, or with its nearest parent in the file; `other_files` as in Document."""
    known = next((path[:length] for length in range(len(path), 0, -1) if path[:length] in places), ())
    for below, other in (other_files or {}).items():
        if len(known) > len(below) and known[: len(below)] == below:
            file = other
    return Problem(file, *places.get(known, (1, 1)), dotted(path), printable(message))


def dotted(path: PathKey) -> str:
    """The path as text: `hyperparameters.learning_rate[0].range`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return printable(text)


class StudyError(TunectlError):
    """A study file with at least one problem; it has all of them, in the order of the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Infeasible(Exception):  # noqa: N818  (a result of a trial, not an error of the program)
    """Raised by a workload where training cannot work with these hyperparameters: a result, not a failure.

    `reason` is one line for the trial tables. Where a data-loader process raises it, torch raises another one with that
    process's traceback as its text: then the reason is taken from the traceback.
    """

    def __init__(self, reason: str = "the workload raised Infeasible") -> None:
        super().__init__(reason)
        quoted = quoted_traceback(str(reason)) if str(reason).startswith("Caught ") else None
        self.reason = reason if quoted is None else quoted.message.partition(": ")[2]
