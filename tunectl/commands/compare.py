"""`compare`: whether to adopt one setting, or one study, in place of another, by the retrains of each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tunectl.analysis.comparison.comparison import (
    NOT_REACHED,
    Candidate,
    Comparison,
    compare,
    study_deviation,
    within,
)
from tunectl.analysis.findings.finding_evidence import named_values, settings_of
from tunectl.analysis.results.retrains import best_searched, retrained
from tunectl.analysis.results.stages import of_judged_stage
from tunectl.core.errors import UsageError
from tunectl.core.objective import Objective
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.records import TrialOutcome
from tunectl.core.wording import as_text, counted
from tunectl.language.stage_lengths import stage_words, training_of
from tunectl.session.damage import DamageLog
from tunectl.session.snapshot import StudySnapshot, study_snapshot
from tunectl.store.study_folder import is_study_folder


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison: the study folder, the selected trial, its candidate, and the command to retrain it.

    `limit` is the smallest number of steps for which a retrain trained that never reached the objective's target,
    infinite where each reached it. `every` is the number of steps between two evaluations, None where it is not known.
    `steps` is the length of its trials, and `stage` its stage in words, "" where its study has only one.
    """

    place: str
    trial: int
    candidate: Candidate
    retrain_command: str
    limit: float = math.inf
    every: int | None = None
    steps: int = 0
    stage: str = ""


@dataclass(frozen=True, slots=True)
class StudyComparison:
    """What is in use, what might replace it, the verdict, what limits it (`notes`), and the damage of their folders."""

    objective: Objective
    old: Side
    new: Side
    comparison: Comparison
    damage: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The comparison as one JSON object, with values of the objective instead of costs."""
        return {
            "objective": self.objective.to_json(),
            "old": _side_json(self.old, self.objective),
            "new": _side_json(self.new, self.objective),
            **asdict(self.comparison),
            "notes": list(self.notes),
            "damage": list(self.damage),
        }


def _side_json(side: Side, objective: Objective) -> dict[str, Any]:
    candidate = side.candidate
    return {
        "name": candidate.name,
        "place": side.place,
        "trial": side.trial,
        **({"stage": side.stage} if side.stage else {}),
        "search_value": candidate.search_value,
        "retrains": [None if cost == NOT_REACHED else objective.value(cost) for cost in candidate.costs],
        **({} if objective.steps_to is None else {"not_reached": candidate.not_reached}),
        "retrain_deviation": candidate.retrain_deviation,
        "study_deviation": candidate.study_deviation,
        "identical": candidate.identical,
    }


def compare_studies(old: str, new: str | None, say: Callable[[str], None] = lambda _line: None) -> StudyComparison:
    """Compare two studies or settings, each `DIR` or `DIR:SETTING`; with one DIR its two settings.

    A setting is given by its number, or by its values as in `optimizer=adam,width=64`; without one it is the best
    setting of the study. `say` is called with each line about damage. Raises FolderError and UsageError.
    """
    if new is None:
        old, new = _two_settings(old)
    damage = DamageLog(say)
    (old_objective, old_side), (new_objective, new_side) = _side(old, damage), _side(new, damage)
    if _asked(old_objective) != _asked(new_objective):
        raise UsageError(
            f"{old} is judged by {old_objective.title} ({old_objective.best_direction}), {new} by "
            f"{new_objective.title} ({new_objective.best_direction}): they cannot be compared"
        )
    limit = min(old_side.limit, new_side.limit)
    old_side, new_side = _within(old_side, limit), _within(new_side, limit)
    comparison = compare(old_side.candidate, new_side.candidate)
    notes = _notes(old_objective, old_side, new_side, limit)
    return StudyComparison(old_objective, old_side, new_side, comparison, damage.lines, notes)


def _asked(objective: Objective) -> tuple[object, ...]:
    """What makes the values of two studies comparable."""
    return objective.metric, objective.direction, objective.steps_to


def _within(side: Side, limit: float) -> Side:
    return replace(side, candidate=replace(side.candidate, costs=within(side.candidate.costs, limit)))


def _notes(objective: Objective, old: Side, new: Side, limit: float) -> tuple[str, ...]:
    """Which stages are compared, how exactly numbers of steps are known, and what of retrains below the target."""
    found = [f"{side.candidate.name} is judged by {side.stage}" for side in (old, new) if side.stage]
    if old.stage and old.stage == new.stage:
        found = [f"both are judged by {old.stage}"]
    if found and old.steps != new.steps:
        found.append(
            f"trials of {old.steps:,} steps are compared with trials of {new.steps:,}: the longer ones may win"
        )
    if objective.steps_to is None:
        return tuple(found)
    for side in (old, new):
        missed, name = side.candidate.not_reached, side.candidate.name
        if missed:
            of = len(side.candidate.costs)
            found.append(
                f"{missed} of {counted(of, 'retrain')} of {name} did not reach {objective.target} within {limit:,.0f} "
                "steps: they rank below all that did, and there is no mean"
            )
    if old.every and new.every and old.every != new.every:
        found.append(
            f"{old.candidate.name} is evaluated every {old.every:,} steps, {new.candidate.name} every {new.every:,}: a "
            "target counts as reached at an evaluation, on average half of that later than it was"
        )
    return tuple(found)


def _two_settings(place: str) -> tuple[str, str]:
    path, setting = _split(place)
    with study_snapshot(path) as study:
        settings = sorted({item.plan.setting for item in study.outcomes})
    if setting is not None or len(settings) != 2:
        raise UsageError(f"{place}: expected two settings to compare, got {len(settings)}; name two as DIR:SETTING")
    return f"{path}:{settings[0]}", f"{path}:{settings[1]}"


def _split(place: str) -> tuple[Path, str | None]:
    """The folder and the setting; the name of a folder may have a colon, too."""
    path, colon, setting = place.rpartition(":")
    if colon and not is_study_folder(Path(place)) and is_study_folder(Path(path)):
        return Path(path), setting
    return Path(place), None


def _side(place: str, say: Callable[[str], None]) -> tuple[Objective, Side]:
    path, asked = _split(place)
    with study_snapshot(path, say) as study:
        setting = None if asked is None else _setting(study, asked, place)
        objective = study.spec.objective
        judged = of_judged_stage(study.outcomes)
        outcomes = [item for item in judged if setting is None or item.plan.setting == setting]
        best = best_searched(outcomes, objective, 1)
        if not best:
            raise UsageError(f"{place}: {objective.never_given}")
        settings = settings_of(study.spec, study.trials)
    chosen = best[0]
    values = named_values(settings[chosen.plan.setting])
    name = f"{path.name} ({values})" if values else path.name
    again = next((item for item in retrained(study.outcomes, objective) if item.searched is chosen), None)
    ended = [item for item in (again.retrains if again else ()) if item.state in ("completed", "infeasible")]
    searched = [
        item
        for item in outcomes
        if item.plan.setting == chosen.plan.setting
        and item.plan.trial_kind == "search"
        and not item.plan.suggestion  # other points that a model might have proposed are not known
        and item.state in ("completed", "infeasible")
    ]
    costs, of_search = ([_cost(item, objective) for item in items] for items in (ended, searched))
    identical = again is not None and again.identical
    # Promoted trials are a selection, and say nothing about other points.
    deviation = None if chosen.plan.stage else study_deviation(of_search)
    candidate = Candidate(name, chosen.best_value or 0.0, tuple(costs), deviation, identical)
    flags = [] if len(settings) == 1 else ["--each-setting"]
    command = tunectl_command("retrain", path, *flags)
    limit = min((float(item.final_step or 0) for item in ended if _missed(item, objective)), default=math.inf)
    training = training_of(study.spec, chosen.plan.stage)
    every = None if study.spec.own_code else training.eval_every
    stage = stage_words(study.spec, chosen.plan.stage) if study.spec.search.promote else ""
    return objective, Side(
        str(path), chosen.plan.trial, candidate, command, limit, every, training.max_train_steps, stage
    )


def _missed(item: TrialOutcome, objective: Objective) -> bool:
    """Whether a trial completed without reaching the objective's target."""
    return objective.steps_to is not None and item.state == "completed" and item.best_value is None


def _cost(item: TrialOutcome, objective: Objective) -> float:
    if _missed(item, objective):
        return NOT_REACHED
    return objective.cost(item.best_value) if item.state == "completed" else math.inf


def _setting(study: StudySnapshot, asked: str, place: str) -> int:
    settings = settings_of(study.spec, study.trials)
    words = [part.strip() for part in asked.split(",")]
    for number, values in settings.items():
        if asked == str(number) or words == [f"{name}={as_text(value)}" for name, value in values.items()]:
            return number
    listed = "\n".join(f"  {number}: {named_values(values)}" for number, values in settings.items())
    raise UsageError(f"{place}: setting {asked} not found; the settings are\n{listed}")
