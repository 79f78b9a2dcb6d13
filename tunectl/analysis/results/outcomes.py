"""The outcome of a trial and the summary of a setting, as the tables show them."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tunectl.analysis.results.selection import select
from tunectl.analysis.results.stages import judged_stage, of_judged_stage, of_stage
from tunectl.analysis.results.training_cost import training_cost
from tunectl.core.folders import StudyFolder
from tunectl.core.measurements import Measurement
from tunectl.core.objective import Objective
from tunectl.core.records import PlannedTrial, Scalar, State, TrialOutcome
from tunectl.core.whole_splits import sample_error_metric, whole_metric
from tunectl.store.trial_files import TrialFiles


def outcome(
    plan: PlannedTrial,
    files: TrialFiles,
    state: tuple[State, str, str],
    objective: Objective,
    existing_checkpoints: Container[str] = (),
    damage: str = "",
) -> TrialOutcome:
    """The outcome of a trial; `state` is (state, reason, message), from `trial_state`, or that of a running trial.

    Infeasible, failed and unfinished trials keep the best value they reached; comparisons leave them out.
    `best_checkpoint` is relative to the study folder. `damage` says which of its files could not be read.
    """
    selection = select(files.measurements, objective, existing_checkpoints)
    result, name = files.result, selection.best_checkpoint
    return TrialOutcome(
        plan=plan,
        state=state[0],
        reason=state[1],
        message="; ".join(part for part in (state[2], damage) if part),
        best_step=selection.best_step,
        best_value=selection.best_value,
        final_step=selection.final_step,
        final_value=selection.final_value,
        best_checkpoint=_path_of(name, plan),
        metrics_at_best=selection.metrics_at_best,
        infeasible_step=result.infeasible_step if result else None,
        train_seconds=result.train_seconds if result else None,
        eval_seconds=result.eval_seconds if result else None,
        startup_seconds=result.startup_seconds if result else None,
        device=result.device if result else files.attempts[-1].device if files.attempts else "",
        attempts=files.attempt,
        damage=damage,
    )


def _path_of(checkpoint: str | None, plan: PlannedTrial) -> str | None:
    """The path of the checkpoint with this name, relative to the study folder."""
    if checkpoint is None:
        return None
    # A name may be the path of a file outside `checkpoints`: `../files/model-10.pt`.
    return posixpath.normpath((StudyFolder(Path()).home(plan.trial).checkpoints / checkpoint).as_posix())


def reselected(
    item: TrialOutcome,
    measurements: Iterable[Measurement],
    objective: Objective,
    existing_checkpoints: Container[str] = (),
) -> TrialOutcome:
    """The same trial under another objective, with the best and final values of that one."""
    selection = select(measurements, objective, existing_checkpoints)
    name = selection.best_checkpoint
    return replace(
        item,
        best_step=selection.best_step,
        best_value=selection.best_value,
        final_step=selection.final_step,
        final_value=selection.final_value,
        best_checkpoint=_path_of(name, item.plan),
        metrics_at_best=selection.metrics_at_best,
    )


@dataclass(frozen=True, slots=True)
class SettingSummary:
    """A setting: its active scientific values, how its trials ended, and the best completed one (None without any).

    Its trials are those of one stage. Retrains are not trials of the search, and are not counted. `whole` is what the
    best trial measured on the whole split at its best step, by metric, where a sample of the split is evaluated on the
    way. What the best trial costs is None where it is not known; `device` is that of the best trial and its retrains.
    """

    setting: int
    scientific: Mapping[str, Scalar]
    trials: int
    completed: int
    infeasible: int
    failed: int
    best_trial: int | None = None
    best_value: float | None = None
    best_step: int | None = None
    seconds_per_step: float | None = None
    seconds_to_best: float | None = None
    examples_to_best: int | None = None
    device: str | None = None
    stage: int = 0
    whole: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The summary as JSON; `whole` is in it only where it is not empty."""
        return {name: value for name, value in asdict(self).items() if name != "whole" or value}


def settings_summary(
    outcomes: Iterable[TrialOutcome],
    scientific: Sequence[str],
    objective: Objective,
    stage: int | None = None,
    *,
    own_code: bool = False,
) -> list[SettingSummary]:
    """One summary for each setting, by its number; the values of the hyperparameters `scientific` make the settings.

    The trials are those of `stage`, None for the one that is judged; a setting may have none at a later one.

    The best trial is a completed one: infeasible and failed trials are never the best, and unfinished ones would be
    compared after less training. Of equal trials the one with the smallest id is taken.
    """
    outcomes = list(outcomes)
    judged = judged_stage(outcomes) if stage is None else stage
    by_setting: dict[int, list[TrialOutcome]] = {}
    for item in outcomes:
        by_setting.setdefault(item.plan.setting, []).append(item)
    found = [_summary(by_setting[setting], judged, scientific, objective) for setting in sorted(by_setting)]
    return [_with_cost(item, by_setting[item.setting], own_code=own_code) for item in found]


def _with_cost(summary: SettingSummary, outcomes: Sequence[TrialOutcome], *, own_code: bool) -> SettingSummary:
    """The summary with the cost of its best trial, whose retrains take the same time for a step."""
    best = next((item for item in outcomes if item.plan.trial == summary.best_trial), None)
    if best is None:
        return summary
    again = (item for item in outcomes if item.plan.trial_kind == "retrain")
    retrains = [item for item in again if (item.plan.point, item.plan.stage) == (best.plan.point, best.plan.stage)]
    cost = training_cost(best, retrains, own_code=own_code)
    return replace(
        summary,
        seconds_per_step=cost.seconds_per_step,
        seconds_to_best=cost.seconds_to_best,
        examples_to_best=cost.examples_to_best,
        device=cost.where or None,
    )


def _summary(whole: list[TrialOutcome], stage: int, scientific: Sequence[str], objective: Objective) -> SettingSummary:
    outcomes = of_stage(whole, stage)
    best = best_outcome(outcomes, objective)
    states = [item.state for item in outcomes if item.plan.trial_kind != "retrain"]
    return SettingSummary(
        setting=whole[0].plan.setting,
        scientific=_shared_values([item.plan.hyperparameters for item in whole], scientific),
        trials=len(states),
        completed=states.count("completed"),
        infeasible=states.count("infeasible"),
        failed=states.count("failed"),
        best_trial=best.plan.trial if best else None,
        best_value=best.best_value if best else None,
        best_step=best.best_step if best else None,
        stage=stage,
        whole=_whole(best, objective) if best else {},
    )


def _whole(best: TrialOutcome, objective: Objective) -> dict[str, float]:
    names = (whole_metric(objective.metric), sample_error_metric(objective.metric))
    measured = best.metrics_at_best
    # Of a metric that is no average over examples, the error is not known.
    return {name: measured[name] for name in names if name in measured} if names[0] in measured else {}


def best_outcome(outcomes: Iterable[TrialOutcome], objective: Objective) -> TrialOutcome | None:
    """The completed trial with the best value, of equal ones the one with the smallest id; None without any.

    Of several stages the judged one counts. Retrains are left out: with them a trial that was trained more often could
    win by luck.
    """
    completed = [
        item
        for item in of_judged_stage(list(outcomes))
        if item.state == "completed"
        and item.plan.trial_kind != "retrain"
        and objective.cost(item.best_value) < math.inf
    ]
    return min(completed, key=lambda item: objective.rank(item.best_value, item.plan.trial), default=None)


def _shared_values(trials: list[Mapping[str, Scalar]], names: Sequence[str]) -> dict[str, Scalar]:
    """The values that all trials of a setting share; a name may also have an alternative that varies in the setting."""
    first = trials[0]
    return {
        name: first[name]
        for name in names
        if name in first and all(name in trial and trial[name] == first[name] for trial in trials)
    }
