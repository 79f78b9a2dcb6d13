"""provenance.json: command, versions, git state and file hashes of each run that trained something."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module, metadata
from itertools import chain, count
from pathlib import Path
from typing import Any, ClassVar

from tunectl.core import real_folders, record_checksums, regular_files, typed_fields
from tunectl.core.files import write_bytes, write_if_changed
from tunectl.core.folders import StudyFolder
from tunectl.core.path_errors import path_errors, path_message
from tunectl.core.records import DiffExtent
from tunectl.store.git_repository import describe_repository

PROVENANCE_FORMAT = 1
_PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "pandas", "pyarrow")


@dataclass(frozen=True, slots=True)
class _RecordedFile:
    MAY_HAVE_MORE: ClassVar[bool] = True
    path: str
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class _RecordedGit:
    MAY_HAVE_MORE: ClassVar[bool] = True
    repository: str | None = None
    commit: str | None = None
    branch: str | None = None
    dirty: bool | None = None


@dataclass(frozen=True, slots=True)
class _RecordedRun:
    """The fields of an entry of provenance.json that tunectl reads."""

    MAY_HAVE_MORE: ClassVar[bool] = True
    time: str | None = None
    command: tuple[str, ...] | None = None
    folder: str | None = None
    study_file: _RecordedFile | None = None
    workload_file: _RecordedFile | None = None
    git: _RecordedGit | None = None
    uncommitted_sha256: str | None = None
    code_files: tuple[_RecordedFile, ...] = ()
    backend: str | None = None
    backend_given: bool | None = None
    runner: str | None = None


@dataclass(frozen=True, slots=True)
class RunBackend:
    """The backend of a run by its `name`. `is_given`: the command named it, in place of the study file. `runner` is the
    mark of the process, by which the lock of the study folder names it.
    """

    name: str
    is_given: bool = False
    runner: str = ""


@dataclass(frozen=True, slots=True)
class RunDescription:
    """One run: its entry in provenance.json, and the text of uncommitted.diff (empty without changes or repository)."""

    entry: dict[str, Any]
    uncommitted: bytes = b""


def describe_run(
    command: Sequence[str],
    *,
    workload_file: Path | None,
    study_file: Path | None,
    study_folder: Path,
    now: datetime,
    uncommitted_diff: DiffExtent = "folders",
    code_files: Sequence[Path] = (),
    backend: RunBackend | None = None,
) -> RunDescription:
    """Describe a run that starts now; never raises, what cannot be found is None.

    The git repository is that of the workload's file, else that of the study file; changes in the study folder are left
    out. `uncommitted_diff` says which changes are kept. `now` has a time zone. `code_files` are those of the study's
    own optimizers and schedules; the entry has them only where there are some, and the `backend` where one trains.
    """
    folders = [file.parent for file in (workload_file, study_file, *code_files) if file is not None]
    found = describe_repository(folders, study_folder, uncommitted_diff)
    git, uncommitted = found.entry, found.uncommitted
    entry: dict[str, Any] = {
        "time": now.isoformat(timespec="seconds"),
        "command": [str(word) for word in command],
        "folder": _working_folder(),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "versions": installed_versions(),
        "study_file": _describe_file(study_file),
        "workload_file": _describe_file(workload_file),
        "git": git,
        "uncommitted_sha256": hashlib.sha256(uncommitted).hexdigest() if uncommitted else None,
    }
    if code_files:
        entry["code_files"] = [_describe_file(file) for file in code_files]
    if backend is not None:
        entry |= {"backend": backend.name, "backend_given": backend.is_given, "runner": backend.runner}
    return RunDescription(entry, uncommitted)


def installed_versions() -> dict[str, str | None]:
    """The versions of tunectl and of the libraries on which results may depend; None for one that is not found."""
    return {"tunectl": import_module("tunectl").__version__, **{name: _version(name) for name in _PACKAGES}}


def append_provenance(folder: StudyFolder, run: RunDescription) -> Path | None:
    """Add a run to provenance.json and write its changes to uncommitted.diff, each atomically.

    A damaged provenance.json is renamed, and its new path returned; None where it was sound. Raises FolderError where
    the folder cannot be written.
    """
    damaged = None
    with path_errors(folder.provenance, "written"):
        content = _content(folder.provenance)
        if content is None and folder.provenance.is_file():
            damaged = _free_place(folder.provenance)
            real_folders.move(folder.provenance, damaged, folder.path)
        runs = [*(content or []), run.entry]
        text = record_checksums.sealed(json.dumps({"format": PROVENANCE_FORMAT, "runs": runs}, indent=2))
        write_if_changed(folder.uncommitted, run.uncommitted)
        write_bytes(folder.provenance, text + b"\n")
    return damaged


def _free_place(path: Path) -> Path:
    """A free name for a damaged file: `.damaged`, `.damaged.2` and so on."""
    first = path.with_name(f"{path.name}.damaged")
    names = chain([first], (first.with_name(f"{first.name}.{number}") for number in count(2)))
    return next(place for place in names if not os.path.lexists(place))


def read_provenance(folder: StudyFolder) -> list[dict[str, Any]]:
    """The entries of the runs so far, oldest first; [] where provenance.json is missing or cannot be read."""
    try:
        return _content(folder.provenance) or []
    except OSError:
        return []


def provenance_damage(folder: StudyFolder, *, has_trained: bool) -> str:
    """What is wrong with provenance.json, "" where nothing is."""
    try:
        _read(folder.provenance)
    except FileNotFoundError:
        return f"{folder.provenance}: is missing" if has_trained else ""
    except OSError as error:
        return path_message(folder.provenance, "read", error)
    except typed_fields.DamagedError as error:
        return f"{folder.provenance}: is damaged ({error})"
    return ""


def last_own_run(runs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The last run that reproduces the study, empty without any: the command of a retrain does not."""
    own = [run for run in runs if "retrain" not in (run.get("command") or ())[1:2]]
    return own[-1] if own else {}


def last_backend(folder: StudyFolder) -> str:
    """The backend of the last run of a study, "" where that is not known; that of a retrain does not count."""
    return str(last_own_run(read_provenance(folder)).get("backend") or "")


def backend_option(folder: StudyFolder) -> tuple[str, ...]:
    """What a command needs so that a study goes on where it was run last: `--backend` and its name where the last run
    named one on the command line, else nothing.
    """
    last = last_own_run(read_provenance(folder))
    return ("--backend", str(last["backend"])) if last.get("backend_given") and last.get("backend") else ()


def command_of(run: Mapping[str, Any]) -> str:
    """The command of a run for a shell in any folder, "" where it is not known."""
    words = [str(word) for word in run.get("command") or ()]
    if not words:
        return ""
    words[0] = Path(words[0]).name
    folder = run.get("folder")
    return (f"cd {shlex.quote(str(folder))} && " if folder else "") + shlex.join(words)


def has_uncommitted_changes(run: Mapping[str, Any]) -> bool | None:
    """Whether the repository of a run had uncommitted changes, kept or not; None where this is not known."""
    git = run.get("git")
    if not git:
        return None
    return bool(run.get("uncommitted_sha256") or git.get("dirty"))


def original_study_file(folder: StudyFolder) -> Path | None:
    """The study file of the last run in a folder; None where it is not known, or is not there any more."""
    for run in reversed(read_provenance(folder)):
        original = (run.get("study_file") or {}).get("path")
        if isinstance(original, str) and Path(original).is_file():
            return Path(original)
    return None


def file_sha256(path: Path | None) -> str | None:
    """The SHA-256 of a file's content in hexadecimal; None where the file is missing or cannot be read."""
    if path is None:
        return None
    try:
        with regular_files.opened(path, follows=True) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def workload_hash_changed(folder: StudyFolder, workload_file: Path | None) -> bool:
    """Whether the workload's file has changed since the last run; False where either hash is not known."""
    now = file_sha256(workload_file)
    recorded = [
        entry["workload_file"].get("sha256")
        for entry in read_provenance(folder)
        if isinstance(entry.get("workload_file"), dict)
    ]
    known = [sha256 for sha256 in recorded if sha256]
    return bool(known) and now is not None and known[-1] != now


def changed_code(folder: StudyFolder, files: Sequence[Path]) -> list[Path]:
    """Those of a study's own optimizers' and schedules' files that have changed since they were last recorded."""
    recorded: dict[str, str | None] = {}
    for entry in read_provenance(folder):
        recorded |= {item["path"]: item.get("sha256") for item in entry.get("code_files", ())}
    hashes = {file: file_sha256(file) for file in files}
    return [file for file, now in hashes.items() if now and recorded.get(str(file)) not in (None, now)]


def _content(path: Path) -> list[dict[str, Any]] | None:
    """The runs in a provenance file; None where it is missing or damaged."""
    try:
        return _read(path)
    except (FileNotFoundError, typed_fields.DamagedError):
        return None


def _read(path: Path) -> list[dict[str, Any]]:
    """The runs in a provenance file; raises DamagedError where it is damaged."""
    runs: Any = typed_fields.sealed_object(regular_files.content(path)).get("runs")
    typed_fields.typed(tuple[_RecordedRun, ...], runs, "runs")
    return list(runs)


def _describe_file(path: Path | None) -> dict[str, str | None] | None:
    return None if path is None else {"path": str(path), "sha256": file_sha256(path)}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except Exception:  # whatever a broken installation raises: a run must not fail because of its description
        return None


def _working_folder() -> str | None:
    try:
        return str(Path.cwd())
    except OSError:
        return None
