"""The requests to a run that is at work, and their answers: a JSON file each, in the study's folder `requests`.

A request is `<name>.json`, which is renamed to `<name>.taken` by the run that it is for, and answered in
`<name>.answer`. Whoever asked removes these files. A request names the run that it is for, by the mark of the process
that holds the folder's lock: with another one it has no effect.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from tunectl.core import jsontext, real_folders, record_checksums, regular_files, typed_fields
from tunectl.core.files import write_bytes
from tunectl.core.folders import StudyFolder
from tunectl.core.path_errors import path_errors

_T = TypeVar("_T")
Action = Literal["stop", "stop trial", "pause", "resume", "resume trial", "add"]

_NAME = re.compile(r"(?P<name>\d{20}-[0-9a-f]{8})\.(?P<what>json|taken|answer|withdrawn)")
_LARGEST_BYTES = 2**16
_TRIES = 10
_OLD_SECONDS = 600.0
"""Files of a request that is older than this belong to a command that was killed."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What is asked of a run. `to` is the mark of its process (Holder.mark).

    `trial` is for the actions about one trial. `number`: for `stop` how many Ctrl-C it is worth, for `pause` 1 where
    the running trials run on, for `add` the new number of trials for each setting, where `before` is the present one
    and `token` the mark of the command.
    """

    action: Action
    to: str
    trial: int = -1
    number: int = 0
    before: int = 0
    token: str = ""
    format: int = 1


@dataclass(frozen=True, slots=True)
class RequestAnswer:
    """The answer to a request: whether it was `done`, or refused, and a line about it.

    `again`: it was refused because the study has changed since it was asked.
    """

    done: bool
    message: str
    again: bool = False


def send(folder: StudyFolder, request: RunRequest) -> str:
    """Write a request and give its name; raises FolderError where the folder cannot be written."""
    name = f"{time.time_ns():020d}-{os.urandom(4).hex()}"
    with path_errors(folder.requests, "written"):
        for left in reversed(range(_TRIES)):
            try:
                real_folders.made(folder.requests, folder.path)
                _write(folder, f"{name}.json", request)
                break
            except FileNotFoundError:  # another command has just removed the empty folder
                if not left:
                    raise
    return name


def withdraw(folder: StudyFolder, name: str) -> bool:
    """Take a request back; False where the run has taken it already."""
    try:
        real_folders.move(folder.requests / f"{name}.json", folder.requests / f"{name}.withdrawn", folder.path)
    except OSError:
        return False
    return True


def read_answer(folder: StudyFolder, name: str) -> RequestAnswer | None:
    """The answer to a request, None where there is none yet."""
    return _read(folder, f"{name}.answer", RequestAnswer)


def forget(folder: StudyFolder, name: str) -> None:
    """Remove the files of a request, and the folder of the requests where it is empty."""
    for what in ("json", "taken", "answer", "withdrawn"):
        _remove(folder, f"{name}.{what}")
    _remove_empty(folder)


def waiting(folder: StudyFolder) -> list[str]:
    """The names of the requests that no run has taken, the oldest first."""
    return [found["name"] for found in _found(folder) if found["what"] == "json"]


def read(folder: StudyFolder, name: str) -> RunRequest | None:
    """A request that waits, without taking it; None where it was withdrawn, is damaged, or of a later version."""
    return _read(folder, f"{name}.json", RunRequest)


def take(folder: StudyFolder, name: str) -> RunRequest | None:
    """Take a request, which cannot be withdrawn from then on; None where it is damaged, or of a later version.

    Raises FileNotFoundError where it was withdrawn, and another OSError where the folder cannot be written.
    """
    real_folders.move(folder.requests / f"{name}.json", folder.requests / f"{name}.taken", folder.path)
    return _read(folder, f"{name}.taken", RunRequest)


def answer(folder: StudyFolder, name: str, found: RequestAnswer) -> None:
    """Answer a request that was taken; raises OSError where the folder cannot be written."""
    _write(folder, f"{name}.answer", found)
    _remove(folder, f"{name}.taken")


def clear_old(folder: StudyFolder, clock: Callable[[], float] = time.time) -> None:
    """Remove what killed commands have left in the folder of the requests."""
    for found in _found(folder):
        if clock() - int(found["name"].partition("-")[0]) / 1e9 > _OLD_SECONDS:
            _remove(folder, found[0])
    _remove_empty(folder)


def _found(folder: StudyFolder) -> Sequence[re.Match[str]]:
    try:
        with real_folders.opened(folder.requests, folder.path):
            names = sorted(os.listdir(folder.requests))  # noqa: PTH208  (as Path.iterdir, but for one system call)
    except OSError:
        return []
    return [found for name in names if (found := _NAME.fullmatch(name))]


def _write(folder: StudyFolder, name: str, record: RunRequest | RequestAnswer) -> None:
    content = record_checksums.sealed(jsontext.encode(typed_fields.untyped(record)), errors="backslashreplace")
    write_bytes(folder.requests / name, content + b"\n", within=folder.path)


def _read(folder: StudyFolder, name: str, kind: type[_T]) -> _T | None:
    try:
        path = Path(folder.requests, name)
        content = regular_files.content(path, largest=_LARGEST_BYTES, within=folder.path)
        return typed_fields.typed(kind, typed_fields.sealed_object(content))
    except (OSError, typed_fields.DamagedError):
        return None


def _remove(folder: StudyFolder, name: str) -> None:
    with contextlib.suppress(OSError):
        real_folders.remove(folder.requests / name, folder.path)


def _remove_empty(folder: StudyFolder) -> None:
    with contextlib.suppress(OSError):
        real_folders.remove_empty(folder.requests, folder.path)
