"""Each ordered hyperparameter in each setting: the positions of its trials, their costs, and what else varies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tunectl.analysis.findings.finding_evidence import HyperparameterAxis, StudyEvidence
from tunectl.analysis.results.runs import Floats, Run
from tunectl.analysis.search.crowding import AdjustedScores, adjusted_scores
from tunectl.core.records import Scalar
from tunectl.space.domains import ValueSet
from tunectl.space.hyperparameters import Hyperparameter

FEWEST_VALUES = 3
"""Of two values one is always at an end."""


@dataclass(frozen=True, eq=False)
class SettingAxis:
    """The searched trials of a setting in which an ordered hyperparameter is active, by id.

    `positions`, shape [trials], are in [0, 1] from the low end to the high one; those of a set follow the order of its
    numbers. `costs` are numbers to minimise by their order, infinite for infeasible trials. `others` are the columns of
    the other hyperparameters, each of shape [trials].
    """

    hyperparameter: Hyperparameter
    setting: int
    runs: tuple[Run, ...]
    values: tuple[Scalar, ...]
    positions: Floats
    costs: Floats
    others: tuple[Floats, ...]

    @cached_property
    def feasible(self) -> NDArray[np.bool_]:
        """Which of the trials are not infeasible, shape [trials]."""
        return np.isfinite(self.costs)

    @property
    def reached(self) -> int:
        """How many of the feasible trials have a value: all of them, but where a target was never reached."""
        return sum(run.feasible and run.best_value is not None for run in self.runs)

    @cached_property
    def scores(self) -> AdjustedScores:
        """How the feasible trials compare, corrected for the other hyperparameters."""
        return adjusted_scores(
            self.costs[self.feasible],
            self.positions[self.feasible],
            [column[self.feasible] for column in self.others],
        )


def has_two_ends(item: Hyperparameter) -> bool:
    """Whether a hyperparameter's values have an order with two ends: a range, or a set of at least three numbers."""
    listed = item.domain.listed
    return listed is None or len(item.domain.numbers) == len(listed) >= FEWEST_VALUES


def setting_axes(evidence: StudyEvidence) -> list[SettingAxis]:
    """Every ordered hyperparameter that is sampled within the settings, in each setting with trials of it."""
    sampled = [axis for axis in evidence.axes if axis.hyperparameter.has_coordinate]
    row = {run.plan.trial: place for place, run in enumerate(evidence.searched)}
    settings = np.array([run.plan.setting for run in evidence.searched], dtype=int)
    costs = evidence.ordered_costs(evidence.searched)
    rows = [np.array([row[run.plan.trial] for run in axis.runs], dtype=int) for axis in sampled]
    columns = [
        [_with_gaps(values, own, len(costs)) for values in regressors(axis)]
        for axis, own in zip(sampled, rows, strict=True)
    ]
    found = []
    for place, axis in enumerate(sampled):
        if not has_two_ends(axis.hyperparameter):
            continue
        others = [column for other, owned in enumerate(columns) if other != place for column in owned]
        own_settings, positions = settings[rows[place]], ordered_positions(axis)
        for setting in np.unique(own_settings).tolist():
            chosen = np.flatnonzero(own_settings == setting)
            here = rows[place][chosen]
            found.append(
                SettingAxis(
                    hyperparameter=axis.hyperparameter,
                    setting=setting,
                    runs=tuple(axis.runs[index] for index in chosen),
                    values=tuple(axis.values[index] for index in chosen),
                    positions=positions[chosen],
                    costs=costs[here],
                    others=tuple(_filled(column[here]) for column in others),
                )
            )
    return found


def ordered_positions(axis: HyperparameterAxis) -> Floats:
    """The positions; those of a numeric set follow the order of its numbers, not that of the file."""
    domain = axis.hyperparameter.domain
    if not isinstance(domain, ValueSet):
        return axis.positions
    order = sorted(float(value) for value in domain.values)
    places = {value: (index + 0.5) / len(order) for index, value in enumerate(order)}
    return np.array([places[float(value)] for value in axis.values], dtype=float)


def regressors(axis: HyperparameterAxis) -> Iterator[Floats]:
    """The columns of a hyperparameter in a regression: its positions, or one column for each category but the first."""
    domain = axis.hyperparameter.domain
    if has_two_ends(axis.hyperparameter):
        yield ordered_positions(axis)
    elif isinstance(domain, ValueSet):
        of_value = np.rint(axis.positions * len(domain.values) - 0.5).astype(int)
        for value in range(1, len(domain.values)):
            yield (of_value == value).astype(float)


def columns_over(axis: HyperparameterAxis, runs: Sequence[Run]) -> list[Floats]:
    """The columns of a sampled hyperparameter in a regression over these runs, with the mean where it is not active."""
    if not axis.hyperparameter.has_coordinate or not axis.runs:
        return []
    place = {run.plan.trial: at for at, run in enumerate(axis.runs)}
    known = np.array([at for at, run in enumerate(runs) if run.plan.trial in place], dtype=int)
    rows = [place[runs[at].plan.trial] for at in known.tolist()]
    return [_filled(_with_gaps(values[rows], known, len(runs))) for values in regressors(axis)]


def _with_gaps(values: Floats, rows: NDArray[np.int_], count: int) -> Floats:
    """The values in their rows of a column of `count` trials, NaN where the hyperparameter is not active."""
    column = np.full(count, np.nan)
    column[rows] = values
    return column


def _filled(column: Floats) -> Floats:
    """The column with its mean where the hyperparameter is not active, so that it explains nothing there."""
    known = np.isfinite(column)
    return np.where(known, column, column[known].mean() if known.any() else 0.0)
