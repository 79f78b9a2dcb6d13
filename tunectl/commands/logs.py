"""`logs`: what a trial wrote to stdout and stderr, also while it runs."""

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
from tunectl.core.records import ENDED, State
from tunectl.execution.runner_lock import is_held
from tunectl.store.plan_file import read_plan
from tunectl.store.study_folder import open_folder
from tunectl.store.trial_files import read_trial, trial_state

_BLOCK_BYTES = 1 << 16
_LOOK_SECONDS = 0.2


def trial_log(
    place: Path,
    trial: int,
    *,
    last_lines: int | None = None,
    follow: bool = False,
    wait: Callable[[], None] = lambda: time.sleep(_LOOK_SECONDS),
) -> Iterator[bytes]:
    """The log of a trial of the study folder at `place` in pieces as they stand in the file: all of it, or its
    `last_lines` alone.

    With `follow` it goes on with what is added until the trial has ended or nobody runs the study any more; `wait`
    passes the time between two looks. Raises FolderError where there is no study, and where there is no log and none
    can be waited for; UsageError where the study has no such trial.
    """
    folder = open_folder(place)
    planned = read_plan(folder.plan)
    if not any(item.trial == trial for item in planned):
        last = max((item.trial for item in planned), default=-1)
        held = f"its trials are 0 to {last}" if planned else "its plan holds none yet"
        raise UsageError(f"{place}: there is no trial {trial}: {held}")
    return _pieces(folder, trial, last_lines, follow, wait)


def trial_end(place: Path, trial: int) -> tuple[State, str, str]:
    """How the trial stands: its state, the reason and the message."""
    return trial_state(read_trial(StudyFolder(place).trial(trial)))


def _pieces(
    folder: StudyFolder, trial: int, last_lines: int | None, follow: bool, wait: Callable[[], None]
) -> Iterator[bytes]:
    home, over = folder.trial(trial), _Over(folder, trial)
    log = _opened(home)
    while log is None:
        # Asked before the log is looked for again: a trial may begin and end in between.
        if not follow or over():
            log = _opened(home)
            if log is None:
                raise FolderError(f"{home.log}: there is no log: trial {trial} {_unlogged(folder)}")
            break
        wait()
        log = _opened(home)
    with log:
        if last_lines is not None:
            seek_last_lines(log, last_lines)
        while True:
            # Asked before the last piece is read: what was written before the end is shown.
            ended = not follow or over()
            yield from iter(lambda: log.read(_BLOCK_BYTES), b"")
            if ended:
                return
            wait()


class _Over:
    """Whether nothing more will be written to a trial's log; its files are read where they have changed."""

    def __init__(self, folder: StudyFolder, trial: int) -> None:
        self.folder, self.home = folder, folder.trial(trial)
        self.stamp: object = None

    def __call__(self) -> bool:
        if not is_held(self.folder.lock):
            return True
        stamp = [_stamp(self.home.result), _stamp(self.home.attempts)]
        if stamp == self.stamp:
            return False
        self.stamp = stamp
        return trial_state(read_trial(self.home))[0] in ENDED


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


def _unlogged(folder: StudyFolder) -> str:
    return "has not begun yet" if is_held(folder.lock) else "has not begun, and no runner is at work"
