"""Do the best trials crowd one end of an axis more than uniform points would, and is it better still towards that end?

Deep Learning Tuning Playbook, "Identifying bad search space boundaries": "if the best points cluster towards the edge
of a search space (in some dimension), then the search space boundaries might need to be expanded". How near is near is
not a matter of a fixed distance: the positions of the best are compared with those that the same points would have if
the hyperparameter did not matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunectl.analysis.permutations import chance_of_pairing, normal_scores, ranks
from tunectl.analysis.runs import Floats

FEWEST_TRIALS = 8
"""Fewer trials cannot show a trend in the part next to the end: they lie there by threes and fours."""

NEARNESS = 6
"""A trial at position u counts as near the end by (1 - u)^6. Trials about a best place further than 0.28 from the end
then count for no more than uniform ones do, so that a best place well inside is never taken for a crowd at the end.
"""

WIDEST_PART = 0.5
NARROWEST_PART = 0.25
_PART_OF_ONE = 2.5
"""How much of the axis next to the end is asked for a trend: 2.5 / sqrt(trials), half of it up to 25 trials. The more
trials there are, the nearer to the end a best place inside the range can be told from one beyond.
"""

WORTH_ASKING = 0.1
"""With no sign of a crowd no trend is looked for."""

OUTER = 0.25
"""The part of the axis in which the best trials are counted, for the sentence."""

_RIDGE = 2.0
"""So many trials' worth of doubt about each effect of the other hyperparameters."""


@dataclass(frozen=True, slots=True)
class Crowding:
    """How the best trials lie towards one end.

    `chance_of_crowd`: the probability of such a crowd, did the hyperparameter not matter. `chance_of_trend`: that of
    such an improvement towards the end within the part next to it, 1 where there is no sign of a crowd. Of the `best`
    trials `outer` lie in the outer quarter, `uniform` of them would by chance. `best_places`, shape [best], are where
    they lie in `positions`.
    """

    chance_of_crowd: float
    chance_of_trend: float
    best: int
    outer: int
    uniform: float
    best_places: tuple[int, ...]


def crowding(scores: Floats, positions: Floats) -> Crowding | None:
    """How the trials with the lowest scores crowd the end at position 0; None for too few trials.

    `scores` and `positions` have the shape [trials]; equal scores share what they claim.
    """
    count = len(scores)
    if count < FEWEST_TRIALS:
        return None
    places = ranks(scores)
    near = positions <= min(max(_PART_OF_ONE / math.sqrt(count), NARROWEST_PART), WIDEST_PART)
    best = max(3, round(count / 5))
    order = np.argsort(scores, kind="stable")[:best]
    # Savage's scores: how good the very best are weighs most.
    chance = chance_of_pairing(-np.log(places / (count + 1)), (1 - positions) ** NEARNESS)
    asked = chance <= WORTH_ASKING and near.sum() > 1
    return Crowding(
        chance_of_crowd=chance,
        chance_of_trend=chance_of_pairing(ranks(scores[near]), positions[near]) if asked else 1.0,
        best=best,
        outer=int(np.count_nonzero(positions[order] <= OUTER)),
        uniform=best * float(np.mean(positions <= OUTER)),
        best_places=tuple(order.tolist()),
    )


def adjusted_scores(losses: Floats, own: Floats, others: Sequence[Floats]) -> Floats:
    """Normal scores of the losses less what the other hyperparameters explain of them; shape [trials].

    A quadratic in `own` (shape [trials]) and in each of the `others` is fitted together, by ridge regression, and the
    part of the others is taken off. Each of them is a column of positions, or of zeros and ones for a category.
    """
    scores = normal_scores(losses)
    columns = [_standardised(power) for column in (own, *others) for power in (column, (column - column.mean()) ** 2)]
    kept = [(place, column) for place, column in enumerate(columns) if column is not None]
    if not kept:
        return scores
    matrix = np.array([column for _, column in kept]).T
    ridge = max(_RIDGE, len(kept) / 2) * np.eye(len(kept))
    effects = np.linalg.solve(matrix.T @ matrix + ridge, matrix.T @ (scores - scores.mean()))
    effects[[place < 2 for place, _ in kept]] = 0.0
    explained: Floats = matrix @ effects
    return scores - explained


def _standardised(column: Floats) -> Floats | None:
    deviation = float(column.std())
    return (column - column.mean()) / deviation if deviation > 1e-9 else None


def family_wise(chance: float, tests: int) -> float:
    """The chance that the best of so many independent tests is as good as this one (Šidák)."""
    return -math.expm1(tests * math.log1p(-min(chance, 1 - 1e-16)))
