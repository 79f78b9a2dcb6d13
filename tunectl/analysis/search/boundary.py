"""`search-boundary`: the best trials crowd one end of a range, and results may get better beyond it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunectl.analysis.comparison.setting_axes import SettingAxis
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Change, Finding
from tunectl.analysis.results.runs import Floats
from tunectl.analysis.search.crowding import FEWEST_FOR_A_CROWD, Crowding, combined_chance, crowding, family_wise
from tunectl.analysis.search.features import fixed_entry
from tunectl.analysis.search.permutations import drawn_orders
from tunectl.analysis.search.regularisers import off_value_of
from tunectl.analysis.search.widening import End, Wider, wider
from tunectl.analysis.updates.stability_edge import SearchPlaces, search_places, shown_value
from tunectl.core.records import Scalar
from tunectl.space.domains import same
from tunectl.space.hyperparameters import Hyperparameter

SURE_END_CROWD = 0.04
SURE_END_CROWD_OF_FIVE = 0.049
"""The chance, over all hyperparameters, settings and ends, that the best trials crowd an end as much by accident. Of
five trials one order in 120 is perfect: with three hyperparameters the second limit accepts it, with four and more only
where the costs follow the positions best, see `_chance_of_best_order`.
"""

SURE_END_TREND = 0.02
"""The chance of such an improvement within the part next to the end. Without an improvement, as on a plateau that
reaches the end, nothing better is to be expected beyond it.
"""

FEW_NEAR = 5
SURE_END_TREND_OF_FEW = 0.05
"""The same if at most FEW_NEAR trials are in that part: of their 120 orders at most two are as rare as 0.02."""

_RAREST_OF_FIVE = 1 / math.factorial(FEWEST_FOR_A_CROWD) + 1e-9

_OUTERMOST = 0.15
_LOST = 0.4
"""If this part of the outermost trials is infeasible, the end is a limit of feasibility, not of the range."""


@dataclass(frozen=True, eq=False)
class CrowdedEnd:
    """An end that the best trials of a setting crowd; `chance` is that of such a crowd at any end in the study."""

    axis: SettingAxis
    end: End
    crowd: Crowding
    chance: float

    @property
    def trials(self) -> list[int]:
        """The ids of the best trials, the best first."""
        feasible = np.flatnonzero(self.axis.feasible)
        return [self.axis.runs[feasible[place]].plan.trial for place in self.crowd.best_places]


def search_boundary_findings(evidence: StudyEvidence) -> list[Finding]:
    """`search-boundary`, one for each end of a hyperparameter that is crowded in some setting.

    It is a warning, or a note if the hyperparameter can have no value beyond the end.
    """
    crowds: dict[tuple[Any, ...], list[CrowdedEnd]] = {}
    for crowd in crowded_ends(search_places(evidence)):
        crowds.setdefault((crowd.axis.hyperparameter.path, crowd.end), []).append(crowd)
    ends = {key: wider(own[0].axis.hyperparameter, own[0].end) for key, own in crowds.items()}
    values = _joined(ends)
    return [_finding(evidence, own, values.get(key[0]), ends[key]) for key, own in crowds.items()]


def crowded_ends(places: SearchPlaces) -> list[CrowdedEnd]:
    """The ends that the best trials crowd, by hyperparameter and setting, except thresholds of feasibility.

    Each end of each hyperparameter is one test in each setting, and, with several settings, one more in all of them
    together: settings with few trials that agree can show what none of them shows alone.
    """
    found: dict[tuple[Any, ...], list[tuple[SettingAxis, End, Crowding]]] = {}
    for axis in places.axes:
        for end in _ENDS:
            crowd = _crowding(axis, end)
            if crowd is not None:
                found.setdefault((axis.hyperparameter.path, end), []).append((axis, end, crowd))
    questions = sum(len(asked) + (len(asked) > 1) for asked in found.values())
    everything = [(axis, end) for asked in found.values() for axis, end, _ in asked]
    at_edges = {end for edge in places.edges for end in edge.ends}
    crowds = []
    for (path, _), asked in found.items():
        together = combined_chance([crowd.chance_of_crowd for _, _, crowd in asked])
        agree = family_wise(together, questions) <= SURE_END_CROWD
        for axis, end, crowd in asked:
            chance = family_wise(together if agree else crowd.chance_of_crowd, questions)
            sure = SURE_END_CROWD
            if len(axis.scores.normal) == FEWEST_FOR_A_CROWD:
                sure = SURE_END_CROWD_OF_FIVE
                if chance > sure and crowd.chance_of_crowd <= _RAREST_OF_FIVE:
                    chance = _chance_of_best_order(axis, end, everything, questions)
            is_crowd = chance <= sure and crowd.chance_of_crowd <= SURE_END_CROWD and _gets_better(crowd)
            if is_crowd and (path, axis.setting, end) not in at_edges and not _is_lost(axis, end):
                crowds.append(CrowdedEnd(axis, end, crowd, chance))
    return crowds


def _chance_of_best_order(
    axis: SettingAxis, end: End, everything: Sequence[tuple[SettingAxis, End]], questions: int
) -> float:
    """The chance that any end of the same five trials has a perfect order in which the costs follow the positions as
    well.

    With many hyperparameters too many orders are perfect for some end. All orders of the costs are tried at all ends
    together: of those that are perfect somewhere, some correlate less than the order in question. The ends of other
    trials are further tests.
    """
    same = [
        (_from_end(other, at), other.costs[other.feasible])
        for other, at in everything
        if other.setting == axis.setting and _feasible_trials(other) == _feasible_trials(axis)
    ]
    orders = drawn_orders(FEWEST_FOR_A_CROWD)
    best = np.full(len(orders), -1.0)
    for positions, costs in same:
        outwards = np.argsort(positions, kind="stable")
        by_place = costs[orders][:, outwards]
        is_perfect = (np.diff(by_place) > 0).all(axis=1)
        best = np.maximum(best, np.where(is_perfect, _correlations(by_place, positions[outwards]), -1.0))
    costs = axis.costs[axis.feasible]
    seen = float(_correlations(costs[None], _from_end(axis, end))[0])
    return family_wise(float(np.mean(best >= seen - 1e-12)), questions - len(same) + 1)


def _feasible_trials(axis: SettingAxis) -> list[int]:
    return [run.plan.trial for run, feasible in zip(axis.runs, axis.feasible, strict=True) if feasible]


def _correlations(costs: Floats, positions: Floats) -> Floats:
    """Pearson's correlations of rows of costs, shape [orders, trials], with positions; shape [orders]."""
    left, right = costs - costs.mean(axis=1, keepdims=True), positions - positions.mean()
    spread = np.sqrt((left**2).sum(axis=1) * (right**2).sum())
    return np.asarray(left @ right / np.maximum(spread, 1e-300))


def _gets_better(crowd: Crowding) -> bool:
    """Whether results get better towards the end, as far as these trials can show it."""
    sure = SURE_END_TREND_OF_FEW if crowd.near <= FEW_NEAR else SURE_END_TREND
    return (crowd.chance_of_trend <= sure or crowd.in_order) and crowd.outer > crowd.uniform


_ENDS: tuple[End, ...] = ("low", "high")


def _crowding(axis: SettingAxis, end: End) -> Crowding | None:
    positions = _from_end(axis, end)
    if len(np.unique(positions)) < 3:  # between two places there is no way to go on
        return None
    crowd = crowding(axis.scores, positions)
    # Trials that never reached a target are not ordered: where they would be among the best, these are not known.
    return None if crowd is None or axis.reached < crowd.best else crowd


def _from_end(axis: SettingAxis, end: End) -> Floats:
    """The distance of the feasible trials from an end."""
    positions = axis.positions[axis.feasible]
    return positions if end == "low" else 1 - positions


def _is_lost(axis: SettingAxis, end: End) -> bool:
    """Whether the trials next to an end are infeasible too often for a wider range to be of use."""
    order = np.argsort(axis.positions if end == "low" else -axis.positions, kind="stable")
    outermost = order[: max(3, round(_OUTERMOST * len(order)))]
    return float(np.mean(~axis.feasible[outermost])) >= _LOST


def _joined(ends: Mapping[tuple[Any, ...], Wider | None]) -> dict[Any, Wider]:
    """One wider domain for each hyperparameter, wider at both of its ends if both are crowded."""
    found: dict[Any, Wider] = {}
    for (path, end), item in ends.items():
        if item is None:
            continue
        before = found.get(path)
        if before is None:
            found[path] = item
        elif item.key == "range":
            pair = (item.value[0], before.value[1]) if end == "low" else (before.value[0], item.value[1])
            found[path] = Wider("range", list(pair))
        else:
            found[path] = Wider("values", list(dict.fromkeys([*before.value, *item.value])))
    return found


def _finding(evidence: StudyEvidence, crowds: Sequence[CrowdedEnd], joined: Wider | None, own: Wider | None) -> Finding:
    crowds = sorted(crowds, key=lambda item: item.chance)
    first = crowds[0]
    item, crowd = first.axis.hyperparameter, first.crowd
    end = "lowest" if first.end == "low" else "highest"
    value = end_value(item, first.end)
    named = [evidence.setting_name(each.axis.setting) for each in crowds if evidence.settings[each.axis.setting]]
    of_settings = f" of {' and of '.join(named[:3])}" + (" and others" if len(named) > 3 else "") if named else ""
    corrected = "; corrected for the other hyperparameters" if first.axis.others else ""
    changes: list[Change] = []
    if own is not None and joined is not None:
        reason = "the best trials crowd the end of the searched range"
        changes.append(Change((*item.path, joined.key), joined.value, reason))
    elif own is None and _is_dropped(evidence, item, value):
        changes.append(Change(item.path, fixed_entry(item, value), "the less of it, the better"))
    return Finding(
        id="search-boundary",
        level="warning" if own is not None else "note",
        sentence=f"{_what(crowd, of_settings)} the {first.end} end of {item.key}: {crowd.outer} of the best "
        f"{crowd.best} {'is' if crowd.outer == 1 else 'are'} in the {end} quarter of its scale (by chance it would be "
        f"{crowd.uniform:.1f}{corrected}), and results still get better towards {shown_value(value)}.",
        action=_action(item, own, joined, shown_value(value)),
        settings=tuple(each.axis.setting for each in crowds),
        hyperparameters=(item.key,),
        trials=tuple(trial for each in crowds for trial in each.trials),
        numbers={
            "end": first.end,
            "end_value": value,
            "best_trials": crowd.best,
            "best_in_outer_quarter": crowd.outer,
            "expected_in_outer_quarter": crowd.uniform,
            "chance_of_crowd": first.chance,
            "chance_of_trend": crowd.chance_of_trend,
        },
        sureness=f"p = {first.chance:.2g} over all hyperparameters and settings",
        changes=tuple(changes),
    )


def _what(crowd: Crowding, of_settings: str) -> str:
    """What is seen at an end: among few trials it may be their order alone."""
    is_crowd = 2 * crowd.outer > crowd.best
    return f"The best trials{of_settings} crowd" if is_crowd else f"The best trials{of_settings} lie towards"


def _is_dropped(evidence: StudyEvidence, item: Hyperparameter, value: Scalar) -> bool:
    """Whether a hyperparameter is off at this end and may be fixed there: nothing depends on it, others vary."""
    off = off_value_of(item)
    others = [other for other in evidence.spec.hyperparameters if other.has_coordinate and other is not item]
    is_parent = any(item.name in other.when for other in evidence.spec.hyperparameters)
    is_free = item.role == "nuisance" and not is_parent and evidence.spec.search.sampler != "points"
    return off is not None and same(off, value) and is_free and bool(others)


def end_value(item: Hyperparameter, end: End) -> Scalar:
    """The value at an end of an ordered hyperparameter."""
    return (min if end == "low" else max)(item.domain.numbers)


def _action(item: Hyperparameter, own: Wider | None, joined: Wider | None, at: str) -> str:
    if own is None or joined is None:
        return f"no value lies beyond {at}: consider fixing {item.key} there, to search the others more densely"
    listed = ", ".join(shown_value(value) for value in joined.value)
    return f"search {item.key} in [{listed}], in a new study"
