"""How the trials of a study folder stand: from the index where it is up to date, from the trial folders where it is
not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from tunectl.analysis.outcomes import outcome
from tunectl.core import jsontext
from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.objective import Objective
from tunectl.core.records import ENDED, PlannedTrial, TrialOutcome
from tunectl.store.checkpoint_names import ExistingCheckpoints
from tunectl.store.index import Index
from tunectl.store.trial_files import (
    TrialFiles,
    folder_stamp,
    read_trial,
    sorted_once,
    trial_state,
    write_measurements,
)


def read_outcome(
    folder: StudyFolder, trial: PlannedTrial, objective: Objective
) -> tuple[TrialOutcome, TrialFiles, str]:
    """A trial as its folder says, what was read, and the stamp the folder had before."""
    home = folder.trial(trial.trial)
    stamp = folder_stamp(home)
    files = read_trial(home)
    return outcome(trial, files, trial_state(files), objective, ExistingCheckpoints(home)), files, stamp


def refresh(
    folder: StudyFolder,
    trials: Sequence[PlannedTrial],
    objective: Objective,
    index: Index,
    report: Callable[[str], None],
) -> list[TrialOutcome]:
    """Bring an index up to date with the folders of all trials that do not run; gives how they stand, in the order
    given.

    Damage found on the way is told to `report`, a line for each. What is up to date is not written again.
    """
    index.put_plan(trials)
    known = _up_to_date(folder, trials, index)
    standing: list[TrialOutcome] = []
    # An index that is up to date is not written to, so that reading a finished study changes no byte of it.
    with index.transaction() if len(known) < len(trials) else contextlib.nullcontext():
        for trial in trials:
            found = known.get(trial.trial)
            standing.append(found or store_outcome(folder, trial, objective, index, report))
    return standing


def refresh_at_end(
    folder: StudyFolder,
    trials: Sequence[PlannedTrial],
    objective: Objective,
    index: Index,
    report: Callable[[str], None],
) -> list[TrialOutcome]:
    """`refresh` after trials were trained: an index that was damaged meanwhile is made anew from the trial folders."""
    try:
        return refresh(folder, trials, objective, index, report)
    except FolderError as error:
        report(f"warning: {error}; it is made anew from the trial folders")
        index.make_anew()
        return refresh(folder, trials, objective, index, report)


def read_standing(
    folder: StudyFolder, trials: Sequence[PlannedTrial], objective: Objective, index: Index | None
) -> list[TrialOutcome]:
    """How the trials of a folder that nobody runs in stand, in the order given; writes nothing.

    Taken from the index is what it says of folders that have not changed since; an index that turns out to be damaged
    counts as missing.
    """
    try:
        known = _up_to_date(folder, trials, index) if index is not None else {}
    except FolderError:
        known = {}
    return [known.get(trial.trial) or read_outcome(folder, trial, objective)[0] for trial in trials]


def _up_to_date(folder: StudyFolder, trials: Sequence[PlannedTrial], index: Index) -> dict[int, TrialOutcome]:
    """The trials of which an index says what their folders would say; none of them runs."""
    stamps = index.stamps()
    if not any(stamps.values()):
        return {}
    outcomes = {item.plan.trial: item for item in index.outcomes() if item.state != "running"}
    return {
        trial.trial: outcomes[trial.trial]
        for trial in trials
        if trial.trial in outcomes
        and outcomes[trial.trial].plan == trial
        and stamps[trial.trial] == folder_stamp(folder.trial(trial.trial))
    }


def store_outcome(
    folder: StudyFolder, trial: PlannedTrial, objective: Objective, index: Index, report: Callable[[str], None]
) -> TrialOutcome:
    """Read one trial's folder into the index; damaged measurements that the index still has are written again."""
    found, files, stamp = read_outcome(folder, trial, objective)
    for line in files.damage:
        report(line)
    if files.damaged_lines and _restored(folder.trial(trial.trial), trial, files, index, report):
        found, files, stamp = read_outcome(folder, trial, objective)
    with index.transaction():
        index.put_outcome(found, stamp)
        index.put_measurements(trial.trial, files.measurements, replace=True)
    return found


def _restored(
    home: TrialFolder, trial: PlannedTrial, files: TrialFiles, index: Index, report: Callable[[str], None]
) -> bool:
    """Write a damaged measurements.jsonl again, where the index has all the measurements that it holds and those that
    it has lost.
    """
    try:
        stored = sorted_once(item for _, item in index.measurements(trial.trial))
    except FolderError:
        return False  # a damaged index tells nothing about a damaged file
    # As texts: NaN is not equal to itself.
    left = {jsontext.encode(item.to_json()) for item in files.measurements}
    known = {jsontext.encode(item.to_json()) for item in stored}
    if not left <= known or len(known) != len(left) + files.damaged_lines:
        return False
    try:
        write_measurements(home, stored)
    except FolderError as error:
        report(str(error))
        return False
    report(f"{home.measurements}: restored, since the index has what the damaged lines held")
    return True


def has_ended(item: TrialOutcome) -> bool:
    """Whether the trial stays as it is: everything else is run, or gone on with."""
    return item.state in ENDED
