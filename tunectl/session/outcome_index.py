"""How the trials of a study folder stand: from the index where it is up to date, from the trial folders where it is
not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from tunectl.analysis.results.outcomes import outcome
from tunectl.core import jsontext
from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.objective import Objective
from tunectl.core.path_errors import path_errors
from tunectl.core.records import ENDED, Measurement, PlannedTrial, State, TrialOutcome
from tunectl.session.plan_agreement import disagreement
from tunectl.store.checkpoint_names import ExistingCheckpoints
from tunectl.store.index import Index
from tunectl.store.trial_files import (
    TrialFiles,
    folder_stamp,
    read_trial,
    sorted_once,
    trial_state,
    write_measurements,
    write_result,
)

DAMAGED = "damaged"
"""The reason of a trial that has a result, of which is not known what was trained."""


def read_outcome(
    folder: StudyFolder, trial: PlannedTrial, objective: Objective, index: Index | None = None
) -> tuple[TrialOutcome, TrialFiles, str]:
    """A trial as its folder says, what was read, and the stamp the folder had before.

    An index tells whether measurements of a trial that has not ended are missing.
    """
    home = folder.trial(trial.trial)
    stamp = folder_stamp(home)
    files = read_trial(home)
    state, damage = trial_state(files), [line.replace(f"{folder.path}/", "") for line in files.damage]
    differs = disagreement(files.request, trial) if files.request is not None else ""
    if differs:
        damage.append(f"{folder.plan.name} does not say what was trained: request.json has {differs}")
        # A result of other values than those of its row must not be compared with others.
        state = ("failed", DAMAGED, "") if files.result is not None else state
    if index is not None and files.attempts and files.result is None and not damage:
        lost = len(_stored_measurements(index, trial, state[0], files)) - len(files.measurements)
        if lost > 0:
            name = home.measurements.relative_to(folder.path)
            damage.append(f"{name}: {lost} measurement{'s are' if lost > 1 else ' is'} missing")
    found = outcome(trial, files, state, objective, ExistingCheckpoints(home), "; ".join(damage))
    return found, files, stamp


def refresh(
    folder: StudyFolder,
    trials: Sequence[PlannedTrial],
    objective: Objective,
    index: Index,
    report: Callable[[str], None],
) -> list[TrialOutcome]:
    """Bring an index up to date with the folders of all trials that do not run; gives how they stand, in the order
    given.

    Damage is said to `report`, a line for each trial. What is up to date is not written again.
    """
    index.put_plan(trials)
    known = _up_to_date(folder, trials, index)
    standing: list[TrialOutcome] = []
    # An index that is up to date is not written to, so that reading a finished study changes no byte of it.
    with index.transaction() if len(known) < len(trials) else contextlib.nullcontext():
        for trial in trials:
            found = known.get(trial.trial) or store_outcome(folder, trial, objective, index, report)
            if found.damage:
                report(damage_note(found))
            standing.append(found)
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


def damage_note(item: TrialOutcome) -> str:
    """What is wrong with a trial's files, as it is said on every look at them."""
    return f"warning: trial {item.plan.trial}: {item.damage}"


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
        known, index = {}, None
    return [known.get(trial.trial) or read_outcome(folder, trial, objective, index)[0] for trial in trials]


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
    """Read one trial's folder into the index; measurements that are damaged or missing and that the index still has are
    written again.
    """
    found, files, stamp = read_outcome(folder, trial, objective, index)
    if found.damage and _restored(folder.trial(trial.trial), found, files, index, report):
        found, files, stamp = read_outcome(folder, trial, objective)
    with index.transaction():
        index.put_outcome(found, stamp)
        index.put_measurements(trial.trial, files.measurements, replace=True)
    return found


def _stored_measurements(index: Index, trial: PlannedTrial, state: State, files: TrialFiles) -> list[Measurement]:
    """What the index has of a trial, where it was stored when the trial stood as it does now; [] where it was not."""
    try:
        before = index.outcome(trial.trial)
        if (
            before is None
            or not files.attempt
            or (before.plan, before.state, before.attempts) != (trial, state, files.attempt)
        ):
            return []
        return list(sorted_once(item for _, item in index.measurements(trial.trial)))
    except FolderError:
        return []  # a damaged index says nothing about a damaged file


def _restored(
    home: TrialFolder, found: TrialOutcome, files: TrialFiles, index: Index, report: Callable[[str], None]
) -> bool:
    """Write a damaged measurements.jsonl again, where the index has all the measurements that it holds and more."""
    stored = _stored_measurements(index, found.plan, found.state, files)
    # As texts: NaN is not equal to itself.
    left = {jsontext.encode(item.to_json()) for item in files.measurements}
    known = {jsontext.encode(item.to_json()) for item in stored}
    if not left < known:
        return False
    try:
        write_measurements(home, stored)
        if files.result is not None:
            with path_errors(home.result, "written"):
                write_result(home, files.result)  # it counts the lines
    except FolderError as error:
        report(str(error))
        return False
    report(f"{home.measurements}: was damaged and is restored: the index has what is missing there")
    return True


def has_ended(item: TrialOutcome) -> bool:
    """Whether the trial stays as it is: everything else is run, or gone on with."""
    return item.state in ENDED
