"""The evidence for findings and plots, read from a study folder: curves from the index, updates from trial folders."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.curvature_time import SECONDS, CurvatureTime, curvature_time
from tunectl.analysis.results.outcomes import reselected
from tunectl.analysis.results.runs import MeasuredCurve, Run, UpdateSeries, curves_of, curves_of_columns, joined
from tunectl.analysis.results.stages import judged_stage, of_stage
from tunectl.core.errors import FolderError, UsageError
from tunectl.core.folders import StudyFolder
from tunectl.core.measurement_kinds import is_no_evaluation
from tunectl.core.measurements import Measurement
from tunectl.core.objective import CheckpointRule, Direction, Objective
from tunectl.core.records import HAS_RESULT, PlannedTrial, TrialOutcome
from tunectl.core.whole_splits import sampled_metric
from tunectl.language.stage_lengths import spec_of
from tunectl.language.study_spec import StudySpec
from tunectl.session.snapshot import StudySnapshot
from tunectl.store.checkpoint_names import ExistingCheckpoints
from tunectl.store.earlier_trials_file import kept_trials
from tunectl.store.index import Index
from tunectl.store.prediction_files import read_predictions
from tunectl.store.provenance import backend_option, original_study_file
from tunectl.store.step_files import read_updates
from tunectl.store.trial_files import read_result, read_trial
from tunectl.store.trial_pictures import StepFiles, read_evaluation_files
from tunectl.store.written_files import read_written

MOST_UPDATES_READ = 40
"""The number of trials of which the series of updates are read at most: each takes tens of milliseconds."""

MOST_LOOKED_AT = 10
"""The number of trials whose predictions, or files of evaluations, are read at most."""

MOST_LISTED = 100
"""The number of trials whose folder is looked into for files of evaluations, beside the best ones."""

_BEST_OF_SETTING = 3


def indexed_curves(index: Index) -> dict[int, dict[str, MeasuredCurve]]:
    """The curves of all trials in an index, by trial and metric."""
    names = index.metric_names()
    found: dict[int, dict[str, MeasuredCurve]] = {}
    for block in index.measurement_columns(names):
        found |= curves_of_columns(names, block)
    return found


def indexed_curvature_time(index: Index, outcomes: Sequence[TrialOutcome]) -> CurvatureTime | None:
    """The time of measuring the curvature in all trials in an index; None where none measured it."""
    if SECONDS not in index.metric_names():
        return None
    measured: dict[int, float] = {}
    for trials, _, _, seconds, *_ in index.measurement_columns((SECONDS,)):
        for trial, value in zip(trials, seconds, strict=True):
            if value is not None:
                measured[trial] = measured.get(trial, 0.0) + value
    return curvature_time(measured, outcomes)


def read_evidence(
    folder: StudyFolder,
    spec: StudySpec,
    outcomes: Sequence[TrialOutcome],
    curves: Mapping[int, Mapping[str, MeasuredCurve]],
    objective: Objective,
    stage: int | None = None,
    *,
    with_updates: bool = True,
) -> StudyEvidence:
    """The evidence of a stage of a study with these outcomes, None for the one that is judged.

    Curves that are not among `curves` are read from trial folders, and so are series of updates, `with_updates`.
    """
    original = spec.objective
    # Proposed commands name the user's study file, not its copy: a workload may be given relative to its folder.
    spec = replace(spec, label=str(original_study_file(folder) or spec.file))
    judged = judged_stage(outcomes) if stage is None else stage
    telling = trials_with_updates(of_stage(outcomes, judged), objective) if with_updates else set()
    written, shared_folders = read_written(folder.written)
    has_predictions = with_updates and spec.training.predictions is not None
    looked_at = trials_to_look_at(of_stage(outcomes, judged), objective) if has_predictions else []
    again = {item.plan.origin for item in outcomes if item.plan.trial_kind == "retrain"} if with_updates else set()
    found: list[StudyEvidence] = []
    for number in range(judged + 1):
        runs = [
            _run(
                folder,
                item,
                curves.get(item.plan.trial),
                with_updates=item.plan.trial in telling,
                with_result=item.plan.origin in again,
            )
            for item in of_stage(outcomes, number)
        ]
        found.append(
            StudyEvidence(
                spec_of(spec, number),
                objective,
                tuple(runs),
                frozenset(telling if number == judged else ()),
                str(folder.path),
                tuple(written.values()),
                shared_folders,
                # Their values are those under the study's own objective.
                kept_trials(folder) if objective == original else None,
                number,
                tuple(found),
                {trial: read_predictions(folder.trial(trial)) for trial in looked_at} if number == judged else {},
                _files(folder, of_stage(outcomes, judged), objective) if with_updates and number == judged else {},
                backend_option(folder),
            )
        )
    return found[-1]


def _files(
    folder: StudyFolder, outcomes: Sequence[TrialOutcome], objective: Objective
) -> dict[int, tuple[StepFiles, ...]]:
    """What trials wrote at evaluations, by trial: the best ones, then others, MOST_LOOKED_AT in all."""
    others = [item.plan.trial for item in outcomes if item.state in ("running", "infeasible", "completed")]
    found: dict[int, tuple[StepFiles, ...]] = {}
    for trial in dict.fromkeys([*trials_to_look_at(outcomes, objective), *others[:MOST_LISTED]]):
        files = read_evaluation_files(folder.trial(trial)) if len(found) < MOST_LOOKED_AT else ()
        if files:
            found[trial] = files
    return found


def trials_to_look_at(outcomes: Sequence[TrialOutcome], objective: Objective) -> list[int]:
    """The completed trials whose predictions are read, the best first: of every setting the best, then the next best.

    They are at most MOST_LOOKED_AT.
    """
    ended = (item for item in outcomes if item.state == "completed" and item.plan.trial_kind == "search")
    ranked = sorted(ended, key=lambda item: _rank(item, objective))
    by_setting: dict[int, int] = {}
    for item in ranked:
        by_setting.setdefault(item.plan.setting, item.plan.trial)
    chosen = list(dict.fromkeys([*by_setting.values(), *(item.plan.trial for item in ranked)]))[:MOST_LOOKED_AT]
    return [item.plan.trial for item in ranked if item.plan.trial in chosen]


def trials_with_updates(outcomes: Sequence[TrialOutcome], objective: Objective) -> set[int]:
    """The trials whose updates are read: the best of every setting, then others spread evenly over the rest."""
    ended = [item for item in outcomes if item.state in HAS_RESULT]
    if len(ended) <= MOST_UPDATES_READ:
        return {item.plan.trial for item in ended}
    ranked = sorted(ended, key=lambda item: _rank(item, objective))
    by_setting: dict[int, list[TrialOutcome]] = {}
    for item in ranked:
        by_setting.setdefault(item.plan.setting, []).append(item)
    # The best of every setting before the second best of any.
    rounds = [
        items[place].plan.trial
        for place in range(_BEST_OF_SETTING)
        for items in by_setting.values()
        if place < len(items)
    ]
    chosen = dict.fromkeys(rounds[: MOST_UPDATES_READ // 2])
    rest = [item.plan.trial for item in ended if item.plan.trial not in chosen]
    places = MOST_UPDATES_READ - len(chosen)
    return {*chosen, *(rest[place * len(rest) // places] for place in range(places))}


def _rank(item: TrialOutcome, objective: Objective) -> tuple[float, int]:
    cost = objective.cost(item.best_value) if item.state == "completed" else math.inf
    return cost, item.plan.trial


def _run(
    folder: StudyFolder,
    item: TrialOutcome,
    curves: Mapping[str, MeasuredCurve] | None,
    *,
    with_updates: bool,
    with_result: bool,
) -> Run:
    home = folder.trial(item.plan.trial)
    if curves is None:
        curves = {} if item.state == "pending" else curves_of(read_trial(home).measurements)
    result = read_result(home) if with_updates or with_result else None
    result = result if result is not None and not result.provisional else None
    return Run(
        plan=item.plan,
        state=item.state,
        reason=item.reason,
        infeasible_step=item.infeasible_step,
        best_value=item.best_value,
        best_step=item.best_step,
        baseline_loss=result.baseline_loss if result is not None else None,
        train_examples=result.train_examples if result is not None else None,
        curves=curves,
        updates=joined(read_updates(home)) if with_updates else UpdateSeries(),
        evaluated_examples=result.evaluated_examples if result is not None else {},
    )


def measurements_by_trial(index: Index, wanted: Container[int]) -> dict[int, list[Measurement]]:
    """The measurements of these trials in an index, by trial."""
    pairs: Iterable[tuple[int, Measurement]] = index.measurements()
    found = {trial: [item for _, item in group] for trial, group in groupby(pairs, key=itemgetter(0))}
    return {trial: items for trial, items in found.items() if trial in wanted}


@dataclass(frozen=True, slots=True)
class ObjectiveChoice:
    """The parts of an objective that a user gives in place of the study's; None keeps the study's.

    The study's target is kept with its metric where neither another metric, nor a checkpoint, nor a target is given: a
    target belongs to a metric, and a checkpoint asks for values of it.
    """

    metric: str | None = None
    direction: Direction | None = None
    checkpoint: CheckpointRule | None = None
    steps_to: float | None = None


def evidence_of(
    study: StudySnapshot, choice: ObjectiveChoice, stage: int | None = None
) -> tuple[StudyEvidence, Sequence[TrialOutcome]]:
    """The evidence of a stage, None for the one that is judged, and the outcomes of a study by the chosen objective.

    Raises UsageError if no trial measured it, or the study has no such stage.
    """
    check_stage(study.trials, stage)
    folder, spec, outcomes = study.folder, study.spec, study.outcomes
    curves = known_curves(study.index, outcomes)
    objective = _chosen_objective(spec, choice, curves, folder, outcomes)
    if objective != spec.objective:
        outcomes = _reselected(folder, outcomes, objective, study.index, curves)
    return read_evidence(folder, spec, outcomes, curves, objective, stage), outcomes


def check_stage(trials: Sequence[PlannedTrial], stage: int | None) -> None:
    """Raise UsageError where `stage` is one of which no trial is planned."""
    planned = sorted({trial.stage for trial in trials})
    if stage is not None and stage not in planned:
        known = "only stage 0" if planned == [0] else f"stages 0 to {planned[-1]}"
        raise UsageError(f"--stage {stage}: the study has trials of {known}")


def known_curves(index: Index | None, outcomes: Sequence[TrialOutcome]) -> dict[int, dict[str, MeasuredCurve]]:
    """The curves in the index, without those of trials whose folder has changed since; these are read from it."""
    if index is None:
        return {}
    try:
        stored = {item.plan.trial: item for item in index.outcomes()}
        curves = indexed_curves(index)
    except FolderError:
        return {}
    return {
        item.plan.trial: curves.get(item.plan.trial, {}) for item in outcomes if stored.get(item.plan.trial) == item
    }


def _chosen_objective(
    spec: StudySpec,
    choice: ObjectiveChoice,
    curves: Mapping[int, Mapping[str, MeasuredCurve]],
    folder: StudyFolder,
    outcomes: Sequence[TrialOutcome],
) -> Objective:
    own = spec.objective
    metric = choice.metric or own.metric
    if choice.steps_to is not None and not math.isfinite(choice.steps_to):
        raise UsageError(f"--steps-to {choice.steps_to}: expected a finite number")
    if choice.steps_to is not None and choice.checkpoint == "final":
        raise UsageError(
            "--steps-to counts the steps to the first evaluation that reaches the target: it cannot be combined with "
            "--checkpoint final"
        )
    if metric != own.metric and is_no_evaluation(metric):
        raise UsageError(
            f"--objective {metric}: trials are judged by their evaluations, and this is not a metric of them; it is "
            "among the columns of the trials table"
        )
    sampled = sampled_metric(metric, spec.training.split_examples)
    if sampled:
        raise UsageError(
            f"--objective {metric}: it is measured only at the kept checkpoints, and trials are judged by every "
            f"evaluation: give --objective {sampled}; {metric} of the selected checkpoint is in the tables beside it"
        )
    if metric != own.metric and choice.direction is None:
        raise UsageError(f"--objective {metric}: expected --direction minimize or --direction maximize with it")
    measured = {name for item in curves.values() for name in item}
    if not measured:
        files = (read_trial(folder.trial(item.plan.trial)) for item in outcomes)
        measured = {name for trial in files for item in trial.measurements for name in item.metrics}
    if metric != own.metric and metric not in measured:
        known = ", ".join(sorted(name for name in measured if not is_no_evaluation(name))) or "none"
        raise UsageError(f"--objective {metric}: no trial measured it; the measured metrics are: {known}")
    steps_to = choice.steps_to
    if steps_to is None and choice.checkpoint is None and metric == own.metric:
        steps_to = own.steps_to
    checkpoint = choice.checkpoint or ("best" if steps_to is not None else own.checkpoint)
    return Objective(metric, choice.direction or own.direction, checkpoint, steps_to)


def _reselected(
    folder: StudyFolder,
    outcomes: Sequence[TrialOutcome],
    objective: Objective,
    index: Index | None,
    up_to_date: Container[int],
) -> list[TrialOutcome]:
    known = {} if index is None else measurements_by_trial(index, up_to_date)
    found = []
    for item in outcomes:
        home, trial = folder.trial(item.plan.trial), item.plan.trial
        measurements = known[trial] if trial in known else read_trial(home).measurements
        found.append(reselected(item, measurements, objective, ExistingCheckpoints(home)))
    return found
