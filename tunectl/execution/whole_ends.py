"""How an attempt ended at its worker, and whether all of that shows: a file server may show a part of it late."""

from __future__ import annotations

from dataclasses import replace

from tunectl.core.errors import FolderError
from tunectl.core.folders import TrialFolder
from tunectl.store.claimed_trials import Ending, read_ending
from tunectl.store.given_files import not_shown
from tunectl.store.trial_files import counted, read_result


def end_of(home: TrialFolder, attempt: int) -> tuple[Ending | None, bool]:
    """How this attempt ended at its worker, None where that does not show, and whether it has a whole result."""
    ending = read_ending(home)
    if ending is not None and ending.attempt not in (attempt, 0):  # 0: its worker could not read the offer
        ending = None
    return ending, _has_whole_result(home, attempt, may_be_provisional=ending is not None)


def is_whole_end(home: TrialFolder, ending: Ending | None, *, has_result: bool) -> bool:
    """Whether all of an end shows: how it ended, a result where the exit code is 0, and the files that there were.

    A worker writes how a trial ended before it gives it back, unless its disk is full.
    """
    return ending is not None and (has_result or ending.code != 0) and not not_shown(home, ending)


def without_own_result(home: TrialFolder, ending: Ending) -> Ending:
    """The end of an attempt without a result, which says so where there is that of another attempt."""
    try:
        other = read_result(home)
    except (OSError, FolderError):
        return ending
    if other is None or other.attempt == ending.attempt or ending.code != 0:
        return ending
    return replace(ending, message=f"wrote no result; {home.result.name} is that of attempt {other.attempt}")


def _has_whole_result(home: TrialFolder, attempt: int, *, may_be_provisional: bool) -> bool:
    """Whether the result of this attempt is there, and all lines that it counts."""
    try:
        result = read_result(home)
        if result is None or result.attempt != attempt or (result.provisional and not may_be_provisional):
            return False
        # More lines than that are those of an earlier attempt, which a file server may still show.
        return result.measurements is None or counted(home, result).measurements == result.measurements
    except (OSError, FolderError):
        return False
