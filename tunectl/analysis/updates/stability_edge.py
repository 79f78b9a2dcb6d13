"""Infeasible trials: how many there are, and whether they are beyond a threshold with the best trials next to it.

Deep Learning Tuning Playbook, "Identifying bad search space boundaries": "if all trials are infeasible for learning
rates greater than some threshold value, and if the best performing trials have learning rates at the edge of that
region, the model may suffer from stability issues preventing it from accessing higher learning rates".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.records import Scalar
from tunectl.core.wording import as_text, counted
from tunectl.space.domains import Range

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

MANY = 0.4
"""The playbook says "a very large fraction"; of learning rates searched as widely as they should be some 20 % fail."""

COMMON = 0.2
SURE_FRACTION = 0.01
"""As many infeasible trials must have at most this probability if a fifth of all trials (COMMON) were infeasible."""

_MOST_NAMED = 3


@dataclass(frozen=True, eq=False)
class StabilityEdge:
    """A threshold in a setting beyond which trials are infeasible, towards an end of an axis.

    `last_feasible` is the value next to it on the feasible side, `first_infeasible` the one on the other side. `beyond`
    of the `trials_beyond` trials beyond it are infeasible. `chance` is that of the separation, over all axes and
    settings. `crowd` says how the feasible trials crowd the threshold, None if they are too few.
    """

    axis: SettingAxis
    end: End
    last_feasible: Scalar
    first_infeasible: Scalar
    beyond: int
    trials_beyond: int
    chance: float
    crowd: Crowding | None

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
    """The thresholds of feasibility, at most one for each axis and setting."""
    asked = [axis for axis in axes if not axis.feasible.all() and axis.feasible.any()]
    found = []
    for axis in asked:
        edges = [edge for end in ("low", "high") if (edge := _edge(axis, end, 2 * len(asked))) is not None]
        found += sorted(edges, key=lambda edge: edge.chance)[:1]
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
    key, crowd = edge.axis.hyperparameter.key, edge.crowd
    assert crowd is not None
    ranked = evidence.closest_first([run for each in edges for run in each.axis.runs])
    is_rate = edge.axis.hyperparameter.name == "learning_rate"
    return Finding(
        id="stability-edge",
        level="warning",
        sentence=f"{_edge_sentence(evidence, edges)}: instability prevents better results.",
        action="find the unstable rate with lr-sweep, then make higher rates possible with warmup-sweep (or clip the "
        "gradients), before changing the range"
        if is_rate
        else f"make training more stable (a warmup, clipped gradients, a lower learning rate), then search {key} again",
        settings=tuple(each.axis.setting for each in edges),
        hyperparameters=(key,),
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
    )


def _edge_sentence(evidence: StudyEvidence, edges: Sequence[StabilityEdge]) -> str:
    edge = edges[0]
    amount = "All" if edge.beyond == edge.trials_beyond else f"{edge.beyond} of"
    where = f"{shown_value(edge.first_infeasible)} or {'above' if edge.end == 'high' else 'below'}"
    others = [
        f"{evidence.setting_name(each.axis.setting)} (from {shown_value(each.first_infeasible)} on)"
        for each in edges[1:]
    ]
    named = " and ".join(others[:_MOST_NAMED]) + (" and others" if len(others) > _MOST_NAMED else "")
    return (
        f"{amount} {counted(edge.trials_beyond, 'trial')}{of_setting_words(evidence, edge.axis.setting)} with "
        f"{edge.axis.hyperparameter.key} at {where} are infeasible, and the best trials are next to that threshold"
        + (f"; the same holds for {named}" if named else "")
    )


def _sweep_command(evidence: StudyEvidence, best: Run) -> str:
    varying = {axis.hyperparameter.name for axis in evidence.axes} - {"learning_rate"}
    values = [f"{name}={_exact(value)}" for name, value in best.plan.hyperparameters.items() if name in varying]
    return tunectl_command("lr-sweep", evidence.spec.label, *(word for value in values for word in ("--at", value)))


def _exact(value: Scalar) -> str:
    return f"{value:.6g}" if isinstance(value, float) and float(f"{value:.6g}") != value else as_text(value)


def infeasible_fraction_findings(evidence: StudyEvidence) -> list[Finding]:
    """`infeasible-fraction`: a large part of the trials is infeasible: the search space is wrong, or there is a bug.

    A setting where nearly all of them are beyond a stability edge is left out: first training must become stable there.
    """
    edges = search_places(evidence).edges
    explained = Counter[int]()
    for edge in edges:
        if edge.is_next_to_the_best(len(edges)):
            explained[edge.axis.setting] = max(explained[edge.axis.setting], edge.beyond)
    runs_of = evidence.by_setting
    lost_in = {setting: sum(not run.feasible for run in runs) for setting, runs in runs_of.items()}
    everywhere = _too_many(sum(lost_in.values()), len(evidence.searched), 1)
    concerned = {
        setting: runs
        for setting, runs in runs_of.items()
        if lost_in[setting] and explained[setting] < MOSTLY * lost_in[setting]
        if lost_in[setting] >= MANY * len(runs)
        if everywhere or _too_many(lost_in[setting], len(runs), len(runs_of))
    }
    if not concerned:
        return []
    return [_fraction_finding(evidence, concerned, [edge for edge in edges if edge.axis.setting in concerned])]


def _fraction_finding(
    evidence: StudyEvidence, concerned: Mapping[int, Sequence[Run]], edges: Sequence[StabilityEdge]
) -> Finding:
    lost = [run for runs in concerned.values() for run in runs if not run.feasible]
    shares = [_share_words(evidence, setting, runs) for setting, runs in concerned.items()]
    more = f", and the same in {len(shares) - _MOST_NAMED} more settings" if len(shares) > _MOST_NAMED else ""
    reasons = Counter(run.reason for run in lost).most_common()
    named = ", ".join(f"{reason} {count}" for reason, count in reasons)
    trials = sum(len(runs) for runs in concerned.values())
    all_lost, listed = not evidence.closest_first(evidence.searched), "; ".join(shares[:_MOST_NAMED])
    return Finding(
        id="infeasible-fraction",
        level="warning",
        sentence=f"{listed[0].upper()}{listed[1:]}{more} ({named}).",
        action=_fraction_action(edges, all_lost=all_lost),
        settings=tuple(concerned),
        hyperparameters=tuple(dict.fromkeys(edge.axis.hyperparameter.key for edge in edges)),
        trials=tuple(run.plan.trial for run in lost),
        numbers={
            "infeasible": len(lost),
            "trials": trials,
            "share": len(lost) / trials,
            "reasons": dict(reasons),
            "by_setting": {
                setting: {"infeasible": sum(not run.feasible for run in runs), "trials": len(runs)}
                for setting, runs in concerned.items()
            },
        },
        sureness=f"{len(lost)} of {trials} trials",
        changes=_narrower(edges),
    )


def _too_many(lost: int, trials: int, tests: int) -> bool:
    """Whether `lost` of the trials are a large part, and no accident in one of `tests` settings."""
    if trials == 0 or lost < MANY * trials:
        return False
    # The binomial probability of `lost` or more, each term from the one before it.
    term, found = (1 - COMMON) ** trials, 0.0
    for count in range(trials + 1):
        found += term if count >= lost else 0.0
        term *= (trials - count) / (count + 1) * COMMON / (1 - COMMON)
    return family_wise(found, tests) <= SURE_FRACTION


def _share_words(evidence: StudyEvidence, setting: int, runs: Sequence[Run]) -> str:
    lost = sum(not run.feasible for run in runs)
    amount = f"all {counted(len(runs), 'trial')}" if lost == len(runs) else f"{lost} of {len(runs)} trials"
    return f"{amount}{of_setting_words(evidence, setting)} are infeasible"


def _fraction_action(edges: Sequence[StabilityEdge], *, all_lost: bool) -> str:
    if all_lost:
        return "suspect a bug in the training code or the data before the search space; read the log of one trial"
    if not edges:
        return "change the search space so that it leaves such trials out, or look for a bug in the training code"
    where = [
        f"{edge.axis.hyperparameter.key} {'from' if edge.end == 'high' else 'up to'} "
        f"{shown_value(edge.first_infeasible)} {'on' if edge.end == 'high' else ''}".strip()
        for edge in edges[:_MOST_NAMED]
    ]
    return f"leave out the values where they are ({'; '.join(where)}), or make training stable there"


def _narrower(edges: Sequence[StabilityEdge]) -> list[Change]:
    """The ranges cut off at the threshold, unless the best trials are next to it in some setting."""
    best_next = {edge.axis.hyperparameter.path for edge in edges if edge.is_next_to_the_best(len(edges))}
    by_path: dict[tuple[str | int, ...], list[StabilityEdge]] = {}
    for edge in edges:
        if isinstance(edge.axis.hyperparameter.domain, Range):
            by_path.setdefault(edge.axis.hyperparameter.path, []).append(edge)
    changes = []
    for path, own in by_path.items():
        domain = own[0].axis.hyperparameter.domain
        if path in best_next or len({edge.end for edge in own}) > 1 or not isinstance(domain, Range):
            continue
        at = [float(edge.last_feasible) for edge in own]
        low, high = (domain.low, max(at)) if own[0].end == "high" else (min(at), domain.high)
        low, high = (int(low), int(high)) if domain.integer else (_short(low), _short(high))
        if low < high:
            reason = f"beyond it {sum(e.beyond for e in own)} of {sum(e.trials_beyond for e in own)} are infeasible"
            changes.append(Change((*path, "range"), [low, high], reason))
    return changes


def _short(number: float) -> float:
    return float(f"{number:.3g}")


def shown_value(value: Scalar) -> str:
    """A hyperparameter's value as a sentence shows it."""
    return f"{value:.3g}" if isinstance(value, float) else as_text(value)


def of_setting_words(evidence: StudyEvidence, setting: int) -> str:
    """` of optimizer=adam`; nothing if all trials are of one setting."""
    return f" of {evidence.setting_name(setting)}" if evidence.settings.get(setting) else ""
