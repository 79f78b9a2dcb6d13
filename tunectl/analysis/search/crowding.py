"""Whether the best trials crowd one end of an axis more than uniform points would, and get better towards that end.

Deep Learning Tuning Playbook, "Identifying bad search space boundaries": "if the best points cluster towards the edge
of a search space (in some dimension), then the search space boundaries might need to be expanded". No fixed distance
counts as near: the positions of the best trials are compared with those that the same points would have if the
hyperparameter did not matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from tunectl.analysis.results.runs import Floats
from tunectl.analysis.search.permutations import (
    ENOUGH_EXCEEDING,
    FIRST_DRAWN,
    chance_of_pairing,
    drawn_orders,
    is_every_order,
    normal_scores,
    ranks,
)

FEWEST_FOR_A_CROWD = 5
"""With fewer trials even a perfect order comes by chance in more than one study in 20, as there are two ends."""

_TRIALS_A_COLUMN, _FEWEST_ADJUSTED = 2.5, 12
"""With fewer trials for each column, or in all, what the others seem to explain is mostly noise, and trials in perfect
order would be missed: then nothing is corrected for.
"""

_REFITTED_UP_TO = 150
"""With more trials the correction of each trial is so small that the corrected scores themselves can be permuted."""

_LOGISTIC = 1.702
"""The logistic function of 1.702 x equals the normal distribution function within 0.01."""

_FEWEST_IN_ORDER = 2

NEARNESS = 6
"""A trial at distance u counts as near the end by (1 - u)^6. Trials around a best place further than 0.28 from the end
then count no more than uniform ones, so a best place well inside is never taken for a crowd at the end.
"""

WIDEST_PART = 0.5
NARROWEST_PART = 0.25
_PART_OF_ONE = 2.5
"""The part of the axis next to the end that is tested for a trend: 2.5 / sqrt(trials), which is half of the axis up to
25 trials. With more trials a best place inside the range can be distinguished nearer to the end.
"""

WORTH_ASKING = 0.1
"""If a crowd is less certain than this, no trend is tested."""

OUTER = 0.25
"""The part of the axis in which the best trials are counted for the sentence."""

_RIDGE = 2.0
"""The ridge penalty on each effect of the other hyperparameters, as a number of trials."""


@dataclass(frozen=True, slots=True)
class Crowding:
    """How closely the best trials lie to one end.

    `chance_of_crowd`: the probability of such a crowd if the hyperparameter did not matter. `chance_of_trend`: the
    probability of such an improvement towards the end within the part next to it, 1 if there is no sign of a crowd;
    `in_order` says that each of the `near` trials there is better than all that are further from the end: a few trials
    cannot show more. Of the `best` trials `outer` are in the outer quarter, and `uniform` would be by chance.
    `best_places`, shape [best], are their indices in `positions`.
    """

    chance_of_crowd: float
    chance_of_trend: float
    in_order: bool
    near: int
    best: int
    outer: int
    uniform: float
    best_places: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class AdjustedScores:
    """How good trials are, corrected for the other hyperparameters.

    `normal`, shape [trials], are the normal scores of the costs, lower being better. `explained`, shape [trials,
    trials], maps normal scores to the part that the others explain; None if there are no others.
    """

    normal: Floats
    explained: Floats | None

    @cached_property
    def values(self) -> Floats:
        """The scores without the part that the others explain, shape [trials]."""
        return self._adjusted(self.normal)

    @cached_property
    def chance_of_nearness(self) -> Callable[[Floats], float]:
        """The probability that trials as good as these lie as near to an end; takes nearness, shape [trials].

        This is the permutation test of the sum of nearness times goodness. The costs are paired with the trials at
        random, and the part of the others is subtracted anew each time: where that part is large, as with few trials
        and many hyperparameters, the corrected scores are not in random order, and permuting them finds too much.
        """
        if self.explained is None or len(self.normal) > _REFITTED_UP_TO:
            return partial(chance_of_pairing, _goodness(self.values))
        return self._chance_by_refitting

    def _chance_by_refitting(self, nearness: Floats) -> float:
        seen = float(_goodness(self.values) @ nearness)
        enough = seen - 1e-9 * abs(seen)
        first = int(np.count_nonzero(self._first_drawn @ nearness >= enough))
        if first >= ENOUGH_EXCEEDING and len(self._first_drawn) == FIRST_DRAWN:
            return (1 + first) / (1 + FIRST_DRAWN)
        exceeding = int(np.count_nonzero(self._drawn @ nearness >= enough))
        orders = len(self._drawn)
        return exceeding / orders if is_every_order(len(nearness)) else (1 + exceeding) / (1 + orders)

    @cached_property
    def _first_drawn(self) -> Floats:
        return self._refitted(drawn_orders(len(self.normal))[:FIRST_DRAWN])

    @cached_property
    def _drawn(self) -> Floats:
        return self._refitted(drawn_orders(len(self.normal)))

    def _refitted(self, orders: NDArray[np.uint16]) -> Floats:
        """How good the trials would be with the costs in these orders, shape [orders, trials]."""
        return _goodness(self._adjusted(self.normal[orders]))

    def chosen(self, which: NDArray[np.bool_]) -> AdjustedScores:
        """The same for some of the trials, with their corrected scores."""
        return AdjustedScores(self.values[which], None)

    def _adjusted(self, normal: Floats) -> Floats:
        return normal if self.explained is None else np.asarray(normal - normal @ self.explained.T)


def _goodness(scores: Floats) -> Floats:
    """About -ln(rank / trials) (Savage's scores), which give most weight to the very best; shape of `scores`.

    A smooth function of the scores, so that equal scores give equal results; their deviation is set to 1 first.
    """
    deviation = np.maximum(scores.std(axis=-1, keepdims=True), 1e-12)
    return np.asarray(np.logaddexp(0.0, -_LOGISTIC * scores / deviation))


def crowding(scores: AdjustedScores, positions: Floats) -> Crowding | None:
    """How the trials with the lowest scores crowd the end at position 0; None if there are too few trials.

    `positions` have the shape [trials].
    """
    count = len(positions)
    if count < FEWEST_FOR_A_CROWD:
        return None
    values = scores.values
    near = positions <= min(max(_PART_OF_ONE / math.sqrt(count), NARROWEST_PART), WIDEST_PART)
    best = max(min(3, count // 2), round(count / 5))
    order = np.argsort(values, kind="stable")[:best]
    chance = scores.chance_of_nearness((1 - positions) ** NEARNESS)
    asked = chance <= WORTH_ASKING and near.sum() > 1
    return Crowding(
        chance_of_crowd=chance,
        chance_of_trend=chance_of_pairing(ranks(values[near]), positions[near]) if asked else 1.0,
        in_order=asked and is_in_order(values[near], positions[near]),
        near=int(near.sum()),
        best=best,
        outer=int(np.count_nonzero(positions[order] <= OUTER)),
        uniform=best * float(np.mean(positions <= OUTER)),
        best_places=tuple(order.tolist()),
    )


def is_in_order(values: Floats, positions: Floats) -> bool:
    """Whether the values rise strictly with the positions, of which there are two or more."""
    places = np.unique(positions)
    lowest = [float(values[positions == place].min()) for place in places]
    highest = [float(values[positions == place].max()) for place in places]
    return len(places) >= _FEWEST_IN_ORDER and all(high < low for high, low in zip(highest, lowest[1:], strict=False))


def adjusted_scores(losses: Floats, own: Floats, others: Sequence[Floats]) -> AdjustedScores:
    """Normal scores of the costs, and the part of them that the other hyperparameters explain.

    A quadratic in `own` (shape [trials]) and in each of the `others` is fitted by ridge regression; the part of the
    others is the correction, unless there are too few trials for it. Each of them is a column of positions, or of zeros
    and ones for a category.
    """
    scores = normal_scores(losses)
    columns = [_standardised(power) for column in (own, *others) for power in (column, (column - column.mean()) ** 2)]
    kept = [(place, column) for place, column in enumerate(columns) if column is not None]
    if not any(place >= 2 for place, _ in kept) or len(losses) < max(_FEWEST_ADJUSTED, _TRIALS_A_COLUMN * len(kept)):
        return AdjustedScores(scores, None)
    matrix = np.array([column for _, column in kept]).T
    ridge = max(_RIDGE, len(kept) / 2) * np.eye(len(kept))
    # The columns have mean 0, so the mean of the scores has no influence.
    effects = np.linalg.solve(matrix.T @ matrix + ridge, matrix.T)
    effects[[place < 2 for place, _ in kept]] = 0.0
    return AdjustedScores(scores, np.asarray(matrix @ effects))


def _standardised(column: Floats) -> Floats | None:
    deviation = float(column.std())
    return (column - column.mean()) / deviation if deviation > 1e-9 else None


def family_wise(chance: float, tests: int) -> float:
    """The chance that the best of `tests` independent tests is as good as this one (Šidák)."""
    return -math.expm1(tests * math.log1p(-min(chance, 1 - 1e-16)))


def combined_chance(chances: Sequence[float]) -> float:
    """The chance of independent tests that agree, taken together (Fisher): the tail of a chi-squared variable."""
    half = -sum(math.log(max(chance, 1e-300)) for chance in chances)
    terms, term = 1.0, 1.0
    for place in range(1, len(chances)):
        term *= half / place
        terms += term
    return min(math.exp(-half) * terms, 1.0)
