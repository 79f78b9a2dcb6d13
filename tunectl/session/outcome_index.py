"""How the trials of a study folder stand: from the index where it is up to date, from the trial folders where it is
not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence

from tunectl.analysis.results.outcomes import outcome
from tunectl.core import jsontext
from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.objective import Objective
from tunectl.core.path_errors import path_errors
from tunectl.core.records import ENDED, Measurement, PlannedTrial, State, TrialOutcome
from tunectl.session.plan_agreement import disagreement, named_trials
from tunectl.store.checkpoint_names import ExistingCheckpoints
from tunectl.store.index import Index
from tunectl.store.step_files import updates_damage
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

    An index tells whether measurements of a trial that has not ended are missing, and whether its folder or its result
    is.
    """
    home = folder.trial(trial.trial)
    stamp = folder_stamp(home)
    files = read_trial(home)
    state = trial_state(files)
    lines = [*files.damage, *filter(None, [updates_damage(home, _updates_trained(trial, files))])]
    damage = [line.replace(f"{folder.path}/", "") for line in lines]
    differs = disagreement(files.request, trial) if files.request is not None else ""
    if differs:
        damage.append(f"{folder.plan.name} does not say what was trained: request.json has {differs}")
        # A result of other values than those of its row must not be compared with others.
        state = ("failed", DAMAGED, "") if files.result is not None else state
    if index is not None and files.result is None and not any(home.result.name in line for line in damage):
        damage += filter(None, [_lost_result(index, trial, home)])
    if index is not None and files.attempts and files.result is None and not files.damage:
        lost = len(_stored_measurements(index, trial, state[0], files)) - len(files.measurements)
        if lost > 0:
            name = home.measurements.relative_to(folder.path)
            damage.append(f"{name}: {lost} measurement{'s are' if lost > 1 else ' is'} missing")
    found = outcome(trial, files, state, objective, ExistingCheckpoints(home), "; ".join(damage))
    return found, files, stamp


def _updates_trained(trial: PlannedTrial, files: TrialFiles) -> int | None:
    """The number of updates that a trial's series must have; None where it is not known: own code keeps none."""
    is_ours = files.request is not None and files.request.get("kind") == "workload" and trial.kind != "throughput"
    result = files.result
    return result.final_step if result is not None and result.state == "completed" and is_ours else None


def refresh(
    folder: StudyFolder,
    trials: Sequence[PlannedTrial],
    objective: Objective,
    index: Index,
    report: Callable[[str], None],
) -> list[TrialOutcome]:
    """Bring an index up to date with the folders of all trials that do not run; gives how they stand, in the order
    given.

    Damage is said to `report` as `trial_notes` has it. What is up to date is not written again.
    """
    index.put_plan(trials)
    known = _up_to_date(folder, trials, index)
    # An index that is up to date is not written to, so that reading a finished study changes no byte of it.
    with index.transaction() if len(known) < len(trials) else contextlib.nullcontext():
        standing = [
            known.get(trial.trial) or store_outcome(folder, trial, objective, index, report) for trial in trials
        ]
    for note in trial_notes(standing):
        report(note)
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


def trial_notes(outcomes: Iterable[TrialOutcome]) -> list[str]:
    """What is wrong with the files of trials, as it is said on every look at them: one line for all with the same."""
    trials: dict[str, list[int]] = {}
    for item in outcomes:
        if item.damage:
            trials.setdefault(item.damage, []).append(item.plan.trial)
    return [
        f"warning: {named_trials(numbers)}{', each' if len(numbers) > 1 else ''}: {damage}"
        for damage, numbers in trials.items()
    ]


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


def _lost_result(index: Index, trial: PlannedTrial, home: TrialFolder) -> str:
    """What the index knows of a trial without a result: that it had one, or that it had a folder, which is gone."""
    try:
        before = index.outcome(trial.trial)
    except FolderError:
        return ""
    if before is None or before.plan != trial:
        return ""
    is_gone = not home.path.is_dir()
    if is_gone and before.state == "pending" and not before.attempts:
        return before.damage  # what was said of it when the index was told
    if not is_gone and before.state not in ("completed", "infeasible"):
        return ""
    what = "folder" if is_gone else home.result.name
    return f"its {what} is missing, and study.db has it as {before.state}; the next run trains it again"


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
        report(f"warning: {error}")
        return False
    report(f"warning: {home.measurements}: was damaged and is restored: the index has what is missing there")
    return True


def has_ended(item: TrialOutcome) -> bool:
    """Whether the trial stays as it is: everything else is run, or gone on with."""
    return item.state in ENDED
