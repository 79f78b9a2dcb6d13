"""Thresholds beyond which trials are infeasible, with the best trials next to them.

Deep Learning Tuning Playbook, "Identifying bad search space boundaries": "if all trials are infeasible for learning
rates greater than some threshold value, and if the best performing trials have learning rates at the edge of that
region, the model may suffer from stability issues preventing it from accessing higher learning rates".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from tunectl.analysis.comparison.setting_axes import SettingAxis, setting_axes
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Change, Finding
from tunectl.analysis.results.runs import Run
from tunectl.analysis.search.crowding import Crowding, crowding, family_wise
from tunectl.analysis.search.permutations import chance_of_pairing
from tunectl.analysis.search.widening import End
from tunectl.analysis.updates.effective_rate import EffectiveRate, effective_axes, searched_by_effective_rate, stand_ins
from tunectl.core.errors import PathKey
from tunectl.core.records import Scalar
from tunectl.core.wording import as_text, counted

FEWEST_BEYOND = 3
"""Fewer infeasible trials do not show a threshold."""

MOSTLY = 0.8
"""Beyond the threshold at least this part of the trials is infeasible, below it at most the rest of this."""

SURE_EDGE = 0.01
"""The chance, over all axes and settings, that infeasible trials gather at an end as much by accident."""

SURE_EDGE_CROWD = 0.05
SURE_EDGE_TREND = 0.05
"""The chances that the best feasible trials are at the threshold, and get better towards it, by accident; tested only
where there is a threshold.
"""

MOST_NAMED = 3
"""Of more settings or thresholds a sentence names these."""


@dataclass(frozen=True, eq=False)
class StabilityEdge:
    """A threshold in a setting beyond which trials are infeasible, towards an end of an axis.

    `last_feasible` is the value next to it on the feasible side, `first_infeasible` the one on the other side. `beyond`
    of the `trials_beyond` trials beyond it are infeasible. `chance` is that of the separation, over all axes and
    settings. `crowd` says how the feasible trials crowd the threshold, None if they are too few. `misplaced` trials are
    on the wrong side of it. `slant` has the learning rate and the momentum where the axis is that of their effective
    rate.
    """

    axis: SettingAxis
    end: End
    last_feasible: Scalar
    first_infeasible: Scalar
    beyond: int
    trials_beyond: int
    chance: float
    crowd: Crowding | None
    misplaced: int = 0
    slant: EffectiveRate | None = None

    @property
    def ends(self) -> tuple[tuple[PathKey, int, End], ...]:
        """The ends of hyperparameters, each with its setting, at which it is."""
        paths = (self.axis.hyperparameter.path,) if self.slant is None else self.slant.paths
        return tuple((path, self.axis.setting, self.end) for path in paths)

    def is_next_to_the_best(self, edges: int) -> bool:
        """Whether the best trials are next to it, corrected for testing `edges` thresholds."""
        crowd = self.crowd
        return (
            crowd is not None
            and family_wise(crowd.chance_of_crowd, edges) <= SURE_EDGE_CROWD
            and crowd.chance_of_trend <= SURE_EDGE_TREND
            and crowd.outer > crowd.uniform
        )


@dataclass(frozen=True, eq=False)
class SearchPlaces:
    """The trials of a search by ordered axis and setting, and the thresholds of feasibility."""

    axes: tuple[SettingAxis, ...]
    edges: tuple[StabilityEdge, ...]


@lru_cache(maxsize=1)
def search_places(evidence: StudyEvidence) -> SearchPlaces:
    """The axes and thresholds that the findings about ranges share; computed once for all of them."""
    axes = setting_axes(evidence)
    return SearchPlaces(tuple(axes), tuple(stability_edges(axes)))


def stability_edges(axes: Sequence[SettingAxis]) -> list[StabilityEdge]:
    """The thresholds of feasibility, at most one for each axis and setting.

    One along the effective rate replaces those of the learning rate and of the momentum, of which it shows as a blurred
    one, where it separates more of the trials.
    """
    asked = [axis for axis in axes if not axis.feasible.all() and axis.feasible.any()]
    slanted = [(axis, pair) for axis, pair in effective_axes(asked) if axis.feasible.any()]
    found: list[StabilityEdge] = []
    for axis in asked:
        edges = [edge for end in ("low", "high") if (edge := _edge(axis, end, 2 * len(asked))) is not None]
        found += sorted(edges, key=lambda edge: edge.chance)[:1]
    for axis, pair in slanted:
        edge = _edge(axis, "high", 2 * len(asked) + len(slanted))
        if edge is None:
            continue
        edge = replace(edge, slant=pair)
        blurred = [other for other in found if set(other.ends) & set(edge.ends)]
        if all(edge.misplaced < other.misplaced for other in blurred):
            found = [*(other for other in found if other not in blurred), edge]
    return found


def _edge(axis: SettingAxis, end: End, tests: int) -> StabilityEdge | None:
    # Positions are reversed for the low end, so the threshold is always towards larger positions.
    positions = axis.positions if end == "high" else 1 - axis.positions
    lost = (~axis.feasible).astype(float)
    if lost.sum() < FEWEST_BEYOND:
        return None
    chance = family_wise(chance_of_pairing(lost, positions), tests)
    if chance > SURE_EDGE:
        return None
    order = np.argsort(positions, kind="stable")
    at, lost = positions[order], lost[order]
    beyond = np.cumsum(lost[::-1])[::-1]
    right = beyond + np.concatenate([[0.0], np.cumsum(1 - lost)[:-1]])
    right[1:][np.diff(at) == 0] = -1
    right[0] = -1  # at least one trial is below
    cut = int(np.argmax(right))
    below_lost, count = lost[:cut].mean(), len(at) - cut
    if beyond[cut] < FEWEST_BEYOND or beyond[cut] < MOSTLY * count or below_lost > 1 - MOSTLY:
        return None
    feasible = axis.feasible & (positions < at[cut])
    last, first = order[:cut][lost[:cut] == 0][-1], order[cut:][lost[cut:] == 1][0]
    middle = (positions[last] + positions[first]) / 2
    distances = np.clip(1 - positions[feasible] / middle, 0, 1)
    return StabilityEdge(
        axis=axis,
        end=end,
        last_feasible=axis.values[last],
        first_infeasible=axis.values[first],
        beyond=int(beyond[cut]),
        trials_beyond=count,
        chance=chance,
        crowd=crowding(axis.scores.chosen(feasible[axis.feasible]), distances),
        misplaced=int(lost[:cut].sum() + count - beyond[cut]),
    )


def stability_edge_findings(evidence: StudyEvidence) -> list[Finding]:
    """`stability-edge`, one for each hyperparameter: infeasible beyond a threshold, and the best trials next to it."""
    edges = search_places(evidence).edges
    found: dict[tuple[Any, ...], list[StabilityEdge]] = {}
    for edge in edges:
        if edge.is_next_to_the_best(len(edges)):
            found.setdefault((edge.axis.hyperparameter.path, edge.end), []).append(edge)
    return [_edge_finding(evidence, own) for own in found.values()]


def _edge_finding(evidence: StudyEvidence, edges: Sequence[StabilityEdge]) -> Finding:
    edge = min(edges, key=lambda edge: (float(edge.axis.costs.min()), edge.axis.setting))
    edges = [edge, *(other for other in edges if other is not edge)]
    crowd = edge.crowd
    assert crowd is not None
    ranked = evidence.closest_first([run for each in edges for run in each.axis.runs])
    rates = {"learning_rate", *stand_ins(evidence.spec)}
    is_rate = edge.axis.hyperparameter.name in rates or edge.slant is not None
    changes = searched_along_edge(evidence, edges)
    return Finding(
        id="stability-edge",
        level="warning",
        sentence=f"{_edge_sentence(evidence, edges)}: instability prevents better results.",
        action=_edge_action(edge, is_rate=is_rate, changes=bool(changes)),
        settings=tuple(each.axis.setting for each in edges),
        hyperparameters=edge_keys(edges),
        trials=tuple(run.plan.trial for run in ranked[: crowd.best]),
        numbers={
            "last_feasible": edge.last_feasible,
            "first_infeasible": edge.first_infeasible,
            "infeasible_beyond": edge.beyond,
            "trials_beyond": edge.trials_beyond,
            "chance_of_separation": edge.chance,
            "chance_of_crowd": crowd.chance_of_crowd,
            "chance_of_trend": crowd.chance_of_trend,
        },
        sureness=f"p = {edge.chance:.2g} for the threshold, {crowd.chance_of_crowd:.2g} for the best next to it",
        command=_sweep_command(evidence, ranked[0]) if is_rate else "",
        changes=changes,
    )


def _edge_action(edge: StabilityEdge, *, is_rate: bool, changes: bool) -> str:
    if not is_rate:
        key = edge.axis.hyperparameter.key
        return (
            f"make training more stable (a warmup, clipped gradients, a lower learning rate), then search {key} again"
        )
    sweep = "find the unstable rate with lr-sweep, then make higher rates possible with warmup-sweep (or clip the"
    if edge.slant is None:
        return f"{sweep} gradients), before changing the range"
    what = f"search {edge.slant.text} itself, so that the range ends at the threshold"
    by_hand = f", {edge.slant.rate.name} with a formula" if not changes else ""
    return f"{what}{by_hand}; {sweep} gradients)"


def edge_keys(edges: Sequence[StabilityEdge]) -> tuple[str, ...]:
    """The hyperparameters of the thresholds, each once."""
    found: list[str] = []
    for edge in edges:
        pair = edge.slant
        found += [edge.axis.hyperparameter.key] if pair is None else [pair.rate.key, pair.momentum.key]
    return tuple(dict.fromkeys(found))


def searched_along_edge(evidence: StudyEvidence, edges: Sequence[StabilityEdge]) -> list[Change]:
    """The changes by which the next study searches the effective rate up to its threshold, in all of these settings."""
    pair = edges[0].slant
    if pair is None:
        return []
    feasible = [
        float(value)
        for edge in edges
        for value, is_feasible in zip(edge.axis.values, edge.axis.feasible.tolist(), strict=True)
        if is_feasible and float(value) <= float(edge.last_feasible)
    ]
    beyond, trials = sum(edge.beyond for edge in edges), sum(edge.trials_beyond for edge in edges)
    reason = f"beyond {shown_value(max(feasible))} of {pair.text} {beyond} of {counted(trials, 'trial')} are infeasible"
    return searched_by_effective_rate(evidence.spec, pair, feasible, reason)


def _edge_sentence(evidence: StudyEvidence, edges: Sequence[StabilityEdge]) -> str:
    edge = edges[0]
    amount = "All" if edge.beyond == edge.trials_beyond else f"{edge.beyond} of"
    where = f"{shown_value(edge.first_infeasible)} or {'above' if edge.end == 'high' else 'below'}"
    others = [
        f"{evidence.setting_name(each.axis.setting)} (from {shown_value(each.first_infeasible)} on)"
        for each in edges[1:]
    ]
    named = " and ".join(others[:MOST_NAMED]) + (" and others" if len(others) > MOST_NAMED else "")
    return (
        f"{amount} {counted(edge.trials_beyond, 'trial')}{of_setting_words(evidence, edge.axis.setting)} with "
        f"{edge.axis.hyperparameter.key} at {where} are infeasible, and the best trials are next to that threshold"
        + (f"; the same holds for {named}" if named else "")
    )


def _sweep_command(evidence: StudyEvidence, best: Run) -> str:
    varying = {axis.hyperparameter.name for axis in evidence.axes} - {"learning_rate", *stand_ins(evidence.spec)}
    values = [f"{name}={_exact(value)}" for name, value in best.plan.hyperparameters.items() if name in varying]
    return evidence.study_command("lr-sweep", *(word for value in values for word in ("--at", value)))


def _exact(value: Scalar) -> str:
    return f"{value:.6g}" if isinstance(value, float) and float(f"{value:.6g}") != value else as_text(value)


def shown_value(value: Scalar) -> str:
    """A hyperparameter's value as a sentence shows it."""
    return f"{value:.3g}" if isinstance(value, float) else as_text(value)


def of_setting_words(evidence: StudyEvidence, setting: int) -> str:
    """` of optimizer=adam`; nothing if all trials are of one setting."""
    return f" of {evidence.setting_name(setting)}" if evidence.settings.get(setting) else ""
