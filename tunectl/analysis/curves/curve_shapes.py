"""What one curve of evaluations shows: its gain and its noise, whether it still falls, has settled, or turned up.

A curve is looked at as losses to minimise against the share of training that is done. What is found is told in parts of
what was gained since step 0, so that it means the same for an error rate, a loss and an accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache

import numpy as np

from tunectl.analysis.curves.smoothing import MAD_TO_DEVIATION, running_median
from tunectl.analysis.results.runs import LARGEST, Floats, Run, usable

FEWEST_FOR_A_CURVE = 4
"""Fewer evaluations after step 0 have no early, middle and late part beside one to tell the noise from."""

FEWEST_FOR_A_TURN = 6
"""A turn needs a descent, a low and a rise of two evaluations each."""

DESCENT_PART = 0.25
"""The first evaluations are left out where noise is measured: the descent bends most there."""

LEARNED = 3.0
"""A curve that gained less than so many deviations of its noise is not judged: there is nothing to relate it to."""

_SECOND_DIFFERENCE = math.sqrt(6.0)
_MEAN_TO_DEVIATION = math.sqrt(math.pi / 2)
_ERROR_OF_MEDIAN = math.sqrt(math.pi / 2)
_FEWEST_FOR_MEDIAN = 8
_WINDOWS = 5
_CURVES_KEPT = 32
"""Several findings look at one curve: its running medians are made once."""

_TREND_DEGREE = 3
_MOST_CORRELATED = 0.9
_DENOMINATORS = ((2_000, 1e-7), (50_000, 1e-11))
"""Counts among so many examples are looked for to this relative accuracy: rates are made in single or double precision.
With it the values of a smooth curve have no common denominator by chance.
"""


@dataclass(frozen=True)
class Share:
    """A difference as a part of what the curve gained, with its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class Turn:
    """A curve's lowest level and its level at the end, by running medians.

    `step` is the middle of the lowest window and `window` its first and last step; `rise` is from there to the end, in
    the metric's unit, and `deviations` that in standard errors.
    """

    step: float
    window: tuple[float, float]
    end_window: tuple[float, float]
    lowest: float
    rise: float
    deviations: float


@dataclass(frozen=True, eq=False)
class LossCurve:
    """The finite evaluations of a metric after step 0, as losses to minimise.

    `steps` and `losses` have shape [evaluations]; `start` is the loss that training started from, `total` the last
    step. `ratio_scale`: zero is the best there could be, so that a ratio of two losses has a meaning.
    """

    steps: Floats
    losses: Floats
    start: float
    total: float
    ratio_scale: bool

    @cached_property
    def done(self) -> Floats:
        """The share of training that is done at each evaluation, shape [evaluations]."""
        return self.steps / self.total

    @cached_property
    def quantum(self) -> float:
        """What one example makes of an error rate: the largest part of one of which all values are multiples, or 0.

        Values that a short number of digits rounds have that of their last digit.
        """
        return next((part for limit in _DENOMINATORS if (part := _common_part(self.losses, *limit)) > 0), 0.0)

    @cached_property
    def noise(self) -> float:
        """The standard deviation of an evaluation about the curve, from second differences; at least half a quantum."""
        bends = np.abs(np.diff(self._after(DESCENT_PART), 2))
        if len(bends) >= _FEWEST_FOR_MEDIAN:
            deviation = MAD_TO_DEVIATION * float(np.median(bends)) / _SECOND_DIFFERENCE
        else:
            deviation = _MEAN_TO_DEVIATION * float(bends.mean()) / _SECOND_DIFFERENCE if len(bends) else 0.0
        return max(deviation, self.quantum / 2)

    @cached_property
    def width(self) -> int:
        """How many evaluations a running median takes."""
        return max(2, len(self.losses) // _WINDOWS)

    @cached_property
    def medians(self) -> Floats:
        """The running medians, shape [evaluations - width + 1]."""
        return running_median(self.losses, self.width)

    @cached_property
    def gain(self) -> float:
        """What was gained from the start to the lowest level."""
        return self.start - float(self.medians.min())

    @property
    def learned(self) -> bool:
        """Whether it gained more than noise would."""
        return self.gain > LEARNED * self.noise and self.gain > 1e-12 * abs(self.start)

    @property
    def best_done(self) -> float:
        """The share of training at its best evaluation, the earlier one of equals."""
        return float(self.done[int(np.argmin(self.losses))])

    def _lasting(self) -> float:
        """How much larger the error of a mean is because noise lasts from one evaluation to the next; 1 where not.

        With a correlation r of neighbours, dying away as its powers, the variance of a mean grows by (1 + r) / (1 - r),
        and second differences show only 1 - 4 r / 3 + r^2 / 3 of the variance.
        """
        late = self._after(DESCENT_PART)
        rest = detrended(late)
        size = float(rest @ rest)
        if len(late) < _FEWEST_FOR_MEDIAN or size <= (1e-9 * float(np.abs(late).max())) ** 2 * len(late):
            return 1.0
        r = min(max(float(rest[1:] @ rest[:-1]) / size, 0.0), _MOST_CORRELATED)
        return math.sqrt((1 + r) / (1 - r) / (1 - 4 * r / 3 + r * r / 3))

    def _after(self, done: float) -> Floats:
        late = self.losses[self.done > done]
        return late if len(late) >= 3 else self.losses

    def level(self, low: float, high: float) -> tuple[float, int]:
        """The mean of the evaluations in (low, high] of training, and their number; interpolated without any."""
        inside = self.losses[(self.done > low) & (self.done <= high)]
        if len(inside):
            return float(inside.mean()), len(inside)
        return float(np.interp((low + high) / 2, self.done, self.losses)), 1

    def fall(self, early: tuple[float, float], late: tuple[float, float]) -> Share:
        """By how much its level falls from one part of training to another, as a share of what it gained."""
        (before, first), (after, last) = self.level(*early), self.level(*late)
        error = self.noise * math.sqrt(1 / first + 1 / last)
        return Share((before - after) / self.gain, error / self.gain)

    def turn(self) -> Turn | None:
        """Its lowest level and what it rose by from there to the end; None with too few evaluations."""
        count, width = len(self.losses), self.width
        if count < FEWEST_FOR_A_TURN:
            return None
        before = self.medians[: count - 2 * width + 1]
        at = int(np.argmin(before))
        rise = float(self.medians[-1] - before[at])
        error = _ERROR_OF_MEDIAN * self.noise * math.sqrt(2 / width) * self._lasting()
        return Turn(
            step=float(np.median(self.steps[at : at + width])),
            window=(float(self.steps[at]), float(self.steps[at + width - 1])),
            end_window=(float(self.steps[-width]), float(self.steps[-1])),
            lowest=float(before[at]),
            rise=rise,
            deviations=rise / max(error, 1e-300),
        )

    def late_deviation(self, late: float) -> float | None:
        """The standard deviation from step to step after this share of training; None with too few evaluations there.

        From the mean of the second differences, which a slow fall does not raise, and a single outlier raises little.
        """
        values = self.losses[self.done > late]
        if len(values) < FEWEST_FOR_A_CURVE:
            return None
        return _MEAN_TO_DEVIATION * float(np.abs(np.diff(values, 2)).mean()) / _SECOND_DIFFERENCE


@lru_cache(maxsize=_CURVES_KEPT)
def loss_curve(run: Run, metric: str, *, maximize: bool = False, baseline: float | None = None) -> LossCurve | None:
    """The curve of a metric, None where it has too few finite evaluations.

    It starts from its value at step 0 (the first finite one where that is missing), or from `baseline`, the loss of a
    constant prediction, where that is lower: a bad initialisation is soon forgotten.
    """
    steps, values = run.curve(metric)
    known = usable(values)
    steps, losses = steps[known], (-values if maximize else values)[known]
    trained = steps > 0
    if np.count_nonzero(trained) < FEWEST_FOR_A_CURVE:
        return None
    start = float(losses[0])
    if baseline is not None and abs(baseline) < LARGEST:
        start = min(start, baseline)
    losses = np.asarray(losses[trained], dtype=float)
    ratio_scale = not maximize and bool(losses.min() >= 0)
    return LossCurve(steps[trained], losses, start, float(steps[-1]), ratio_scale)


def _common_part(values: Floats, most: int, accuracy: float) -> float:
    """One part in n of which all values are multiples, for the least n up to `most`; 0 where there is none."""
    common, tolerance = 1, accuracy * float(np.abs(values).max(initial=0.0))
    left = np.unique(values)
    while len(left):
        # Values that are multiples already are passed over at once: one by one a million of them take long.
        left = left[np.abs(np.round(left * common) / common - left) > tolerance]
        for value in left[:1].tolist():
            near = Fraction(value).limit_denominator(most)
            common = math.lcm(common, near.denominator)
            if common > most or abs(float(near) - value) > tolerance:
                return 0.0
    return 1 / common


def detrended(values: Floats) -> Floats:
    """What a cubic leaves of a series, shape [values]."""
    powers = np.vander(np.linspace(-1.0, 1.0, len(values)), _TREND_DEGREE + 1)
    return np.asarray(values - powers @ np.linalg.lstsq(powers, values, rcond=None)[0])


def pooled(shares: Sequence[Share]) -> Share:
    """The mean of independent shares, with its standard error; of none zero, and no idea."""
    if not shares:
        return Share(0.0, math.inf)
    error = math.sqrt(sum(share.error**2 for share in shares)) / len(shares)
    return Share(sum(share.value for share in shares) / len(shares), error)
