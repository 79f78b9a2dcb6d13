"""What is asked of the trials of a setting: how good they are, and which are infeasible, against what was varied."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tunectl.analysis.comparison.setting_axes import columns_over
from tunectl.analysis.findings.finding_evidence import HyperparameterAxis, StudyEvidence
from tunectl.analysis.results.runs import Floats, Run
from tunectl.analysis.search.effect_model import Factor
from tunectl.analysis.search.effect_tests import own_part, unit_columns
from tunectl.analysis.search.permutations import scores_within

FEWEST_TRIALS = 10
"""With fewer (feasible) trials, or fewer in which a hyperparameter is active, nothing is said."""

FEWEST_OF_A_KIND = 4
"""Fewer infeasible (or feasible) trials do not show what decides about it."""

MOST_TRIALS = 1000
"""With more trials the first ones are judged; they cover the space as evenly as all."""

MOVED_TOGETHER = 0.8
"""Hyperparameters of which one explains this part of the other's variance cannot be distinguished."""

MOST_SETTINGS = 16
"""Of more settings the best ones are judged one by one: with more questions no test could be sure of any."""

Asked = Literal["objective", "feasibility"]


@dataclass(frozen=True, eq=False)
class Response:
    """What the trials of a setting, or of all settings together (None), show about the objective or feasibility.

    `runs` are the trials, `scores` of shape [points] their normal scores, or 1 for infeasible ones and 0 for others;
    of all settings together the mean over the settings at each point, because what trains at one point is alike in all
    settings. `axes` are the hyperparameters behind each of the `factors`, by place. `unknown` says of others by key why
    these trials cannot show their effect. `left_out` counts trials that a sampler suggested: they are not spread evenly
    and not judged.
    """

    setting: int | None
    asked: Asked
    runs: tuple[Run, ...]
    scores: Floats
    axes: tuple[tuple[HyperparameterAxis, ...], ...]
    factors: tuple[Factor, ...]
    unknown: dict[str, str]
    left_out: int

    @property
    def points(self) -> int:
        """The number of different points in the space."""
        return len(self.scores)

    def name(self, place: int) -> str:
        """A factor by the keys of its hyperparameters."""
        return " or ".join(axis.key for axis in self.axes[place])


def responses(evidence: StudyEvidence) -> list[Response]:
    """Those of each setting with ended trials (of many, of the best ones) and, where there are several, of all."""
    ended = {setting: runs for setting, runs in evidence.by_setting.items() if runs}
    best = sorted(ended, key=lambda setting: (float(evidence.costs(ended[setting]).min()), setting))
    groups: list[int | None] = [*sorted(best[:MOST_SETTINGS]), *([None] if len(ended) > 1 else [])]
    return [response for setting in groups for response in _responses(evidence, setting)]


def _responses(evidence: StudyEvidence, setting: int | None) -> Iterator[Response]:
    found = evidence.searched if setting is None else evidence.by_setting[setting]
    spread = tuple(run for run in found if not run.plan.suggestion)
    runs, left_out = spread[:MOST_TRIALS], len(found) - len(spread)
    costs = evidence.ordered_costs(runs)
    feasible = np.isfinite(costs)
    settings = np.array([run.plan.setting for run in runs], dtype=int)
    trained = tuple(run for run, is_feasible in zip(runs, feasible.tolist(), strict=True) if is_feasible)
    scores = scores_within(costs[feasible], settings[feasible])
    yield _response(evidence, (setting, "objective", left_out), trained, scores)
    lost = (~feasible).astype(float)
    if min(lost.sum(), feasible.sum()) >= FEWEST_OF_A_KIND:
        for number in np.unique(settings):
            lost[settings == number] -= lost[settings == number].mean()
        yield _response(evidence, (setting, "feasibility", left_out), runs, lost)


def _response(
    evidence: StudyEvidence, head: tuple[int | None, Asked, int], runs: tuple[Run, ...], scores: Floats
) -> Response:
    setting, asked, left_out = head
    points = _points(runs) if setting is None else [[place] for place in range(len(runs))]
    found: list[tuple[HyperparameterAxis, Factor]] = []
    unknown: dict[str, str] = {}
    for axis in evidence.axes:
        inside = {run.plan.trial: run.plan.setting for run in axis.runs}
        settings = set(inside.values())
        # What is active in one setting alone is judged there.
        asks = len(settings) > 1 if setting is None else setting in settings
        if not axis.hyperparameter.has_coordinate or not asks:
            continue
        own = [[place for place in point if runs[place].plan.trial in inside] for point in points]
        active = np.array([bool(places) for places in own], dtype=bool)
        chosen = [runs[(places or point)[0]] for places, point in zip(own, points, strict=True)]
        factor = _factor(axis, chosen, active)
        if np.count_nonzero(active) < FEWEST_TRIALS:
            unknown[axis.key] = f"fewer than {FEWEST_TRIALS} trials"
        elif factor is None:
            unknown[axis.key] = "one value"
        else:
            found.append((axis, factor))
    groups = _moved_together([factor for _, factor in found])
    axes = tuple(tuple(found[place][0] for place in group) for group in groups)
    factors = tuple(_as_one([found[place][1] for place in group]) for group in groups)
    means = np.array([scores[point].mean() for point in points], dtype=float)
    return Response(setting, asked, runs, means, axes, factors, unknown, left_out)


def _points(runs: Sequence[Run]) -> list[list[int]]:
    """The places of the runs at each point of the space: one of each setting, as far as they ended."""
    found: dict[Hashable, list[int]] = {}
    for place, run in enumerate(runs):
        found.setdefault(run.plan.coordinates or (run.plan.setting, run.plan.point), []).append(place)
    return list(found.values())


def _factor(axis: HyperparameterAxis, runs: Sequence[Run], active: NDArray[np.bool_]) -> Factor | None:
    """The columns of a hyperparameter over these runs; None if they have a single value of it."""
    linear = []
    for column in columns_over(axis, runs):
        inside = column[active]
        _, counts = np.unique(inside, return_counts=True)
        if len(counts) > 1 and len(inside) - counts.max() > 1:  # a value of a single trial shows nothing
            linear.append(np.where(active, column - inside.mean(), 0.0))
    curved = tuple(len(np.unique(column[active])) > 2 for column in linear)
    return Factor((axis.key,), tuple(linear), curved, active) if linear else None


def _moved_together(factors: Sequence[Factor]) -> list[list[int]]:
    """The places of the factors, in groups that these trials vary together."""
    bases = [unit_columns(factor.linear, len(factor.active)) for factor in factors]
    spans = [own_part(basis, np.empty((len(basis), 0))) for basis in bases]
    groups: list[list[int]] = []
    for place, basis in enumerate(bases):
        alike = [group for group in groups if any(_explains(spans[other], basis) for other in group)]
        alike += [group for group in groups if any(_explains(spans[place], bases[other]) for other in group)]
        merged = sorted({place, *(other for group in alike for other in group)})
        groups = sorted([*(group for group in groups if group not in alike), merged])
    return groups


def _explains(span: Floats, columns: Floats) -> bool:
    return bool(((span.T @ columns) ** 2).sum(axis=0).max() > MOVED_TOGETHER)


def _as_one(factors: Sequence[Factor]) -> Factor:
    return Factor(
        tuple(key for factor in factors for key in factor.keys),
        tuple(column for factor in factors for column in factor.linear),
        tuple(curved for factor in factors for curved in factor.curved),
        np.any([factor.active for factor in factors], axis=0),
    )
