"""`compare`: whether to adopt one setting, or one study, in place of another, by the retrains of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from tunectl.analysis.comparison.adoption import (
    RetrainLimits,
    StudyVariance,
    ValidationSet,
    retrain_limits,
    study_variance,
    validation_of,
    weighed_with_examples,
    weighed_with_searches,
)
from tunectl.analysis.comparison.comparison import (
    LEVEL,
    NOT_REACHED,
    Comparison,
    compare,
    within,
)
from tunectl.analysis.results.training_cost import TrainingCost
from tunectl.commands.comparison_sides import Side, side_of, two_settings
from tunectl.core.errors import UsageError
from tunectl.core.objective import Objective
from tunectl.core.wording import counted
from tunectl.session.damage import DamageLog


@dataclass(frozen=True, slots=True)
class StudyComparison:
    """What is in use, what might replace it, the verdict, what limits it (`notes`), and the damage of their folders.

    `limits`, `searches` and `validation` are what the numbers of retrains, searches and validation examples can show;
    None where it is not known.
    """

    objective: Objective
    old: Side
    new: Side
    comparison: Comparison
    damage: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    limits: RetrainLimits | None = None
    searches: StudyVariance | None = None
    validation: ValidationSet | None = None

    @property
    def retrains_decide(self) -> bool:
        """Whether the retrains alone would say adopt: then more of them do not help where the verdict is another."""
        return self.comparison.p_better is not None and self.comparison.p_better <= LEVEL

    def to_json(self) -> dict[str, Any]:
        """The comparison as one JSON object, with values of the objective instead of costs."""
        return {
            "objective": self.objective.to_json(),
            "old": _side_json(self.old, self.objective),
            "new": _side_json(self.new, self.objective),
            **asdict(self.comparison),
            **{
                name: None if found is None else asdict(found)
                for name, found in (
                    ("retrain_limits", self.limits),
                    ("study_variance", self.searches),
                    ("validation_set", self.validation),
                )
            },
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
        "cost": cost_json(side.cost),
        "evaluated_examples": side.evaluated,
        "other_searches": len(side.searches),
    }


def cost_json(cost: TrainingCost) -> dict[str, Any]:
    """What training costs, as JSON."""
    return {
        "seconds_per_step": cost.seconds_per_step,
        "steps_to_best": cost.steps_to_best,
        "seconds_to_best": cost.seconds_to_best,
        "examples_to_best": cost.examples_to_best,
        "devices": list(cost.devices),
    }


def compare_studies(old: str, new: str | None, say: Callable[[str], None] = lambda _line: None) -> StudyComparison:
    """Compare two studies, settings or trials, each `DIR`, `DIR:SETTING` or `DIR/TRIAL`; with one DIR its two settings.

    A setting is given by its number, or by its values as in `optimizer=adam,width=64`; without one it is the best
    setting of the study. `say` is called with each line about damage. Raises FolderError and UsageError.
    """
    if new is None:
        old, new = two_settings(old)
    damage = DamageLog(say)
    (old_objective, old_side), (new_objective, new_side) = side_of(old, damage), side_of(new, damage)
    if _asked(old_objective) != _asked(new_objective):
        raise UsageError(
            f"{old} is judged by {old_objective.title} ({old_objective.best_direction}), {new} by "
            f"{new_objective.title} ({new_objective.best_direction}): they cannot be compared"
        )
    limit = min(old_side.limit, new_side.limit)
    old_side, new_side = _within(old_side, limit), _within(new_side, limit)
    objective, found = old_objective, compare(old_side.candidate, new_side.candidate)
    searches = study_variance(*([side.candidate.costs, *side.searches] for side in (old_side, new_side)))
    costs = [side.candidate.costs for side in (old_side, new_side)]
    examples = old_side.evaluated if old_side.evaluated == new_side.evaluated else None
    validation = validation_of(objective, costs, examples, found)
    found = weighed_with_examples(weighed_with_searches(found, searches), validation)
    limits = retrain_limits(old_side.candidate, new_side.candidate)
    notes = [*_notes(objective, old_side, new_side, limit), *old_side.notes, *new_side.notes]
    if _on_other_devices(old_side, new_side):
        notes.append("the times were measured on different devices, and can only be compared if these are alike")
    if limits is not None and found.verdict == "not enough evidence":
        notes += limits.sentences
    if searches is not None:
        notes.append(searches.sentence)
    if validation is not None:
        notes.append(validation.sentence)
    elif objective.steps_to is None and found.improvement is not None:
        notes.append(_unknown_validation(objective, old_side, new_side))
    return StudyComparison(
        objective, old_side, new_side, found, damage.lines, tuple(dict.fromkeys(notes)), limits, searches, validation
    )


def _on_other_devices(old: Side, new: Side) -> bool:
    one, other = set(old.cost.devices), set(new.cost.devices)
    return bool(one and other) and not one & other


def _unknown_validation(objective: Objective, old: Side, new: Side) -> str:
    """Why the variance of a finite validation set is not known."""
    if old.evaluated and new.evaluated and old.evaluated != new.evaluated:
        why = f"one is evaluated on {old.evaluated:,} examples, the other on {new.evaluated:,}"
    elif old.evaluated and new.evaluated:
        why = f"{objective.metric} is no rate of {old.evaluated:,} examples"
    else:
        why = "the number of its examples was not recorded"
    return f"how much another validation set would change the difference is not known: {why}"


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
