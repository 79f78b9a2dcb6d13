"""The outcomes of a study folder's trials: from the index where their files have not changed, else from their folders.

The index is also the backup of what the trials measured: damaged measurements are restored from it here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence

from tunectl.analysis.results.outcomes import outcome
from tunectl.core import jsontext
from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.measurement_kinds import EVALUATION
from tunectl.core.measurements import Measurement
from tunectl.core.objective import Objective
from tunectl.core.path_errors import path_errors
from tunectl.core.records import FINAL, PlannedTrial, State, TrialOutcome, is_ended
from tunectl.session.plan_agreement import disagreement, named_trials
from tunectl.store.checkpoint_names import ExistingCheckpoints
from tunectl.store.index import Index
from tunectl.store.prediction_files import predictions_damage
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
"""The reason of a trial that has a result, but whose hyperparameters are not known."""


def read_outcome(
    folder: StudyFolder, trial: PlannedTrial, objective: Objective, index: Index | None = None
) -> tuple[TrialOutcome, TrialFiles, str]:
    """The outcome of a trial by its folder, the content of its files, and the folder's stamp before they were read.

    With an index, measurements and results that are in the index but not in the folder are reported as damage.
    """
    home = folder.trial(trial.trial)
    stamp, files = folder_stamp(home), read_trial(home)
    while (now := folder.trial(trial.trial)) != home:  # it was moved between runner and worker
        home = now
        stamp, files = folder_stamp(home), read_trial(home)
    state = trial_state(files)
    # Own code keeps no series of its updates.
    has_series = files.request is not None and files.request.get("kind") in ("workload", "final")
    is_ours = has_series and trial.trial_kind not in ("throughput", "profile")
    is_complete = files.result is not None and files.result.state == "completed" and is_ours
    updates = files.result.final_step if files.result is not None and is_complete else None
    try:
        of_series = [updates_damage(home, updates), _damage_of_predictions(home, files)]
    except FolderError as error:
        # It may be readable the next time, without a change of the file: an empty stamp lets it be read again.
        of_series, stamp = [str(error)], ""
    stamp = "" if files.is_late else stamp  # what is missing may show at the next reading, also without a new stamp
    lines = [*files.damage, *filter(None, of_series)]
    damage = [line.replace(f"{folder.path}/", "") for line in lines]
    differs = disagreement(files.request, trial) if files.request is not None else ""
    if differs:
        damage.append(f"{folder.plan.name} and {home.request.name} differ: {differs}")
        # A result of other hyperparameters than those of its row must not be compared with others.
        state = ("failed", DAMAGED, "") if files.result is not None else state
    if index is not None and files.result is None and not any(home.result.name in line for line in damage):
        damage += filter(None, [_lost_result(index, trial, home)])
    is_at_home = home == folder.home(trial.trial)
    if index is not None and files.attempts and files.result is None and not files.damage and is_at_home:
        lost = len(_stored_measurements(index, trial, state[0], files)) - len(files.measurements)
        if lost > 0:
            name = home.measurements.relative_to(folder.path)
            damage.append(f"{name}: {lost} measurement{'s are' if lost > 1 else ' is'} missing")
    found = outcome(trial, files, state, objective, ExistingCheckpoints(home), "; ".join(damage))
    return found, files, stamp


def _damage_of_predictions(home: TrialFolder, files: TrialFiles) -> str:
    """The damage of predictions.jsonl, "" where the trial was asked for none; one that has ended needs all of them."""
    if files.request is None or not files.request.get("predictions"):
        return ""
    evaluated = [item.step for item in files.measurements if item.measurement_kind == EVALUATION.name]
    return predictions_damage(home, evaluated if files.result is not None else ())


def refresh_index(
    folder: StudyFolder,
    trials: Sequence[PlannedTrial],
    objective: Objective,
    index: Index,
    say: Callable[[str], None],
) -> list[TrialOutcome]:
    """Bring an index up to date with the folders of all trials that are not running; return their outcomes in order.

    `say` is called with each line of `trial_notes`. An index that is up to date is not written to.
    """
    index.put_plan(trials)
    known = _up_to_date(folder, trials, index)
    # An index that is up to date is not written to, so that reading a finished study changes no byte of it.
    with index.transaction() if len(known) < len(trials) else contextlib.nullcontext():
        outcomes = [known.get(trial.trial) or store_outcome(folder, trial, objective, index, say) for trial in trials]
    for note in trial_notes(outcomes):
        say(note)
    return outcomes


def refresh_index_at_end(
    folder: StudyFolder,
    trials: Sequence[PlannedTrial],
    objective: Objective,
    index: Index,
    say: Callable[[str], None],
) -> list[TrialOutcome]:
    """`refresh` after trials were trained: an index that was damaged meanwhile is made anew from the trial folders."""
    try:
        return refresh_index(folder, trials, objective, index, say)
    except FolderError as error:
        say(f"warning: {error}; it is made anew from the trial folders")
        index.make_anew()
        return refresh_index(folder, trials, objective, index, say)


def trial_notes(outcomes: Iterable[TrialOutcome]) -> list[str]:
    """The damage of trials' files as warnings, one line for all trials with the same damage."""
    trials: dict[str, list[int]] = {}
    for item in outcomes:
        if item.damage:
            trials.setdefault(item.damage, []).append(item.plan.trial)
    return [
        f"warning: {named_trials(numbers)}{', each' if len(numbers) > 1 else ''}: {damage}"
        for damage, numbers in trials.items()
    ]


def read_outcomes(
    folder: StudyFolder, trials: Sequence[PlannedTrial], objective: Objective, index: Index | None
) -> list[TrialOutcome]:
    """The outcomes of the trials of a folder in which no trial is running, in the order given; writes nothing.

    The outcome of a trial whose files have not changed is taken from the index. A damaged index counts as missing.
    """
    try:
        known = _up_to_date(folder, trials, index) if index is not None else {}
    except FolderError:
        known, index = {}, None
    return [known.get(trial.trial) or read_outcome(folder, trial, objective, index)[0] for trial in trials]


def _up_to_date(folder: StudyFolder, trials: Sequence[PlannedTrial], index: Index) -> dict[int, TrialOutcome]:
    """The outcomes that an index has of trials whose files have not changed; no trial may be running."""
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
    folder: StudyFolder, trial: PlannedTrial, objective: Objective, index: Index, say: Callable[[str], None]
) -> TrialOutcome:
    """Read one trial's folder into the index; damaged or missing measurements that the index has are restored first."""
    found, files, stamp = read_outcome(folder, trial, objective, index)
    # A worker alone writes into a folder that it has.
    is_at_home = folder.trial(trial.trial) == folder.home(trial.trial)
    backup = _backup(index, found, files) if found.damage and is_at_home else []
    if backup:
        if not _restored(folder.trial(trial.trial), backup, files, say):
            # The backup is kept. Without a stamp the folder is read, and restored, by the next run.
            index.put_outcome(found)
            return found
        found, files, stamp = read_outcome(folder, trial, objective)
    with index.transaction():
        index.put_outcome(found, stamp)
        index.put_measurements(trial.trial, files.measurements, replace=True)
    return found


def _lost_result(index: Index, trial: PlannedTrial, home: TrialFolder) -> str:
    """The damage of a trial without a result that has a result, or a folder, by the index; "" where it has none."""
    try:
        before = index.outcome(trial.trial)
    except FolderError:
        return ""
    if before is None or before.plan != trial:
        return ""
    is_gone = not home.path.is_dir()
    if is_gone and before.state == "pending" and not before.attempts:
        return before.damage  # the same as when the folder was found missing
    if not is_gone and before.state not in FINAL:
        return ""
    what = "folder" if is_gone else home.result.name
    how = f"{'had' if before.state == 'completed' else 'was'} {before.state}"
    return f"its {what} is missing, and study.db says that it {how}; the next run trains it again"


def _stored_measurements(index: Index, trial: PlannedTrial, state: State, files: TrialFiles) -> list[Measurement]:
    """The measurements of a trial in the index; [] where its state or attempt was another when they were stored."""
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
        return []  # a damaged index is no backup


def _backup(index: Index, found: TrialOutcome, files: TrialFiles) -> list[Measurement]:
    """The measurements to restore a trial from: all that its file still has, and more; [] where there are none."""
    stored = _stored_measurements(index, found.plan, found.state, files)
    # As texts: NaN is not equal to itself.
    left = {jsontext.encode(item.to_json()) for item in files.measurements}
    return stored if left < {jsontext.encode(item.to_json()) for item in stored} else []


def _restored(home: TrialFolder, backup: list[Measurement], files: TrialFiles, say: Callable[[str], None]) -> bool:
    """Write measurements.jsonl again; False, with a warning, where that cannot be done."""
    try:
        write_measurements(home, backup)
        if files.result is not None:
            with path_errors(home.result, "written"):
                write_result(home, files.result)  # it counts the lines
    except FolderError as error:
        say(f"warning: {error}")
        return False
    say(f"warning: {home.measurements}: was damaged and has been restored from study.db")
    return True


def has_ended(item: TrialOutcome) -> bool:
    """Whether a trial has ended for good: every other one is run by the next run."""
    return is_ended(item.state, item.reason)
