"""Room on the disk: how much the trials of a study will write, and whether there is enough."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tunectl.core.errors import FolderError
from tunectl.core.path_errors import system_reason

_BYTES_PER_UPDATE = 80
"""The size of an update in steps.jsonl: three numbers of about 20 characters each, and a word."""

_MARGIN_BYTES = 16 * 2**20
"""For tables, logs, the index, and other files on the disk."""

_FILES_BESIDE_THE_BEST = 3
"""resume.pt, resume.previous.pt, and the temporary file of the one that is being written."""


@dataclass(frozen=True, slots=True)
class DiskNeed:
    """The bytes that the trials of a run will write, by the size of the checkpoints in the probe of the workload.

    `checkpoint_bytes` is the size of the largest one, 0 where none was measured; `kept` is the number of best
    checkpoints that a trial keeps, `at_once` the number of trials that run at a time, `trials` the number of trials
    that are left, `updates` the number of updates of all of them.
    """

    checkpoint_bytes: int
    kept: int
    at_once: int
    trials: int
    updates: int

    @property
    def to_begin(self) -> int:
        """The bytes that the trials which run at a time need."""
        return self.at_once * self._while_it_runs + _MARGIN_BYTES

    @property
    def to_go_on(self) -> int:
        """The bytes that one more trial needs."""
        return self._while_it_runs + _MARGIN_BYTES

    @property
    def _while_it_runs(self) -> int:
        return (self.kept + _FILES_BESIDE_THE_BEST) * self.checkpoint_bytes

    @property
    def in_all(self) -> int:
        """The bytes that stay in the folder when all trials have ended."""
        return self.trials * (self.kept + 1) * self.checkpoint_bytes + self.updates * _BYTES_PER_UPDATE + _MARGIN_BYTES


def free_bytes(place: Path) -> int:
    """The free bytes of the disk on which `place` is, or would be made; raises FolderError where that is not known."""
    path = place.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        return shutil.disk_usage(path).free
    except OSError as error:
        raise FolderError(f"{path}: its free space cannot be read: {system_reason(error)}") from error


def check_room_to_begin(place: Path, need: DiskNeed) -> str:
    """A warning where the whole study may not fit on the disk, "" where it should.

    Raises FolderError where there is not even room for the trials that run at a time.
    """
    free = free_bytes(place)
    if free < need.to_begin:
        at_once = "trial that runs needs" if need.at_once == 1 else f"{need.at_once} trials that run at a time need"
        raise FolderError(
            f"{place}: {in_words(free)} are free, but the {at_once} about "
            f"{in_words(need.to_begin)} (a checkpoint is {in_words(need.checkpoint_bytes)}; each trial keeps its "
            f"{need.kept} best); make room, give another --dir, or lower training.keep_checkpoints"
        )
    if free < need.in_all:
        trials = "trial" if need.trials == 1 else f"{need.trials} trials"
        return (
            f"{place}: {in_words(free)} are free, but the {trials} will keep about "
            f"{in_words(need.in_all)} (a checkpoint is {in_words(need.checkpoint_bytes)}; each trial keeps its "
            f"{need.kept} best); training.keep_checkpoints may be lowered at any time"
        )
    return ""


def check_room_to_go_on(place: Path, need: DiskNeed) -> None:
    """Raise FolderError where there is no room for another trial, before it fails for want of it."""
    free = free_bytes(place)
    if free < need.to_go_on:
        raise FolderError(
            f"{place}: {in_words(free)} are free, but a trial needs about {in_words(need.to_go_on)}; make room and run "
            "the same command again: it continues from here"
        )


def in_words(count: int) -> str:
    """A number of bytes with its unit, such as `1.5 GB`, with at most three digits."""
    value, units = float(count), ["bytes", "kB", "MB", "GB", "TB", "PB"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        del units[0]
    return f"{value:.3g} {units[0]}"
