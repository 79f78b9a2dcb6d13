"""The folder or file of an export: it replaces an earlier export of the same study, and nothing else."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tunectl import __version__
from tunectl.core import real_folders, regular_files, typed_fields
from tunectl.core.errors import FolderError, UsageError
from tunectl.core.files import temporary_folder, write_bytes
from tunectl.core.jsontext import one_line
from tunectl.core.path_errors import broken_link, path_error, path_errors
from tunectl.exchange.database_addresses import masked
from tunectl.store.foreign_database import table_names

MARK = "tunectl-export.json"
"""The file that marks a folder as an export of tunectl."""

_SQLITE = "sqlite:///"
_SQLITE_HEAD = b"SQLite format 3\0"


@dataclass(frozen=True, slots=True)
class Owner:
    """The study that an export is of: its folder's absolute path, and an identity that stays when that is moved."""

    folder: str
    identity: str

    def owns(self, place: Path, folder: object, identity: object) -> bool:
        """Whether the export at `place` that carries these marks is of this study.

        What is inside the study folder was moved or copied with it.
        """
        inside = Path(self.folder) in place.resolve().parents
        return folder == self.folder or (inside and identity == self.identity)


@contextlib.contextmanager
def replaced_folder(place: Path, owner: Owner, tool: str) -> Iterator[Path]:
    """An empty folder to write into, which gets the name `place` when the block has ended.

    Raises FolderError, before anything is written, where `place` holds something else than an earlier export of the
    same study for the same tool, or is a link. A block that fails leaves what was there.
    """
    _check_replaceable(place, owner, tool)
    mark = {"tool": tool, "study": owner.folder, "identity": owner.identity, "tunectl": __version__}
    with path_errors(place, "written"):
        place.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(place) as fresh:
            yield fresh
            content = {**mark, "entries": sorted(entry.name for entry in fresh.iterdir())}
            write_bytes(fresh / MARK, (json.dumps(content, indent=2) + "\n").encode(), within=place.parent)
            _put_in_place(fresh, place)


def _put_in_place(fresh: Path, place: Path) -> None:
    with temporary_folder(place) as old:
        if place.exists():
            real_folders.move(place, old / place.name, place.parent)
        try:
            real_folders.move(fresh, place, place.parent)
        except OSError:
            with contextlib.suppress(OSError):
                real_folders.move(old / place.name, place, place.parent)
            raise


def _check_replaceable(place: Path, owner: Owner, tool: str) -> None:
    try:
        entries = {entry.name for entry in place.iterdir()}
    except FileNotFoundError:
        if broken := broken_link(place):
            raise FolderError(f"{place}: {broken}; give another --out") from None
        return
    except NotADirectoryError:
        raise FolderError(f"{place}: expected a folder, got a file; give another --out") from None
    except OSError as error:
        raise path_error(place, "read", error) from error
    if place.is_symlink():
        raise FolderError(f"{place}: is a link, and an export replaces a whole folder; give another --out")
    if not entries:
        return
    there = _mark(place)
    if there.tool != tool or not owner.owns(place, there.study, there.identity):
        what = one_line(f"the export of {there.study} for {there.tool}")
        raise FolderError(f"{place}: holds {what}; give another --out, or remove it")
    strange = sorted(entries - {MARK, *there.entries})
    if strange:
        raise FolderError(
            f"{place}: holds {strange[0]}, which tunectl did not export; move it away, or give another --out"
        )


@dataclass(frozen=True, slots=True)
class _Mark:
    """What the file in an export says of it."""

    MAY_HAVE_MORE: ClassVar[bool] = True
    tool: str
    study: str
    identity: str
    entries: tuple[str, ...] = ()


def _mark(place: Path) -> _Mark:
    try:
        content = regular_files.content(place / MARK)
    except OSError:
        raise FolderError(f"{place}: is not empty and is not an export of tunectl; give another --out") from None
    try:
        return typed_fields.typed(_Mark, typed_fields.sealed_object(content))
    except typed_fields.DamagedError as error:
        raise FolderError(f"{place / MARK}: is damaged ({error}); give another --out, or remove {place}") from None


def expanded(out: str) -> Path:
    """The path that `--out` names, with `~` resolved; raises UsageError for a user whose home folder is not known."""
    try:
        return Path(out).expanduser()
    except RuntimeError:
        raise UsageError(
            f"--out {out}: no user of this name has a home folder on this machine; give the whole path"
        ) from None


def database_file(out: str, tool: str, tables: Sequence[str]) -> Path:
    """The SQLite file that `--out` names, as a path or as sqlite:///PATH; raises UsageError, FolderError.

    It is not there yet, is empty, or is a database of the tool, which is known by having all of `tables`.
    """
    if "://" in out and not out.startswith(_SQLITE):
        raise UsageError(f"--out: expected a local SQLite file, as a path or as {_SQLITE}PATH, got {masked(out)}")
    path = expanded(out.removeprefix(_SQLITE))
    if any(mark in str(path.absolute()) for mark in "?#%"):
        raise UsageError(f"--out {out}: the address of a database cannot contain ?, # or %; give another path")
    if path.is_dir():
        raise FolderError(f"{path}: expected a file, got a folder; give another --out")
    if path.exists():
        if not path.is_file() or not is_database(path):
            raise FolderError(f"{path}: is not a SQLite database; give another --out")
        there = table_names(path)
        if there and not there.issuperset(tables):
            raise FolderError(f"{path}: is a database of another program than {tool}; give another --out")
    with path_errors(path.parent, "created"):
        path.parent.mkdir(parents=True, exist_ok=True)
    return path


def is_database(path: Path) -> bool:
    """Whether a file is empty or a SQLite database; raises FolderError where it cannot be read."""
    with path_errors(path, "read"), regular_files.opened(path, follows=True) as file:
        head = file.read(len(_SQLITE_HEAD))
    return head in (b"", _SQLITE_HEAD)


def database_url(path: Path) -> str:
    """The address of a SQLite file."""
    return f"{_SQLITE}{path.absolute()}"
