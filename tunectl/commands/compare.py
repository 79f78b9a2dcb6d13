"""`compare`: whether to adopt one setting, or one study, in place of another, by the retrains of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tunectl.analysis.comparison.adoption import (
    RetrainLimits,
    StudyVariance,
    ValidationSet,
    retrain_limits,
    study_variance,
    validation_set,
    weighed_with_examples,
    weighed_with_searches,
)
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
from tunectl.analysis.results.training_cost import TrainingCost, training_cost
from tunectl.core.errors import UsageError
from tunectl.core.objective import Objective
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.records import TrialOutcome
from tunectl.core.wording import as_text, counted
from tunectl.session.damage import DamageLog
from tunectl.session.repeated_searches import other_searches
from tunectl.session.snapshot import StudySnapshot, study_snapshot
from tunectl.store.study_folder import is_study_folder
from tunectl.store.trial_files import read_result


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison: the study folder, the selected trial, its candidate, and the command to retrain it.

    `limit` is the smallest number of steps for which a retrain trained that never reached the objective's target,
    infinite where each reached it. `every` is the number of steps between two evaluations, None where it is not known.
    `evaluated` is the number of examples on which the objective's metric is measured, None where it is not known.
    `searches` are the costs of the retrains of the best trial of each other search of the same study; `notes` say which
    of these searches are left out.
    """

    place: str
    trial: int
    candidate: Candidate
    retrain_command: str
    cost: TrainingCost
    limit: float = math.inf
    every: int | None = None
    evaluated: int | None = None
    searches: tuple[tuple[float, ...], ...] = ()
    notes: tuple[str, ...] = ()


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
    objective, found = old_objective, compare(old_side.candidate, new_side.candidate)
    searches = study_variance(*([side.candidate.costs, *side.searches] for side in (old_side, new_side)))
    validation = _validation(objective, old_side, new_side, found)
    found = weighed_with_examples(weighed_with_searches(found, searches), validation)
    limits = retrain_limits(old_side.candidate, new_side.candidate)
    notes = [*_notes(objective, old_side, new_side, limit), *old_side.notes, *new_side.notes]
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


def _validation(objective: Objective, old: Side, new: Side, found: Comparison) -> ValidationSet | None:
    if objective.steps_to is not None or found.improvement is None or not old.evaluated:
        return None
    if old.evaluated != new.evaluated:
        return None
    before, after = ([objective.value(cost) for cost in side.candidate.costs] for side in (old, new))
    return validation_set(old.evaluated, before, after, found.improvement)


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
    """How exactly numbers of steps are known, and what is known of retrains that never reached the target."""
    if objective.steps_to is None:
        return ()
    found = []
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


def trial_place(place: str) -> tuple[Path, int] | None:
    """The folder and the trial of `DIR/TRIAL`; None where the place is no trial of a study folder."""
    path = Path(place)
    if not path.name.isdecimal() or is_study_folder(path):
        return None
    parent = path.parent.parent if path.parent.name == "trials" else path.parent
    return (parent, int(path.name)) if is_study_folder(parent) else None


def _split(place: str) -> tuple[Path, str | None]:
    """The folder and the setting; the name of a folder may have a colon, too."""
    path, colon, setting = place.rpartition(":")
    if colon and not is_study_folder(Path(place)) and is_study_folder(Path(path)):
        return Path(path), setting
    return Path(place), None


def _side(place: str, say: Callable[[str], None]) -> tuple[Objective, Side]:
    at_trial = trial_place(place)
    path, asked = _split(place) if at_trial is None else (at_trial[0], None)
    with study_snapshot(path, say) as study:
        setting = None if asked is None else _setting(study, asked, place)
        objective = study.spec.objective
        outcomes = [item for item in study.outcomes if setting is None or item.plan.setting == setting]
        ranked = best_searched(outcomes, objective, len(outcomes))
        if at_trial is not None:
            chosen = asked_trial(study, at_trial[1], place)
            setting = chosen.plan.setting
        elif ranked:
            chosen = ranked[0]
        else:
            raise UsageError(f"{place}: {objective.never_given}")
        settings = settings_of(study.spec, study.trials)
    values = named_values(settings[chosen.plan.setting])
    name = f"{path.name} ({values})" if values else path.name
    name = name if at_trial is None else f"{path.name}/{chosen.plan.trial}"
    again = next((item for item in retrained(study.outcomes, objective) if item.searched is chosen), None)
    ended = _ended(again.retrains if again else ())
    of_setting = [item for item in outcomes if item.plan.setting == chosen.plan.setting]
    searched = _ended(item for item in of_setting if item.plan.trial_kind == "search")
    costs, of_search = ([_cost(item, objective) for item in items] for items in (ended, searched))
    identical = again is not None and again.identical
    candidate = Candidate(name, chosen.best_value or 0.0, tuple(costs), study_deviation(of_search), identical)
    searches, notes = _other_searches(study, setting, say)
    rank = ranked.index(chosen) + 1 if chosen in ranked else 1
    flags: list[str | int] = ["--best", rank] if rank > 1 else [] if len(settings) == 1 else ["--each-setting"]
    return objective, Side(
        str(path),
        chosen.plan.trial,
        candidate,
        tunectl_command("retrain", path, *flags),
        training_cost(chosen, again.retrains if again else (), own_code=study.spec.own_code),
        limit=min((float(item.final_step or 0) for item in ended if _missed(item, objective)), default=math.inf),
        every=None if study.spec.own_code else study.spec.training.eval_every,
        evaluated=_evaluated(study, [chosen, *ended]),
        searches=searches,
        notes=notes,
    )


def asked_trial(study: StudySnapshot, trial: int, place: str) -> TrialOutcome:
    """The trial of a study that a user names by its id; raises UsageError where it has no result to compare."""
    found = next((item for item in study.outcomes if item.plan.trial == trial), None)
    if found is None:
        raise UsageError(f"{place}: no trial {trial} in this study; it has {counted(len(study.outcomes), 'trial')}")
    if found.plan.trial_kind == "retrain":
        key = (found.plan.setting, found.plan.point)
        searched = (item for item in study.outcomes if (item.plan.setting, item.plan.point) == key)
        first = next((item.plan.trial for item in searched if item.plan.trial_kind == "search"), None)
        raise UsageError(f"{place}: is a retrain of trial {first}; name that one")
    if found.state != "completed":
        raise UsageError(f"{place}: expected a completed trial, got one that is {found.state}")
    if found.best_value is None:
        raise UsageError(f"{place}: {study.spec.objective.never_given}")
    return found


def _ended(items: Iterable[TrialOutcome]) -> list[TrialOutcome]:
    return [item for item in items if item.state in ("completed", "infeasible")]


def _other_searches(
    study: StudySnapshot, setting: int | None, say: Callable[[str], None]
) -> tuple[tuple[tuple[float, ...], ...], tuple[str, ...]]:
    """The costs of the retrains of the best trial of each other search of the study, and what is left out."""
    found, notes = [], []
    for other in other_searches(study.folder.path, study.spec):
        if other.problem:
            notes.append(f"not weighed as another search: {other.problem}")
            continue
        with study_snapshot(other.folder, say) as repeat:
            objective = repeat.spec.objective
            outcomes = [item for item in repeat.outcomes if setting is None or item.plan.setting == setting]
            best = best_searched(outcomes, objective, 1)
            again = [item for item in retrained(outcomes, objective) if best and item.searched is best[0]]
        costs = tuple(_cost(item, objective) for one in again for item in _ended(one.retrains))
        if costs:
            found.append(costs)
        else:
            command = tunectl_command("retrain", other.folder)
            notes.append(f"the search {other.folder} is not weighed: its best trial has no retrains (`{command}`)")
    return tuple(found), tuple(notes)


def _evaluated(study: StudySnapshot, items: Sequence[TrialOutcome]) -> int | None:
    """The number of examples on which the metric of these trials was measured; None unless all have the same."""
    split = study.spec.objective.metric.partition("/")[0]
    results = [read_result(study.folder.trial(item.plan.trial)) for item in items if item.state == "completed"]
    sizes = {None if result is None else result.evaluated_examples.get(split) for result in results}
    return sizes.pop() if len(sizes) == 1 else None


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
