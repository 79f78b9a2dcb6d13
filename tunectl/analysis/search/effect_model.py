"""Which hyperparameters a response depends on, alone and in pairs, and which part of its variance each explains.

Forward selection: as long as the strongest hyperparameter explains more than chance does, it is added to the model;
then the same for pairs. A hyperparameter has a linear and a squared term, a pair the product of the two.

Of regression on normal scores, kernels (distance correlation, HSIC), random forests (fANOVA) and Gaussian processes
this was the most reliable at 20 to 100 trials: kernels took a curved main effect for an interaction in up to 43 % of
additive surfaces, and forests missed two clear effects of five hyperparameters at 40 trials in four of five studies.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tunectl.analysis.results.runs import Floats
from tunectl.analysis.search.crowding import family_wise
from tunectl.analysis.search.effect_tests import (
    Group,
    SumsOfSquares,
    family_chances,
    group_of,
    joined,
    own_part,
    sums_of_squares,
    unit_columns,
)

SURE_EFFECT = 0.02
SURE_PAIR = 0.012
"""The chance, over all hyperparameters (pairs), responses and settings of a study, that any is named by accident."""

LEAST_PAIR = 0.03
"""A pair that explains a smaller part of the variance is of no use to know, however sure it is."""

INTERVAL = 0.9
"""The part of studies in which the interval of a share holds the true one."""

FEWEST_LEFT = 4
"""The model keeps at least this many trials more than it has terms."""

_TRIALS_A_TERM, _MOST_POWERS = 8, 4
"""A hyperparameter that was found gets a further power for each 8 trials a hyperparameter, up to the fourth."""

_CROWDED = 100
"""With more trials every effect shows beside the noise of the others."""

_VARIANCE_OF_LOG_ODDS = 2.0
"""Of the ratio of two sampled variances, over the number of points: about 0.8 for a uniform position, and more for what
has long tails.
"""

_NORMAL = NormalDist()

_LEAST_REST = 1e-6
"""At least this part is left, as odds, where the fit is exact."""

_LARGEST_RATIO = 1000.0
"""A larger ratio of variances (an exact fit) has the interval of this one."""

FEWEST_TOGETHER = 8
"""A pair is tested if both are active in at least this many trials."""

Pair = tuple[int, int]
_Name = TypeVar("_Name", int, Pair, tuple[int, bool])


@dataclass(frozen=True, slots=True)
class Questions:
    """How many models of a study ask for factors and for pairs, and how many draws distinguish chances that small."""

    factors: int
    pairs: int
    draws: int


@dataclass(frozen=True, eq=False)
class Factor:
    """What is varied as one: mostly one hyperparameter, several if these trials vary them together.

    `linear` are its columns, each of shape [trials], with mean 0 over the trials in which it is active and 0 elsewhere:
    positions, or one column for each category but the first. `curved`: which of them have more than two values.
    """

    keys: tuple[str, ...]
    linear: tuple[Floats, ...]
    curved: tuple[bool, ...]
    active: NDArray[np.bool_]

    def powers(self, most: int) -> Floats:
        """Its columns and their powers up to this one (Legendre polynomials), shape [trials, columns]."""
        columns = list(self.linear)
        for column, curved in zip(self.linear, self.curved, strict=True):
            if curved:
                inside = column / (np.abs(column).max() or 1.0)
                for power in range(2, most + 1):
                    bent = np.polynomial.legendre.legval(inside, [0.0] * power + [1.0])
                    columns.append(np.where(self.active, bent - bent[self.active].mean(), 0.0))
        return unit_columns(columns, len(self.active))

    def products(self, other: Factor) -> Floats:
        """The products of its columns with another's, shape [trials, columns]: 0 where one of them is not active."""
        return unit_columns([one * two for one in self.linear for two in other.linear], len(self.active))


@dataclass(frozen=True, slots=True)
class Effect:
    """What a hyperparameter, or a pair, explains: a part of the variance between trials, with its interval.

    `chance` is that of any such effect in the study if there is none; `found`: it is small enough. `sign` of a pair of
    two ordered hyperparameters: 1 if the response rises with the product of their positions, -1 if it falls, else 0.
    """

    share: float
    low: float
    high: float
    chance: float
    found: bool
    sign: int = 0


@dataclass(frozen=True, eq=False)
class EffectModel:
    """The effects of factors, by place, and of pairs of them; pairs that these trials cannot show are missing.

    The share of a factor includes that of its pairs that were found.
    """

    effects: Mapping[int, Effect]
    pairs: Mapping[Pair, Effect]

    @property
    def responding(self) -> list[int]:
        """The factors that were found, alone or in a pair, the largest share first."""
        inside = {place for pair, effect in self.pairs.items() if effect.found for place in pair}
        found = [place for place, effect in self.effects.items() if effect.found or place in inside]
        return sorted(found, key=lambda place: (-self.effects[place].share, place))


def effect_model(response: Floats, factors: Sequence[Factor], questions: Questions) -> EffectModel:
    """Select the factors and pairs on which the response, shape [trials], depends, and estimate their shares."""
    search = _Search(response - response.mean(), tuple(factors), questions)
    search.select_factors()
    search.enrich()
    if questions.pairs:
        search.select_pairs()
    if search.pairs:
        search.select_factors()  # what a pair explains may have hidden others
    return EffectModel(
        {place: search.effect(place) for place in search.chances},
        {pair: search.pair_effect(pair) for pair in search.pair_chances},
    )


class _Search:
    """Forward selection in one response: `basis` spans the terms of the model so far."""

    def __init__(self, response: Floats, factors: tuple[Factor, ...], questions: Questions) -> None:
        self.response = response
        self.factors = factors
        self.constant = self.basis = np.full((len(response), 1), len(response) ** -0.5)
        self.questions = questions
        self.found: list[int] = []
        self.pairs: list[Pair] = []
        self.chances: dict[int, float] = {}
        self.pair_chances: dict[Pair, float] = {}
        self.powers = 2
        self._spans: dict[tuple[frozenset[int], tuple[Pair, ...]], Floats] = {}
        self._known_powers: dict[tuple[int, int], Floats] = {}

    def select_factors(self) -> None:
        """Add the strongest factor as long as it explains more than chance does.

        It may do so alone, or beside all others: at 20 trials an effect can be hidden by another one.
        """
        while True:
            left = [place for place in range(len(self.factors)) if place not in self.found]
            none = np.empty((len(self.response), 0))
            powers = {place: self._powers(place, 2) for place in left}
            groups = {(place, False): group_of(powers[place], none, self.basis) for place in left}
            if len(left) > 2 and len(self.response) <= _CROWDED:
                for place in left:
                    others = joined(*(powers[other] for other in left if other != place))
                    groups[place, True] = group_of(powers[place], others, self.basis)
            chances = self._chances(groups, self.basis, self.questions.factors, by_signs=False)
            for place in left:
                known = [chances[name] for name in ((place, False), (place, True)) if name in chances]
                self.chances |= {place: min(known)} if known else {}
            strongest = self._strongest(left, self.chances, powers, SURE_EFFECT, 0.0)
            if strongest is None:
                return
            self.found.append(strongest)
            self.basis = joined(self.basis, own_part(powers[strongest], self.basis))

    def enrich(self) -> None:
        """Give the factors that were found further powers, so that no pair has to explain how they are bent."""
        if not self.found:
            return
        powers = min(_MOST_POWERS, len(self.response) // (_TRIALS_A_TERM * len(self.found)))
        further = [self._powers(place, powers) for place in self.found]
        own = own_part(joined(*further), self.basis)
        if powers > self.powers and self._has_room(own.shape[1]):
            self.powers = powers
            self.basis = joined(self.basis, own)

    def select_pairs(self) -> None:
        """Add the strongest pair as long as it explains more than chance does."""
        while True:
            beside = joined(self.basis, self._bend())
            left = [pair for pair in combinations(range(len(self.factors)), 2) if pair not in self.pairs]
            products = {pair: self._products(pair) for pair in left}
            groups = {pair: group_of(products[pair], self._not_found(pair), beside) for pair in left}
            self.pair_chances |= self._chances(groups, beside, self.questions.pairs, by_signs=True)
            strongest = self._strongest(left, self.pair_chances, products, SURE_PAIR, LEAST_PAIR)
            if strongest is None:
                return
            self.pairs.append(strongest)
            self.basis = joined(self.basis, own_part(self._not_found(strongest), self.basis))
            self.basis = joined(self.basis, own_part(products[strongest], self.basis))

    def _chances(
        self, groups: Mapping[_Name, Group], beside: Floats, questions: int, *, by_signs: bool
    ) -> dict[_Name, float]:
        """The chance of each group that can be tested, over all groups and questions of the study."""
        room = len(self.response) - beside.shape[1] - FEWEST_LEFT
        tested = [name for name, group in groups.items() if group.own.shape[1] and group.terms <= room]
        if not tested:
            return {}
        shown = [groups[name] for name in tested]
        found = family_chances(self.response, beside, shown, self.questions.draws, by_signs=by_signs)
        return {name: family_wise(chance, questions) for name, chance in zip(tested, found.tolist(), strict=True)}

    def _strongest(
        self,
        names: Sequence[_Name],
        chances: Mapping[_Name, float],
        columns: Mapping[_Name, Floats],
        sure: float,
        least: float,
    ) -> _Name | None:
        """The surest of those that are sure and explain at least this part, of equal ones the largest; None if none."""
        total = float(self.response @ self.response)
        sizes = {
            name: float(np.sum((own_part(columns[name], self.basis).T @ self.response) ** 2))
            for name in names
            if chances.get(name, 1.0) <= sure
        }
        large = [name for name, size in sizes.items() if size >= least * total]
        return min(large, key=lambda name: (chances[name], -sizes[name]), default=None)

    def _has_room(self, terms: int) -> bool:
        return bool(len(self.response) - self.basis.shape[1] - terms >= FEWEST_LEFT)

    def _bend(self) -> Floats:
        """The square of what the factors explain together (Tukey 1949), as a basis beside them.

        Where the response is a bent function of a sum, it looks like an interaction of all that is in the sum; but the
        best value of each of them does not depend on the others.
        """
        fitted = self.basis @ (self.basis.T @ self.response)
        return own_part(unit_columns([fitted**2] if self.found else [], len(fitted)), self.basis)

    def _not_found(self, pair: Pair) -> Floats:
        """The terms of those of a pair that were not found alone, shape [trials, columns]."""
        terms = [self._powers(place, 2) for place in pair if place not in self.found]
        return joined(*terms) if terms else np.empty((len(self.response), 0))

    def _products(self, pair: Pair) -> Floats:
        one, two = (self.factors[place] for place in pair)
        if np.count_nonzero(one.active & two.active) < FEWEST_TOGETHER:
            return np.empty((len(self.response), 0))
        return one.products(two)

    def effect(self, place: int) -> Effect:
        """The effect of a factor with the pairs that were found, beside the rest of the model."""
        own = [pair for pair in self.pairs if place in pair]
        terms = joined(self._terms(place), *map(self._products, own))
        others = {*self.found, *(other for pair in self.pairs for other in pair)} - {place}
        beside = self._span(others, [pair for pair in self.pairs if pair not in own])
        return self._share(terms, beside, self.chances[place], found=place in self.found)

    def pair_effect(self, pair: Pair) -> Effect:
        """The effect of a pair beyond both of its factors and the rest of the model."""
        factors = {*pair, *self.found, *(other for each in self.pairs for other in each)}
        beside = self._span(factors, [other for other in self.pairs if other != pair])
        return self._share(self._products(pair), beside, self.pair_chances[pair], found=pair in self.pairs)

    def _span(self, places: Collection[int], pairs: Sequence[Pair]) -> Floats:
        """An orthonormal basis of the constant and the terms of these factors and pairs."""
        key = (frozenset(places), tuple(pairs))
        if key not in self._spans:
            terms = [*(self._terms(place) for place in sorted(places)), *map(self._products, pairs)]
            self._spans[key] = self.constant
            if terms:
                self._spans[key] = joined(self.constant, own_part(joined(*terms), self.constant))
        return self._spans[key]

    def _powers(self, place: int, most: int) -> Floats:
        if (place, most) not in self._known_powers:
            self._known_powers[place, most] = self.factors[place].powers(most)
        return self._known_powers[place, most]

    def _terms(self, place: int) -> Floats:
        return self._powers(place, self.powers if place in self.found else 2)

    def _share(self, terms: Floats, beside: Floats, chance: float, *, found: bool) -> Effect:
        sums = sums_of_squares(self.response, terms, beside)
        sign = 0
        if terms.shape[1] == 1:
            sign = int(np.sign((terms[:, 0] - beside @ (beside.T @ terms[:, 0])) @ self.response))
        return Effect(*_interval(sums, len(self.response)), chance, found, sign)


def _interval(sums: SumsOfSquares, trials: int) -> tuple[float, float, float]:
    """The share of an effect, and the ends of its interval.

    They are those of the non-central F distribution, which is for these very points, widened on the scale of log odds
    by what the variance over a few points differs from that over the space.
    """
    from scipy import special

    if not sums.terms or sums.freedom < 1:
        return 0.0, 0.0, 1.0
    noise = max(sums.left / sums.freedom, sums.shown / sums.terms / _LARGEST_RATIO)
    if noise <= 0:
        return 0.0, 0.0, 1.0
    ratio, outside = sums.shown / sums.terms / noise, (1 - INTERVAL) / 2
    # A ratio below 1 is less than noise alone gives on average: it says no more than a ratio of 1.
    beyond = [
        float(special.ncfdtrinc(sums.terms, sums.freedom, 1 - outside, ratio)) if ratio > 0 else 0.0,
        float(special.ncfdtrinc(sums.terms, sums.freedom, outside, max(ratio, 1.0))),
    ]
    rest = max(sums.others + sums.left, _LEAST_REST * sums.shown)
    low, high, own = (noise * size / rest for size in (*beyond, max(sums.shown / noise - sums.terms, 0.0)))
    points = _NORMAL.inv_cdf(1 - outside) * math.sqrt(_VARIANCE_OF_LOG_ODDS / trials)
    if own > 0 and low > 0:
        low = own * math.exp(-math.hypot(math.log(max(own / low, 1.0)), points))
    if own > 0:
        high = own * math.exp(math.hypot(math.log(max(high / own, 1.0)), points))
    return own / (1 + own), min(low, own) / (1 + min(low, own)), max(high, own) / (1 + max(high, own))
