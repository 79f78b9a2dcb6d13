"""`compare`: whether to adopt one setting, or one study, in place of another, by the retrains of each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tunectl.analysis.comparison.comparison import Candidate, Comparison, compare, study_deviation
from tunectl.analysis.findings.finding_evidence import named_values, settings_of
from tunectl.analysis.results.retrains import best_searched, retrained
from tunectl.core.errors import UsageError
from tunectl.core.objective import Objective
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.records import TrialOutcome
from tunectl.core.wording import as_text
from tunectl.session.damage import DamageLog
from tunectl.session.snapshot import StudySnapshot, study_snapshot
from tunectl.store.study_folder import is_study_folder


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison: the study folder, the selected trial, its candidate, and the command to retrain it."""

    place: str
    trial: int
    candidate: Candidate
    retrain_command: str


@dataclass(frozen=True, slots=True)
class StudyComparison:
    """What is in use, what might replace it, the verdict, and the damage of their folders."""

    objective: Objective
    old: Side
    new: Side
    comparison: Comparison
    damage: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The comparison as one JSON object, with values of the objective instead of costs."""
        return {
            "objective": asdict(self.objective),
            "old": _side_json(self.old, self.objective),
            "new": _side_json(self.new, self.objective),
            **asdict(self.comparison),
            "damage": list(self.damage),
        }


def _side_json(side: Side, objective: Objective) -> dict[str, Any]:
    candidate = side.candidate
    return {
        "name": candidate.name,
        "place": side.place,
        "trial": side.trial,
        "search_value": candidate.search_value,
        "retrains": [objective.value(cost) for cost in candidate.costs],
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
    if (old_objective.metric, old_objective.direction) != (new_objective.metric, new_objective.direction):
        raise UsageError(
            f"{old} is judged by {old_objective.metric} ({old_objective.direction}), {new} by {new_objective.metric} "
            f"({new_objective.direction}): they cannot be compared"
        )
    comparison = compare(old_side.candidate, new_side.candidate)
    return StudyComparison(old_objective, old_side, new_side, comparison, damage.lines)


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
        outcomes = [item for item in study.outcomes if setting is None or item.plan.setting == setting]
        best = best_searched(outcomes, objective, 1)
        if not best:
            raise UsageError(f"{place}: no trial completed with a value of {objective.metric}")
        settings = settings_of(study.spec, study.trials)
    chosen = best[0]
    values = named_values(settings[chosen.plan.setting])
    name = f"{path.name} ({values})" if values else path.name
    again = next((item for item in retrained(study.outcomes) if item.searched is chosen), None)
    ended = [item for item in (again.retrains if again else ()) if item.state in ("completed", "infeasible")]
    searched = [
        item
        for item in outcomes
        if item.plan.setting == chosen.plan.setting
        and item.plan.trial_kind == "search"
        and item.state in ("completed", "infeasible")
    ]
    costs, of_search = ([_cost(item, objective) for item in items] for items in (ended, searched))
    identical = again is not None and again.identical
    candidate = Candidate(name, chosen.best_value or 0.0, tuple(costs), study_deviation(of_search), identical)
    flags = [] if len(settings) == 1 else ["--each-setting"]
    return objective, Side(str(path), chosen.plan.trial, candidate, tunectl_command("retrain", path, *flags))


def _cost(item: TrialOutcome, objective: Objective) -> float:
    return objective.cost(item.best_value) if item.state == "completed" else math.inf


def _setting(study: StudySnapshot, asked: str, place: str) -> int:
    settings = settings_of(study.spec, study.trials)
    words = [part.strip() for part in asked.split(",")]
    for number, values in settings.items():
        if asked == str(number) or words == [f"{name}={as_text(value)}" for name, value in values.items()]:
            return number
    listed = "\n".join(f"  {number}: {named_values(values)}" for number, values in settings.items())
    raise UsageError(f"{place}: setting {asked} not found; the settings are\n{listed}")
