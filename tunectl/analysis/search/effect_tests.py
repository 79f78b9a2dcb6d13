"""Which of several groups of columns explain a response more than chance does, tested together.

The residual of what is known already is permuted, and fitted anew beside it (Freedman and Lane 1983); the largest
statistic of all groups in each permutation gives the chance over all of them (Westfall and Young 1993), so that with
many hyperparameters or pairs no more is found by accident than with few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunectl.analysis.results.runs import Floats
from tunectl.analysis.search.permutations import drawn_orders

LEAST_OWN = 0.2
"""A column of which less than this part of its length lies beside the others cannot be distinguished from them."""

_FIRST_DRAWS, _NOTHING_LEFT = 300, 0.25
"""If after the first draws no chance is below this, a more exact one makes no difference."""

_LARGEST_LEVERAGE = 0.8
"""The residual of a trial that determines its own fit is not enlarged further than by this."""


def unit_columns(columns: Sequence[Floats], trials: int) -> Floats:
    """The columns with mean 0 and length 1, shape [trials, columns]; constant ones are left out."""
    centred = [column - column.mean() for column in columns]
    lengths = [float(np.linalg.norm(column)) for column in centred]
    kept = [column / length for column, length in zip(centred, lengths, strict=True) if length > 1e-9 * trials]
    return np.array(kept).reshape(len(kept), trials).T


def own_part(columns: Floats, beside: Floats) -> Floats:
    """An orthonormal basis, shape [trials, found], of what unit columns have beside the basis `beside`.

    Directions of which less than LEAST_OWN is left are not in it.
    """
    if not columns.shape[1]:
        return columns
    rest = columns - beside @ (beside.T @ columns)
    rest = rest - beside @ (beside.T @ rest)  # a second time, against rounding
    # By the products of the few columns: far faster than a singular value decomposition of many trials.
    squares, turns = np.linalg.eigh(rest.T @ rest)
    kept = squares > LEAST_OWN**2
    return np.asarray(rest @ (turns[:, kept] / np.sqrt(squares[kept])))


@dataclass(frozen=True, slots=True)
class SumsOfSquares:
    """What columns explain of a response: `shown` beside the others, with `terms` columns.

    `others` is what the others explain, and `left` the residual with its `freedom`.
    """

    shown: float
    others: float
    left: float
    terms: int
    freedom: int


def sums_of_squares(response: Floats, columns: Floats, beside: Floats) -> SumsOfSquares:
    """Fit unit columns beside the basis `beside`, the constant in it, to a response with mean 0, shape [trials]."""
    own = own_part(columns, beside)
    shown, others = (float(np.sum((basis.T @ response) ** 2)) for basis in (own, beside))
    left = max(float(response @ response) - shown - others, 0.0)
    freedom = len(response) - beside.shape[1] - own.shape[1]
    return SumsOfSquares(shown, others, left, own.shape[1], freedom)


def joined(*bases: Floats) -> Floats:
    """Bases side by side; they must be orthogonal to each other."""
    return np.concatenate(bases, axis=1)


@dataclass(frozen=True, eq=False)
class Group:
    """Columns that are tested together, beside others that only count with them.

    Both are orthonormal bases of shape [trials, columns], orthogonal to each other and to what is known already.
    """

    own: Floats
    controls: Floats

    @property
    def terms(self) -> int:
        """How many trials it takes to fit it."""
        return int(self.own.shape[1] + self.controls.shape[1])


def group_of(columns: Floats, controls: Floats, beside: Floats) -> Group:
    """What unit columns have beside the controls, and both beside the basis `beside`."""
    known = own_part(controls, beside)
    return Group(own_part(columns, joined(beside, known)), known)


def family_chances(response: Floats, beside: Floats, groups: Sequence[Group], draws: int, *, by_signs: bool) -> Floats:
    """For each group the chance that any group explains as much of what `beside` leaves of the response.

    `response` has the shape [trials], `beside` is an orthonormal basis of shape [trials, columns]. `by_signs`: signs of
    the residuals are drawn, too, and the larger chance counts: it is right where the residuals are larger in some part
    of the space. At most 10,000 draws, always the same ones.
    """
    residual = response - beside @ (beside.T @ response)
    enlarged = residual / np.sqrt(1 - np.minimum((beside**2).sum(axis=1), _LARGEST_LEVERAGE))
    found = np.ones(len(groups))
    for count in sorted({min(_FIRST_DRAWS, draws), draws}):
        found = _chances(residual, residual[drawn_orders(len(residual))[:count]], beside, groups)
        if by_signs:
            signs = np.random.default_rng(0).choice((-1.0, 1.0), size=(count, len(residual)))
            found = np.maximum(found, _chances(residual, signs * enlarged, beside, groups))
        if found.min() > _NOTHING_LEFT:
            break
    return found


def _chances(residual: Floats, drawn: Floats, beside: Floats, groups: Sequence[Group]) -> Floats:
    """The chances, shape [groups], of the residual, shape [trials], among drawn ones, shape [draws, trials]."""
    columns = joined(beside, *(basis for group in groups for basis in (group.controls, group.own)))
    seen = _statistics(residual[None], columns, groups)[0]
    largest = _statistics(drawn, columns, groups).max(axis=1)
    reaching = (largest[:, None] >= seen - 1e-9).sum(axis=0)
    return np.asarray((1 + reaching) / (1 + len(drawn)))


def _statistics(residuals: Floats, columns: Floats, groups: Sequence[Group]) -> Floats:
    """How much each group explains of each residual, shape [residuals, groups], comparable between groups.

    `columns` are those of what is known and then of each group: the controls and its own. The ratio of variances (F) is
    about normal in Paulson's approximation, whatever the number of columns.
    """
    known = columns.shape[1] - sum(group.terms for group in groups)
    squares = (residuals @ columns) ** 2
    left = np.einsum("ij,ij->i", residuals, residuals) - squares[:, :known].sum(axis=1)
    found, start = np.empty((len(residuals), len(groups))), known
    for place, group in enumerate(groups):
        middle, end = start + group.controls.shape[1], start + group.terms
        shown = squares[:, middle:end].sum(axis=1)
        rest = np.maximum(left - squares[:, start:middle].sum(axis=1) - shown, 1e-12 * left + 1e-300)
        terms, freedom = end - middle, max(len(columns) - known - group.terms, 1)
        root = np.cbrt((shown / terms) / (rest / freedom))
        one, two = 2 / (9 * terms), 2 / (9 * freedom)
        found[:, place] = ((1 - two) * root - (1 - one)) / np.sqrt(one + two * root**2)
        start = end
    return found
