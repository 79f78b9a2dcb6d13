"""Claims of workers that died: the runner takes the trial back, and shuts the old worker out, which may come back.

1. The claimed folder gets another name: from then on every path of the old worker leads nowhere.
2. A new folder is made with the trial's files. What the old worker has open, files and folders, is not in it.
3. The new folder is moved to `trials`, and the old one is removed.

After a kill at any moment `finish_taking_back` does the rest.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tunectl.core import real_folders, regular_files
from tunectl.core.files import target_of
from tunectl.core.folder_copies import copy_folder
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.path_errors import path_errors
from tunectl.core.typed_fields import DamagedError, sealed_object
from tunectl.store.claimed_trials import ClaimedTrial
from tunectl.store.offered_trials import home_folder, listed_names

_LEFT = re.compile(r"(?P<claim>(?P<trial>\d{5,12})\.[A-Za-z0-9_-]+)(?P<suffix>\.lost|\.new|\.gone)?")
_OF_CLAIM = frozenset(path.name for path in (TrialFolder(Path()).beat, TrialFolder(Path()).stop_request))


class _Steps(NamedTuple):
    """The names of a claim's folder while it is taken back."""

    study: StudyFolder
    trial: int
    claim: str

    @property
    def lost(self) -> Path:
        """The old folder, until the new one is in its place."""
        return self.study.claimed / f"{self.claim}.lost"

    @property
    def new(self) -> Path:
        """The new folder while it is filled."""
        return self.study.claimed / f"{self.claim}.new"

    @property
    def gone(self) -> Path:
        """The old folder while it is removed."""
        return self.study.claimed / f"{self.claim}.gone"


def take_back(claimed: ClaimedTrial) -> bool:
    """Take a trial back from a worker that does not beat any more; False where it was given back meanwhile.

    The trial's folder is then in `trials`, with offer.json, and with claim.json and ended.json as far as the worker
    wrote them. Raises FolderError where a file cannot be read or written.
    """
    steps = _Steps(claimed.study, claimed.trial, claimed.name)
    with path_errors(claimed.folder.path, "replaced"):
        try:
            if not steps.lost.is_dir():  # an earlier call could not write the new folder
                real_folders.move(claimed.folder.path, steps.lost, claimed.study.path)
        except FileNotFoundError:
            return False
    _replace(steps)
    return True


def finish_taking_back(study: StudyFolder) -> None:
    """Finish what a killed runner has begun to take back, and remove what old workers have left.

    Only by the process that holds the study's lock. Raises FolderError.
    """
    for name in listed_names(study, study.claimed.name):
        match = _LEFT.fullmatch(name)
        if match is None:
            continue
        steps = _Steps(study, int(match["trial"]), match["claim"])
        if match["suffix"] == ".lost":
            _replace(steps)
        elif match["suffix"] is not None or _is_remnant(study.claimed / name, study):
            _remove(study.claimed / name, steps)


def _replace(steps: _Steps) -> None:
    """Put a new folder with the files of the lost one into `trials`, and remove the lost one."""
    study, home = steps.study, home_folder(steps.study, steps.trial)
    if not _is_remnant(steps.lost, study):
        with path_errors(steps.new, "written"):
            real_folders.remove_all(steps.new, study.path)
            _copy_trial(steps.lost, steps.new, study)
        with path_errors(home.path, "replaced"):
            try:
                real_folders.move(steps.new, home.path, study.path)
            except OSError as error:
                # It is in its place already: the runner was killed before the old folder could be removed.
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
    _remove(steps.new, steps)
    _remove(steps.lost, steps)


def _is_remnant(folder: Path, study: StudyFolder) -> bool:
    """Whether a worker's code has made this folder again after its trial was taken back: it has no request."""
    trial = TrialFolder(folder)
    try:
        return not {trial.request.name, trial.offer.name} & set(real_folders.names(folder, study.path))
    except OSError:
        return False


def _remove(folder: Path, steps: _Steps) -> None:
    """Remove a folder. On a file server some files may stay until the old worker closes them: they only take space."""
    with contextlib.suppress(OSError):
        # The name says that it is only to be removed: half of it must not count as a trial.
        if folder != steps.gone:
            real_folders.remove_all(steps.gone, steps.study.path)
            real_folders.move(folder, steps.gone, steps.study.path)
        real_folders.remove_all(steps.gone, steps.study.path)


def _copy_trial(source: Path, target: Path, study: StudyFolder) -> None:
    """Make a folder with the files of a trial, without unfinished ones.

    The checkpoints of a workload are written whole and by a rename, and so may be linked. All else is copied: the old
    worker may still have it open.
    """
    trial = TrialFolder(source)
    whole = {trial.resume.name, trial.previous_resume.name}
    may_link = _is_of_workload(trial)

    def left_out(place: Sequence[str]) -> bool:
        is_ours = len(place) == 1 or place[0] == trial.checkpoints.name
        return place[0] in _OF_CLAIM or (is_ours and target_of(place[-1]) is not None)

    copy_folder(
        source,
        target,
        study.path,
        left_out=left_out,
        linked=lambda place: may_link and (place[0] in whole or place[0] == trial.checkpoints.name),
        # What a trial goes on from counts bytes of the other files, which must be there.
        first=lambda place: place[0] in whole,
    )


def _is_of_workload(trial: TrialFolder) -> bool:
    try:
        content = sealed_object(regular_files.content(trial.request, within=trial.study))
    except (OSError, DamagedError):
        return False
    return content.get("kind") == "workload"
