"""Room on the disk: what a study will keep, and whether there is enough to begin."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tunectl.core.errors import FolderError
from tunectl.core.path_errors import system_reason

_BYTES_PER_UPDATE = 80
"""What an update leaves in steps.jsonl: three numbers of some 20 characters each, and a word."""

_MARGIN_BYTES = 16 * 2**20
"""For tables, logs, the index, and whatever else lives on the disk."""

_FILES_BESIDE_THE_BEST = 3
"""resume.pt, the one before it, and the temporary file of the one that is being written."""


@dataclass(frozen=True, slots=True)
class DiskNeed:
    """What the trials of a run write, in bytes, as far as the probe of the workload could tell.

    `checkpoint_bytes` is the largest checkpoint that was seen, 0 where none could be measured; `kept` is how many a
    trial keeps by the objective, `at_once` how many trials run at a time, `trials` how many are left, `updates` how
    many updates all of them make.
    """

    checkpoint_bytes: int
    kept: int
    at_once: int
    trials: int
    updates: int

    @property
    def to_begin(self) -> int:
        """What the trials that run at a time need."""
        return self.at_once * self._while_it_runs + _MARGIN_BYTES

    @property
    def to_go_on(self) -> int:
        """What one more trial needs."""
        return self._while_it_runs + _MARGIN_BYTES

    @property
    def _while_it_runs(self) -> int:
        return (self.kept + _FILES_BESIDE_THE_BEST) * self.checkpoint_bytes

    @property
    def in_all(self) -> int:
        """What is left in the folder when all of them have ended."""
        return self.trials * (self.kept + 1) * self.checkpoint_bytes + self.updates * _BYTES_PER_UPDATE + _MARGIN_BYTES


def free_bytes(place: Path) -> int:
    """The free bytes of the disk on which `place` is, or would be made; raises FolderError where it cannot be told."""
    path = place.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        return shutil.disk_usage(path).free
    except OSError as error:
        raise FolderError(f"{path}: its free space cannot be read: {system_reason(error)}") from error


def check_room_to_begin(place: Path, need: DiskNeed) -> str:
    """A warning where the whole study may not fit, "" where it should.

    Raises FolderError where there is not even room for the trials that run at a time.
    """
    free = free_bytes(place)
    if free < need.to_begin:
        raise FolderError(
            f"{place}: {in_words(free)} are free, but the {_at_work(need.at_once)} about "
            f"{in_words(need.to_begin)} (a checkpoint is {in_words(need.checkpoint_bytes)}, each keeps the best "
            f"{need.kept}); make room, give another --dir, or lower training.keep_checkpoints"
        )
    if free < need.in_all:
        return (
            f"{place}: {in_words(free)} are free, but the {_trials(need.trials)} will keep about "
            f"{in_words(need.in_all)} (a checkpoint is {in_words(need.checkpoint_bytes)}, each keeps the best "
            f"{need.kept}); training.keep_checkpoints may be lowered at any time"
        )
    return ""


def _trials(count: int) -> str:
    return "trial" if count == 1 else f"{count} trials"


def _at_work(count: int) -> str:
    return "trial that runs needs" if count == 1 else f"{count} trials that run at a time need"


def check_room_to_go_on(place: Path, need: DiskNeed) -> None:
    """Raise FolderError where there is no room for another trial: better before it than in it."""
    free = free_bytes(place)
    if free < need.to_go_on:
        raise FolderError(
            f"{place}: {in_words(free)} are free, but a trial needs about {in_words(need.to_go_on)}; make room and run "
            "the same command again: it goes on from there"
        )


def in_words(count: int) -> str:
    """A number of bytes with its unit: `1.5 GB`, three digits at most."""
    value, units = float(count), ["bytes", "kB", "MB", "GB", "TB", "PB"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        del units[0]
    return f"{value:.3g} {units[0]}"
