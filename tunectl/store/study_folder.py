"""The study folder: whether a path is one or can become one, how it is made, and how its study file is read."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from tunectl.core import real_folders, regular_files
from tunectl.core.errors import FolderError, UsageError
from tunectl.core.files import target_of, try_to_write, write_bytes
from tunectl.core.folders import StudyFolder
from tunectl.core.path_errors import broken_link, path_error, path_errors
from tunectl.core.wording import first_listed
from tunectl.store.earlier_studies import is_being_set_aside

_PROBE = "writable"
_MOST_NAMED = 3
_PROPERTIES = [name for name, member in vars(StudyFolder).items() if isinstance(member, property)]
_OURS = frozenset(getattr(StudyFolder(Path()), name).name for name in _PROPERTIES)
_FOLDERS = frozenset(
    getattr(StudyFolder(Path()), name).name
    for name in ("trials", "offered", "claimed", "tables", "plots", "exports", "earlier", "requests", "workers")
)
_TABLES, _PLOTS = (".csv", ".parquet", ".md"), (".svg", ".png")
_ALSO_OURS = re.compile(
    r"(findings|report).*\.(json|html)|study\.db-(wal|shm|journal)|provenance\.json\.damaged(\.\d+)?"
)


def study_path(parent: Path, name: str) -> Path:
    """The folder of a study in `parent`; raises FolderError where the name cannot be the name of a folder."""
    if name in ("", ".", "..") or "/" in name or os.sep in name or "\0" in name:
        raise FolderError(f"{name!r} cannot be the name of a study folder: expected one name, without slashes")
    return parent / name


def is_study_folder(path: Path) -> bool:
    """Whether study.yaml and plan.jsonl are in the folder; raises FolderError where the folder cannot be read."""
    folder = StudyFolder(path)
    with path_errors(path, "read"):
        return folder.study.is_file() and folder.plan.is_file()


def study_and_trial(place: Path) -> tuple[Path, int | None]:
    """The study folder and the trial of DIR/TRIAL, also of DIR/trials/00018; None as the trial of DIR alone.

    Whether there is such a folder is not looked at, but that a study folder may have a number as its name.
    """
    if not place.name.isdecimal() or is_study_folder(place):
        return place, None
    return place.parent.parent if place.parent.name == "trials" else place.parent, int(place.name)


def seems_study_folder(path: Path) -> bool:
    """Whether the folder is a study folder, or was one and has lost its study.yaml or its plan.jsonl."""
    folder = StudyFolder(path)
    return is_study_folder(path) or (
        folder.trials.is_dir() and folder.provenance.is_file() and (folder.study.is_file() or folder.plan.is_file())
    )


def check_place(path: Path, advice: str = "; give another --dir") -> bool:
    """Whether there is a study folder at `path` already; False where one can be made. Changes nothing.

    One can also be made in a folder that a killed run has begun to make, and in one whose study was moved to `earlier`.
    `advice` is the end of the messages. Raises FolderError where `path` is a file, a folder with other files, or a
    study folder whose plan is missing, and where one of its files or folders is a link.
    """
    found = _is_there(path, advice)
    _refuse_links(StudyFolder(path))
    return found


def _refuse_links(folder: StudyFolder) -> None:
    """Raise FolderError for a link in the place of a study's file: its target would be read, written or removed."""
    places = [(place, _any_name) for place in (folder.trials, folder.offered, folder.claimed)]
    for path, is_ours in ((folder.path, _is_ours), *places):
        try:
            links = [entry.name for entry in _entries(path, is_ours) if entry.is_symlink()]
        except OSError:
            continue  # it is missing, or reading it later raises the error
        if links:
            raise FolderError(
                f"{path / links[0]}: is a link, and no link inside a study folder is followed; remove it, or replace "
                "it by its target"
            )


def _any_name(_name: str) -> bool:
    return True


def _is_ours(name: str) -> bool:
    return name in _OURS or _ALSO_OURS.fullmatch(name) is not None


def _is_there(path: Path, advice: str) -> bool:
    try:
        entries = {entry.name for entry in path.iterdir()}
    except FileNotFoundError:
        if broken := broken_link(path):
            raise FolderError(f"{path}: {broken}{advice}") from None
        return False
    except NotADirectoryError:
        raise FolderError(f"{path}: is a file, not a folder{advice}") from None
    except OSError as error:
        raise path_error(path, "read", error) from error
    if is_study_folder(path):
        return True
    if is_being_set_aside(path):
        return False
    folder = StudyFolder(path)
    files = (folder.study, folder.points, folder.earlier_trials, folder.procedure)
    locks = {folder.lock.name, folder.claim.name}
    begun = {*locks, folder.trials.name, folder.plan.name, *(file.name for file in files)}
    entries = {name for name in entries if target_of(name) not in {*begun, _PROBE}}
    # These stay in a folder whose study was moved to `earlier`.
    if folder.earlier.is_dir():
        entries -= {folder.earlier.name, folder.provenance.name, folder.uncommitted.name, folder.looks.name}
        entries -= {folder.events.name, folder.requests.name}  # the numbers of the events go on
    if entries <= locks or (folder.trials.name in entries and entries <= begun and _is_empty(folder.trials)):
        return False
    if folder.study.is_file() and folder.trials.is_dir():
        raise FolderError(f"{path}: is a study folder, but its {folder.plan.name} is missing{advice}")
    raise FolderError(f"{path}: is not empty and is not a study folder{advice}")


def _is_empty(path: Path) -> bool:
    try:
        return not any(path.iterdir())
    except OSError:
        return False


def create(path: Path, study_text: str) -> StudyFolder:
    """Make a study folder with its study file; the caller writes its plan next.

    Raises FolderError where `check_place` does, where it is a study folder already, and where it cannot be written.
    """
    if check_place(path):
        raise FolderError(f"{path}: is a study folder already")
    folder = StudyFolder(path)
    with path_errors(path, "created"):
        # In this order: a folder with study.yaml and no `trials` is the user's own, not a study folder.
        folder.path.mkdir(parents=True, exist_ok=True)
        real_folders.made(folder.trials, folder.path)
        write_bytes(folder.study, study_text.encode("utf-8", "surrogatepass"))
    return folder


def open_folder(path: Path) -> StudyFolder:
    """The study folder at `path`; raises FolderError where there is none."""
    if check_place(path, advice=_what_may_be_meant(path)):
        return StudyFolder(path)
    raise FolderError(f"{path}: is not a study folder (study.yaml and plan.jsonl are missing)")


def _what_may_be_meant(path: Path) -> str:
    """The end of a message about a path that is no study folder: the study folder that may be meant."""
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return "; expected its study folder: runs/NAME, with the file's `study: NAME`, unless --dir named another one"
    try:
        inside = sorted(item for item in path.iterdir() if (item / "plan.jsonl").is_file() and is_study_folder(item))
    except (OSError, FolderError):
        return ""
    return (
        f"; expected one of the study folders in it: {first_listed(list(map(str, inside)), _MOST_NAMED)}"
        if inside
        else ""
    )


def can_become_study(path: Path) -> bool:
    """Whether no study folder is at `path`, and a run can make one there."""
    try:
        return not check_place(path)
    except FolderError:
        return False


def refuse_procedure(folder: StudyFolder) -> None:
    """Raise UsageError for the folder of a procedure, whose trials are those of no search."""
    if folder.procedure.exists():
        raise UsageError(
            f"{folder.path}: expected the folder of a study, got that of a procedure (it has {folder.procedure.name})"
        )


def read_study_text(folder: StudyFolder) -> str:
    """The study file as it was when the folder was made; raises FolderError where it cannot be read."""
    try:
        return regular_files.content(folder.study).decode("utf-8")
    except UnicodeDecodeError:
        raise FolderError(f"{folder.study}: is damaged: it is not UTF-8 text") from None
    except OSError as error:
        raise path_error(folder.study, "read", error) from error


def check_writable(folder: StudyFolder) -> None:
    """Raise FolderError where a file that a run writes at its end cannot be written; leaves no file there.

    Else a file or folder in the place of a table or of the page would be found when all trials have been trained.
    """
    for path, is_written in (
        (folder.path, _is_ours),
        (folder.tables, lambda name: name.endswith(_TABLES)),
        (folder.plots, lambda name: name.endswith(_PLOTS)),
    ):
        with path_errors(path, "written"):
            for entry in _entries(path, is_written):
                _refuse_other_kind(entry, is_folder=path == folder.path and entry.name in _FOLDERS)
            if path.exists():
                try_to_write(path, _PROBE)


def _entries(path: Path, is_wanted: Callable[[str], bool]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return sorted((entry for entry in entries if is_wanted(entry.name)), key=lambda entry: entry.name)
    except (FileNotFoundError, PermissionError):
        return []  # a folder that cannot be listed may still be writable


def _refuse_other_kind(entry: os.DirEntry[str], *, is_folder: bool) -> None:
    is_right = entry.is_dir(follow_symlinks=False) if is_folder else entry.is_file(follow_symlinks=False)
    if is_right:
        return
    mode = entry.stat(follow_symlinks=False).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        what = "is a file, not a folder" if is_folder else "is a folder, not a file"
        raise FolderError(f"{entry.path}: {what}; move it away, or give another --dir")
    raise FolderError(f"{entry.path}: {real_folders.not_regular(mode, Path(entry.path)).strerror}; remove it")
