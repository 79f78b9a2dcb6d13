"""`logs`: the output of a trial on stdout and stderr, also while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from tunectl.core import regular_files
from tunectl.core.errors import FolderError, UsageError
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.log_reader import seek_last_lines
from tunectl.core.path_errors import path_error
from tunectl.core.records import State, is_ended
from tunectl.execution.runner_lock import is_held
from tunectl.store.plan_file import read_plan
from tunectl.store.study_folder import open_folder
from tunectl.store.trial_files import read_trial, trial_state

_BLOCK_BYTES = 1 << 16
_POLL_SECONDS = 0.2


def trial_log(
    place: Path,
    trial: int,
    *,
    last_lines: int | None = None,
    follow: bool = False,
    wait: Callable[[], None] = lambda: time.sleep(_POLL_SECONDS),
) -> Iterator[bytes]:
    """The log of a trial in the study folder at `place`, in pieces: all of it, or its `last_lines`.

    With `follow` the pieces that are added later follow, until the trial has ended or no runner is at work any more;
    `wait` is called between two reads. Raises FolderError where there is no study or no log, UsageError where the study
    has no such trial.
    """
    folder = open_folder(place)
    planned = read_plan(folder.plan)
    if not any(item.trial == trial for item in planned):
        last = max((item.trial for item in planned), default=-1)
        expected = f"expected one from 0 to {last}" if planned else "the study has no trials yet"
        raise UsageError(f"{place}: trial {trial} not found: {expected}")
    return _pieces(folder, trial, last_lines, follow, wait)


def trial_end(place: Path, trial: int) -> tuple[State, str, str]:
    """The state of a trial, its reason and its message."""
    return trial_state(read_trial(StudyFolder(place).trial(trial)))


def _pieces(
    folder: StudyFolder, trial: int, last_lines: int | None, follow: bool, wait: Callable[[], None]
) -> Iterator[bytes]:
    has_ended = _EndCheck(folder, trial)
    log = _opened(folder.trial(trial))
    while log is None:
        # Checked before the log is opened again: a trial may begin and end in between.
        if not follow or has_ended():
            log = _opened(folder.trial(trial))
            if log is None:
                why = "" if is_held(folder.lock) else ", and no runner is at work"
                raise FolderError(f"{folder.path}: trial {trial} has not begun{why}")
            break
        wait()
        log = _opened(folder.trial(trial))
    with log:
        if last_lines is not None:
            seek_last_lines(log, last_lines)
        while True:
            # Checked before the last piece is read, so that everything written before the end is shown.
            ended = not follow or has_ended()
            yield from iter(lambda: log.read(_BLOCK_BYTES), b"")
            if ended:
                return
            wait()


class _EndCheck:
    """Whether a trial has ended, or neither a runner nor a worker of the trial is at work.

    The trial's files are read only where they have changed.
    """

    def __init__(self, folder: StudyFolder, trial: int) -> None:
        self.folder, self.trial = folder, trial
        self.stamp: object = None

    def __call__(self) -> bool:
        home = self.folder.trial(self.trial)
        is_left = home != self.folder.home(self.trial)
        if not is_left and not is_held(self.folder.lock):
            return True
        stamp = [_stamp(home.result), _stamp(home.attempts)]
        if stamp == self.stamp:
            return False
        self.stamp = stamp
        state, reason, _ = trial_state(read_trial(home))
        return is_ended(state, reason)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _opened(home: TrialFolder) -> BinaryIO | None:
    try:
        return regular_files.opened(home.log, within=home.study)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise path_error(home.log, "read", error) from error
