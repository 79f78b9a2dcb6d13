"""Claims of workers that died: the runner takes the trial back, and shuts the old worker out, which may come back.

1. The claimed folder gets another name: from then on every path of the old worker leads nowhere.
2. A new folder is made with the trial's files. What the old worker has open, files and folders, is not in it.
3. The new folder is moved to `trials`, and the old one is removed.

After a kill at any moment `finish_taking_back` does the rest.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
from pathlib import Path
from typing import NamedTuple

from tunectl.core import real_folders, regular_files
from tunectl.core.files import target_of
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.path_errors import path_errors
from tunectl.core.typed_fields import DamagedError, sealed_object
from tunectl.store.claimed_trials import ClaimedTrial
from tunectl.store.offered_trials import home_folder, listed_names

_LEFT = re.compile(r"(?P<claim>(?P<trial>\d{5,12})\.[A-Za-z0-9_-]+)(?P<suffix>\.lost|\.new|\.gone)?")
_OF_CLAIM = frozenset(path.name for path in (TrialFolder(Path()).beat, TrialFolder(Path()).stop_request))
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


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
        with real_folders.opened(folder, study.path) as opened:
            return not {trial.request.name, trial.offer.name} & set(_names(opened))
    except OSError:
        return False


def _names(folder: int) -> list[str]:
    listed = os.open(".", _LIST, dir_fd=folder)
    try:
        return os.listdir(listed)  # noqa: PTH208  (a descriptor)
    finally:
        os.close(listed)


def _remove(folder: Path, steps: _Steps) -> None:
    """Remove a folder. On a file server some files may stay until the old worker closes them: they only take space."""
    with contextlib.suppress(OSError):
        # The name says that it is only to be removed: half of it must not count as a trial.
        if folder != steps.gone:
            real_folders.remove_all(steps.gone, steps.study.path)
            real_folders.move(folder, steps.gone, steps.study.path)
        real_folders.remove_all(steps.gone, steps.study.path)


def _copy_trial(source: Path, target: Path, study: StudyFolder) -> None:
    """Make a folder with the files of a trial.

    What is appended to is copied: the old worker may still have it open. The checkpoints of a workload, which are
    written whole and by a rename, are linked where the file system has links.
    """
    trial = TrialFolder(source)
    links = _is_of_workload(trial)
    real_folders.made(target, study.path)
    with real_folders.opened(source, study.path) as old, real_folders.opened(target, study.path) as new:
        # First what a trial goes on from: it counts bytes of the other files, which must be there.
        resume = [path.name for path in (trial.resume, trial.previous_resume)]
        names = [name for name in _names(old) if name not in _OF_CLAIM and target_of(name) is None]
        for name in sorted(names, key=lambda name: (name not in resume, name != trial.checkpoints.name, name)):
            is_whole = links and name in (*resume, trial.checkpoints.name)
            _copy(name, old, new, is_whole=is_whole, at_top=name == trial.checkpoints.name)
        _flush(new)


def _is_of_workload(trial: TrialFolder) -> bool:
    try:
        content = sealed_object(regular_files.content(trial.request, within=trial.study))
    except (OSError, DamagedError):
        return False
    return content.get("kind") == "workload"


def _copy(name: str, old: int, new: int, *, is_whole: bool, at_top: bool = False) -> None:
    """Copy a file, a link or a folder between two open folders; what is gone meanwhile is left out."""
    with contextlib.suppress(FileNotFoundError):
        status = os.stat(name, dir_fd=old, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(name, dir_fd=new)
            _copy_folder(name, old, new, is_whole=is_whole, leaves_out=at_top)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=old), name, dir_fd=new)
        elif stat.S_ISREG(status.st_mode):
            if is_whole:
                with contextlib.suppress(OSError):
                    os.link(name, name, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)
                    return
            _copy_file(name, old, new, status)


def _copy_folder(name: str, old: int, new: int, *, is_whole: bool, leaves_out: bool) -> None:
    source = os.open(name, _LIST, dir_fd=old)
    try:
        target = os.open(name, _LIST, dir_fd=new)
        try:
            for entry in _names(source):
                if not leaves_out or target_of(entry) is None:
                    _copy(entry, source, target, is_whole=is_whole)
            _flush(target)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _copy_file(name: str, old: int, new: int, status: os.stat_result) -> None:
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(open(os.open(name, os.O_RDONLY | os.O_NONBLOCK | flags, dir_fd=old), "rb"))
        mode = stat.S_IMODE(status.st_mode) & 0o777
        made = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, mode, dir_fd=new)
        target = stack.enter_context(open(made, "wb"))
        shutil.copyfileobj(source, target, 2**20)
        target.flush()
        os.utime(target.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
        os.fsync(target.fileno())


def _flush(folder: int) -> None:
    """Make the names in an open folder durable, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(".", _LIST, dir_fd=folder)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
