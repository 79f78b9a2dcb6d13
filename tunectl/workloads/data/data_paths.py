"""Where a data set's path leads: relative to the folders of the workload, with what is missing said in words."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from tunectl.core import regular_files
from tunectl.core.errors import WorkloadError
from tunectl.core.path_errors import path_error, path_errors

_folders: ContextVar[tuple[str, ...]] = ContextVar("_folders", default=())

_SHOWN = 8


@contextmanager
def relative_to(folders: Sequence[str]) -> Iterator[None]:
    """Within the block relative paths of data are searched in these folders, the first one first.

    A workload's are `WorkloadReference.search_path`: its file's, the study's and the current one.
    """
    before = _folders.set(tuple(folders))
    try:
        yield
    finally:
        _folders.reset(before)


def existing(data: str | Path, hint: str, *, keyword: str = "data") -> Path:
    """The absolute path that `data` names, the value of this keyword: `~` is expanded, a relative path is searched in
    the folders of the workload, then in the current one.

    Raises WorkloadError, which ends with `hint`, where there is nothing, or where it may not be looked at.
    """
    try:
        path = Path(data).expanduser()
    except RuntimeError as error:
        raise WorkloadError(f"{keyword} {str(data)!r}: {error}; write the whole path") from error
    places = list(dict.fromkeys(Path(folder, path).absolute() for folder in (*_folders.get(), ".")))
    for place in places:
        try:
            place.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            raise path_error(place, "read", error, WorkloadError) from error
        return place
    where = " nor ".join(map(str, places))
    raise WorkloadError(f"{keyword} {str(data)!r}: {where} does not exist{_nearest_parent(places[0])}; {hint}")


@dataclass(frozen=True, slots=True)
class Content:
    """The names of the files and of the folders in a folder, sorted."""

    files: tuple[str, ...]
    folders: tuple[str, ...]

    @classmethod
    def of(cls, folder: Path) -> Content:
        """What is in a folder; raises WorkloadError where it cannot be listed."""
        with path_errors(folder, "read", WorkloadError), os.scandir(folder) as found:
            names = sorted((entry.name, entry.is_dir()) for entry in found)
        files = tuple(name for name, is_folder in names if not is_folder)
        return cls(files, tuple(name for name, is_folder in names if is_folder))


def content(file: Path) -> bytes:
    """The bytes of a file; raises WorkloadError where it cannot be read, as a pipe, which is not waited for."""
    with path_errors(file, "read", WorkloadError), regular_files.opened(file, follows=True) as opened:
        return opened.read()


def listed(names: Sequence[str]) -> str:
    """The first of these names, for a message; "nothing" where there is none."""
    more = f", ... ({len(names)} in all)" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more if names else "nothing"


def _nearest_parent(place: Path) -> str:
    """Which part of the path exists; "" where only the last name is missing."""
    parent = next((folder for folder in place.parents if folder.is_dir()), None)
    return "" if parent is None or parent == place.parent else f" ({parent} is the last folder of it that exists)"
