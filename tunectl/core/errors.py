"""The errors that reach a user, and how they are worded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunectl.core.exception_text import quoted_traceback

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
    """A condition that the user can mend; printed as it stands, without a traceback."""

    exit_code: int = EXIT_BAD_STUDY


class UsageError(TunectlError):
    """A command was called with words that do not fit together."""


class WorkloadError(TunectlError):
    """The workload cannot be built, or does not give what the study asks of it."""


class FolderError(TunectlError):
    """The study folder is in use, does not match the study, or cannot be read or written."""

    exit_code = EXIT_FOLDER


class LoaderError(TunectlError):
    """A data-loader process of a trial died: by a signal, or by ending itself."""


class ShortageError(TunectlError):
    """A program of a trial met a limit of the machine; the message says which, and what to do."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong with a study file: where it stands and what would be right.

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
    """A problem with what stands at `path`; `other_files` as in Document."""
    stands = _standing(path, places)
    for below, other in (other_files or {}).items():
        if len(stands) > len(below) and stands[: len(below)] == below:
            file = other
    return Problem(file, *places.get(stands, (1, 1)), dotted(path), printable(message))


def printable(text: str) -> str:
    """The text on one line: what does not print (a line break, half a surrogate pair) as its escape."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def _standing(path: PathKey, places: Mapping[PathKey, Place]) -> PathKey:
    """`path`, or its nearest parent that stands in the file."""
    return next((path[:length] for length in range(len(path), 0, -1) if path[:length] in places), ())


def dotted(path: PathKey) -> str:
    """The path as it is shown: `hyperparameters.learning_rate[0].range`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return printable(text)


class StudyError(TunectlError):
    """A study file with at least one problem; all of them are found at once, in the order of the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Infeasible(Exception):  # noqa: N818  (a result of a trial, not an error of the program)
    """Raised by a workload when these hyperparameters cannot work: a result of the study, not a failure.

    `reason` is one line; it stands in the trial tables. Torch makes another one of what a data-loader process raises,
    of a text that quotes that process's traceback: its reason is the one that is quoted.
    """

    def __init__(self, reason: str = "the workload raised Infeasible") -> None:
        super().__init__(reason)
        quoted = quoted_traceback(str(reason)) if str(reason).startswith("Caught ") else None
        self.reason = reason if quoted is None else quoted.message.partition(": ")[2]
