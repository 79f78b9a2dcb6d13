"""The folder of a campaign: how it is found, how its rounds become study folders, and how its file is added to."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunectl.core import regular_files
from tunectl.core.errors import FolderError, PathKey, StudyError, TunectlError, UsageError
from tunectl.core.files import write_bytes
from tunectl.core.folders import StudyFolder
from tunectl.core.path_errors import path_errors
from tunectl.language.campaign import CAMPAIGN_FILE, Campaign, read_campaign
from tunectl.language.document import parse_document
from tunectl.language.study_edit import EditingError, with_item, with_value
from tunectl.language.study_reader import load_study
from tunectl.session.open_study import study_in
from tunectl.store.provenance import original_study_file
from tunectl.store.study_folder import is_study_folder
from tunectl.store.writing_lock import folder_lock

_MARK = b"\xef\xbb\xbf"
_HOW_TO_BEGIN = """\
write such a file to begin a campaign, for example:
  goal: the lowest validation error of a small network
  rounds: [first.yaml]"""


@dataclass(frozen=True, slots=True)
class FoundCampaign:
    """The folder of a campaign, and in a few words how it was found."""

    folder: Path
    how: str


def find_campaign(given: Path | None, study: StudyFolder | None = None) -> FoundCampaign:
    """The campaign that is `given` (its folder or file), else that of a study folder, else that of the current folder.

    That of a study folder is in the folder of the study's own file, where that is in or below the current folder:
    what a study folder from someone else says does not decide where to write. Else the current folder and those above
    it are looked through. Raises UsageError where there is none.
    """
    if given is not None:
        folder = given.parent if given.name == CAMPAIGN_FILE and not given.is_dir() else given
        if not (folder / CAMPAIGN_FILE).is_file():
            raise UsageError(f"{folder}: has no {CAMPAIGN_FILE}; {_HOW_TO_BEGIN}")
        return FoundCampaign(folder, "as given")
    original = original_study_file(study) if study is not None else None
    here = Path.cwd()
    beside = original.parent if original is not None else None
    if beside is not None and (beside / CAMPAIGN_FILE).is_file() and beside.resolve().is_relative_to(here.resolve()):
        return FoundCampaign(Path(os.path.relpath(beside)), "beside the study file")
    for above in (here, *here.parents):
        if (above / CAMPAIGN_FILE).is_file():
            where = "the current folder" if above == here else "a folder above the current one"
            return FoundCampaign(Path() if above == here else above, where)
    places, name = ("beside the study file, ", " with --campaign") if study is not None else ("", "")
    raise UsageError(
        f"no campaign found: there is no {CAMPAIGN_FILE} {places}in the current folder or above it;\n"
        f"name its folder{name}, or {_HOW_TO_BEGIN}"
    )


@contextlib.contextmanager
def locked_campaign(folder: Path, say: Callable[[str], None]) -> Iterator[Campaign]:
    """Read the campaign and keep other processes from adding to it during the block; raises StudyError."""
    with folder_lock(folder, f"its {CAMPAIGN_FILE}", say):
        yield read_campaign(folder)


def add_to_campaign(campaign: Campaign, added: list[tuple[str, Any]]) -> Path:
    """Add items to lists of the campaign's file, each as (key, item), and keep all else in it; return its path.

    The file is replaced at once or not at all. Raises FolderError where it has changed since it was read, cannot be
    added to, or cannot be written.
    """
    text = campaign.document.text
    try:
        for key, item in added:
            text = with_item(text, key, item)
    except EditingError as error:
        raise FolderError(f"{campaign.folder / CAMPAIGN_FILE}: {error}") from error
    return _replace(campaign, text)


def changed_campaign(campaign: Campaign, changes: Sequence[tuple[PathKey, str]]) -> Path:
    """Change values in the campaign's file, each as (path, value), and keep all else in it; as `add_to_campaign`."""
    text = campaign.document.text
    try:
        for where, value in changes:
            text = with_value(text, where, value)
    except EditingError as error:
        raise FolderError(f"{campaign.folder / CAMPAIGN_FILE}: {error}") from error
    return _replace(campaign, text)


def _replace(campaign: Campaign, text: str) -> Path:
    path = campaign.folder / CAMPAIGN_FILE
    parse_document(text, str(path))
    with path_errors(path, "written"):
        now = regular_files.content(path)
        marked = now.startswith(_MARK)
        if now.removeprefix(_MARK) != campaign.document.text.encode("utf-8", "surrogatepass"):
            raise FolderError(f"{path}: has been changed meanwhile; nothing was written, call the command again")
        write_bytes(path, (_MARK if marked else b"") + text.encode("utf-8", "surrogatepass"))
    return path


def path_in(campaign: Campaign, place: str) -> Path:
    """A path of the campaign's file, from the current folder."""
    return campaign.folder / place


def in_campaign(campaign: Campaign, path: Path) -> str:
    """A path as the campaign's file has it: relative to its folder, where it is in the same file tree."""
    return Path(os.path.relpath(path.absolute(), campaign.folder.absolute())).as_posix()


@dataclass(frozen=True, slots=True)
class Round:
    """A round of a campaign: what its file names, its study folder, and why there is none or it cannot be read."""

    named: str
    folder: Path | None = None
    problem: str = ""


def rounds_of(campaign: Campaign) -> list[Round]:
    """The rounds with their study folders, in their order.

    A study file's folder is `runs/<study>` in the folder of the campaign, of the file, or the current one.
    """
    return [_round(campaign, named) for named in campaign.rounds]


def _round(campaign: Campaign, named: str) -> Round:
    path = path_in(campaign, named)
    try:
        if path.is_dir():
            is_study = is_study_folder(path)
            return Round(named, path) if is_study else Round(named, problem="is no study folder")
        if not path.exists():
            return Round(named, problem="not found")
        study = load_study(path).name
        for parent in dict.fromkeys((campaign.folder, path.parent, Path())):
            place = parent / "runs" / study
            if place.is_dir() and is_study_folder(place) and study_in(StudyFolder(place)).name == study:
                return Round(named, place)
    except StudyError as error:
        return Round(named, problem=str(error).splitlines()[0])
    except (TunectlError, OSError) as error:
        return Round(named, problem=str(error))
    return Round(named, problem="not run yet")
