"""`rename` and `mv`: a study gets another name, or its folder another place, and campaigns that name it follow."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunectl.core import real_folders, regular_files
from tunectl.core.errors import FolderError, PathKey, StudyError, TunectlError
from tunectl.core.files import flush_file, flush_folder, temporary_folder, write_bytes, write_if_changed
from tunectl.core.folders import StudyFolder
from tunectl.core.path_errors import path_errors
from tunectl.core.proposed_commands import tunectl_command
from tunectl.language.campaign import CAMPAIGN_FILE
from tunectl.language.study_edit import EditingError, with_value
from tunectl.language.study_reader import load_study, parse_study
from tunectl.language.study_spec import StudySpec
from tunectl.session.campaign_folder import changed_campaign, in_campaign
from tunectl.session.continuing_command import continuing_command
from tunectl.session.damage import note_study_file
from tunectl.session.naming_folders import NamingCampaign, NamingFolder, naming_campaigns, naming_folders
from tunectl.session.open_study import study_in
from tunectl.session.run_requests import resting
from tunectl.store.index import Index
from tunectl.store.provenance import original_study_file
from tunectl.store.study_folder import open_folder, refuse_procedure, study_path
from tunectl.store.writing_lock import folder_lock


@dataclass(frozen=True, slots=True)
class Moved:
    """The old and the new place of a study's folder, its name, and lines about what names the old one."""

    old: Path
    new: Path
    study: str
    lines: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The move as one JSON object."""
        return {"old": str(self.old), "folder": str(self.new), "study": self.study, "lines": list(self.lines)}


def rename_study(place: Path, name: str) -> Moved:
    """Give a study another name, and its folder the same one beside its old place.

    After a kill the same call goes on. Raises StudyError for a name that a study cannot have, UsageError for the folder
    of a procedure, and FolderError where a run is at work, the new place is taken, or a folder cannot be written.
    """
    folder = _whole(place)
    refuse_procedure(folder)
    new = study_path(folder.path.parent, name)
    if new != folder.path and os.path.lexists(new):
        raise FolderError(f"{new}: is there already; give another name")
    with resting(folder, "rename it"):
        spec = study_in(folder)
        text = _with_name(folder, spec, name)
        lines = _moved(folder, new, lambda: _write_study(folder, text))
    lines += _on_going_on(StudyFolder(new), name)
    if spec.name != name and any(new.glob("report*.html")):
        lines.append(f"`{tunectl_command('report', new)}` writes its page with the new name")
    beside = new.parent.glob(f"{glob.escape(spec.name)}.*") if spec.name != name else ()
    procedures = sorted(path.name for path in beside if path.is_dir())
    if procedures:
        lines.append(f"folders of its procedures keep their names: {', '.join(procedures)}")
    return Moved(folder.path, new, name, tuple(lines))


def _with_name(folder: StudyFolder, spec: StudySpec, name: str) -> str:
    """The text of the study with another name; raises StudyError for a name that a study cannot have."""
    if spec.name == name:
        return spec.text
    try:
        text = with_value(spec.text, ("study",), name)
    except EditingError as error:
        raise FolderError(f"{folder.study}: {error}") from error
    parse_study(text, folder.study, name, folder.points)
    return text


def _write_study(folder: StudyFolder, text: str) -> None:
    with path_errors(folder.study, "written"):
        is_new = write_if_changed(folder.study, text.encode("utf-8", "surrogatepass"), within=folder.path)
    if is_new and folder.index.is_file():
        with Index.open_for_writing(folder.index) as index:
            note_study_file(folder, index)


def move_study(place: Path, to: Path) -> Moved:
    """Move a study's folder to a place, or into the folder that is there.

    On another file system it is copied first, and removed when the copy is whole. Raises FolderError where a run is at
    work, the new place is taken, or a folder cannot be written.
    """
    folder = _whole(place)
    new = to / folder.path.absolute().name if to.is_dir() else to
    if os.path.lexists(new):
        raise FolderError(f"{new}: is there already; name a place that is free")
    if not new.parent.is_dir():
        raise FolderError(f"{new.parent}: there is no such folder")
    if new.parent.resolve().is_relative_to(folder.path.resolve()):
        raise FolderError(f"{new}: is inside the folder that is to be moved")
    with resting(folder, "move it"):
        name = study_in(folder).name
        lines = _moved(folder, new)
    return Moved(folder.path, new, name, (*lines, *_on_going_on(StudyFolder(new), name)))


def _on_going_on(moved: StudyFolder, name: str) -> list[str]:
    """How the study goes on in its new place, and what its file must say for that."""
    if moved.procedure.exists():
        return []
    original = original_study_file(moved)
    lines = []
    if original is not None and _name_in(original) != name:
        lines.append(f"write study: {name} in {os.path.relpath(original)}: with another name it is another study")
    return [*lines, f"`{continuing_command(moved)}` continues it"]


def _name_in(file: Path) -> str:
    """The name of the study in a file, "" where it has an error."""
    try:
        return load_study(file).name
    except (StudyError, OSError):
        return ""


def _whole(place: Path) -> StudyFolder:
    """The study folder at a place that is not a link to one."""
    if place.is_symlink():
        raise FolderError(f"{place}: is a link; name the folder itself, {place.resolve()}")
    return open_folder(place)


def _moved(folder: StudyFolder, new: Path, write: Callable[[], None] = lambda: None) -> list[str]:
    """Let the campaigns that name the folder follow, `write`, and move the folder; gives lines about what names it.

    In this order the same call goes on after a kill. Where the folder cannot be moved, the campaigns are as before.
    """
    campaigns, problems = naming_campaigns(folder)
    others = naming_folders(folder)
    with contextlib.ExitStack() as undo:
        lines = [_followed(named, new, undo) for named in campaigns]
        write()
        if new.absolute() != folder.path.absolute():
            _move(folder.path, new)
        undo.pop_all()
    lines += [f"warning: a campaign cannot be read, and may name it: {problem}" for problem in problems]
    return lines + [_of_other(named, new) for named in others]


def _move(old: Path, new: Path) -> None:
    with path_errors(new, "created"):
        try:
            _rename(old, new)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with temporary_folder(new) as made:
                shutil.copytree(old, made, symlinks=True, dirs_exist_ok=True)
                for place, _, names in os.walk(made):
                    for name in names:
                        if not (copied := Path(place, name)).is_symlink():
                            flush_file(copied)
                    flush_folder(Path(place))
                _rename(made, new)
            flush_folder(new.parent)
            real_folders.remove_all(old, old.parent)
        for parent in {old.parent, new.parent}:
            flush_folder(parent)


def _rename(old: Path, new: Path) -> None:
    with real_folders.opened(old.absolute().parent) as source, real_folders.opened(new.absolute().parent) as target:
        os.rename(old.absolute().name, new.absolute().name, src_dir_fd=source, dst_dir_fd=target)


def _followed(named: NamingCampaign, new: Path, undo: contextlib.ExitStack) -> str:
    """Write the new place to a campaign's file; gives a line about it, also where that cannot be done."""
    campaign = named.campaign
    at, file = in_campaign(campaign, new), campaign.folder / CAMPAIGN_FILE
    changes: list[tuple[PathKey, str]] = [(("rounds", number), at) for number in named.rounds]
    changes += [(("launched", number, "study"), at) for number in named.launched]
    if named.baseline and isinstance(campaign.baseline, str):
        changes.append((("baseline",), f"{at}/{Path(campaign.baseline).name}"))
    before = regular_files.content(file)
    try:
        with folder_lock(campaign.folder, f"its {CAMPAIGN_FILE}"):
            changed_campaign(campaign, changes)
    except TunectlError as error:
        return f"warning: {error}; write {at} there by hand"
    undo.callback(write_bytes, file, before)
    return f"{os.path.relpath(file)} names its new place, {at}"


def _of_other(named: NamingFolder, new: Path) -> str:
    where = os.path.relpath(named.folder.path)
    if named.is_finished:
        return f"{where} names its old place ({named.how}), and has all that it needs"
    return f"warning: {where} names its old place ({named.how}): write {new} in its study file"
