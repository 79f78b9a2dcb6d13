"""What one curve of evaluations shows: its gain and its noise, whether it still falls, has settled, or turned up.

A curve consists of losses to minimise and the part of training at which they were measured. All results are parts of
the gain since step 0, so they mean the same for an error rate, a loss and an accuracy.
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
"""With fewer evaluations after step 0 an early, a middle and a late part and the noise cannot be separated."""

FEWEST_FOR_A_TURN = 6
"""A turn needs a descent, a lowest level and a rise, of two evaluations each."""

DESCENT_PART = 0.25
"""The noise is measured after this part of training, because a curve bends most in its first descent."""

LEARNED = 3.0
"""A curve with a gain of fewer standard deviations of its noise is not judged: there is nothing to compare with."""

_SECOND_DIFFERENCE = math.sqrt(6.0)
_MEAN_TO_DEVIATION = math.sqrt(math.pi / 2)
_ERROR_OF_MEDIAN = math.sqrt(math.pi / 2)
_FEWEST_FOR_MEDIAN = 8
_WINDOWS = 5
_CURVES_KEPT = 32
"""Several findings use one curve, and its running medians are computed once."""

_TREND_DEGREE = 3
_MOST_CORRELATED = 0.9
_DENOMINATORS = ((2_000, 1e-7), (50_000, 1e-11))
"""A common denominator up to the first number is accepted where all values agree with it to the second, relative to the
largest: error rates come in single or double precision. No smooth curve has one by chance at these accuracies.
"""


@dataclass(frozen=True)
class Share:
    """A difference as a part of the curve's gain, with its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class Turn:
    """A curve's lowest level and its level at the end, both running medians.

    `step` is the middle of the lowest window and `window` its first and last step; `rise` is the difference of the two
    levels in the metric's unit, and `deviations` the same in standard errors.
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

    `steps` and `losses` have shape [evaluations]; `start` is the loss before training, `total` the last step.
    `ratio_scale`: zero is the best possible value, so the ratio of two losses has a meaning.
    """

    steps: Floats
    losses: Floats
    start: float
    total: float
    ratio_scale: bool

    @cached_property
    def done(self) -> Floats:
        """The part of training that is over at each evaluation, shape [evaluations]."""
        return self.steps / self.total

    @cached_property
    def quantum(self) -> float:
        """The step between possible values, 1 / examples for an error rate; 0 where the values have no such step.

        For values rounded to a few digits it is one unit of the last digit.
        """
        return next((part for limit in _DENOMINATORS if (part := _common_part(self.losses, *limit)) > 0), 0.0)

    @cached_property
    def noise(self) -> float:
        """The standard deviation of an evaluation around the curve, from second differences; at least quantum / 2."""
        bends = np.abs(np.diff(self._after(DESCENT_PART), 2))
        if len(bends) >= _FEWEST_FOR_MEDIAN:
            deviation = MAD_TO_DEVIATION * float(np.median(bends)) / _SECOND_DIFFERENCE
        else:
            deviation = _MEAN_TO_DEVIATION * float(bends.mean()) / _SECOND_DIFFERENCE if len(bends) else 0.0
        return max(deviation, self.quantum / 2)

    @cached_property
    def width(self) -> int:
        """The number of evaluations in a running median."""
        return max(2, len(self.losses) // _WINDOWS)

    @cached_property
    def medians(self) -> Floats:
        """The running medians, shape [evaluations - width + 1]."""
        return running_median(self.losses, self.width)

    @cached_property
    def gain(self) -> float:
        """The difference between the start and the lowest level."""
        return self.start - float(self.medians.min())

    @property
    def learned(self) -> bool:
        """Whether the gain is more than noise would give."""
        return self.gain > LEARNED * self.noise and self.gain > 1e-12 * abs(self.start)

    @property
    def best_done(self) -> float:
        """The part of training that is over at its best evaluation; of equal ones the first."""
        return float(self.done[int(np.argmin(self.losses))])

    def _lasting(self) -> float:
        """The factor by which noise that lasts over several evaluations enlarges the error of a mean; 1 without any.

        With a correlation r of neighbours that decays as its powers, the variance of a mean grows by (1 + r) / (1 - r),
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
        """The mean of the evaluations in (low, high] of training, and their number; interpolated if there are none."""
        inside = self.losses[(self.done > low) & (self.done <= high)]
        if len(inside):
            return float(inside.mean()), len(inside)
        return float(np.interp((low + high) / 2, self.done, self.losses)), 1

    def fall(self, early: tuple[float, float], late: tuple[float, float]) -> Share:
        """The fall of its level from one part of training to another, as a share of its gain."""
        (before, first), (after, last) = self.level(*early), self.level(*late)
        error = self.noise * math.sqrt(1 / first + 1 / last)
        return Share((before - after) / self.gain, error / self.gain)

    def turn(self) -> Turn | None:
        """Its lowest level and the rise from there to the end; None if there are too few evaluations."""
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
        """The standard deviation between evaluations after this part of training; None if there are too few.

        From the mean of the second differences: a slow fall does not raise it, and a single outlier raises it little.
        """
        values = self.losses[self.done > late]
        if len(values) < FEWEST_FOR_A_CURVE:
            return None
        return _MEAN_TO_DEVIATION * float(np.abs(np.diff(values, 2)).mean()) / _SECOND_DIFFERENCE


@lru_cache(maxsize=_CURVES_KEPT)
def loss_curve(run: Run, metric: str, *, maximize: bool = False, baseline: float | None = None) -> LossCurve | None:
    """The curve of a metric; None if it has too few finite evaluations.

    It starts from its value at step 0 (or its first finite value), or from `baseline`, the loss of a constant
    prediction, if that is lower: a bad initialisation is soon corrected.
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
    """The largest 1/n of which all values are multiples, for n up to `most`; 0 where there is none."""
    common, tolerance = 1, accuracy * float(np.abs(values).max(initial=0.0))
    left = np.unique(values)
    while len(left):
        # Values that are multiples already are dropped together: one by one, a million of them take long.
        left = left[np.abs(np.round(left * common) / common - left) > tolerance]
        for value in left[:1].tolist():
            near = Fraction(value).limit_denominator(most)
            common = math.lcm(common, near.denominator)
            if common > most or abs(float(near) - value) > tolerance:
                return 0.0
    return 1 / common


def detrended(values: Floats) -> Floats:
    """A series without its cubic trend, shape [values]."""
    powers = np.vander(np.linspace(-1.0, 1.0, len(values)), _TREND_DEGREE + 1)
    return np.asarray(values - powers @ np.linalg.lstsq(powers, values, rcond=None)[0])


def pooled(shares: Sequence[Share]) -> Share:
    """The mean of independent shares, with its standard error; 0 with an infinite error where there are none."""
    if not shares:
        return Share(0.0, math.inf)
    error = math.sqrt(sum(share.error**2 for share in shares)) / len(shares)
    return Share(sum(share.value for share in shares) / len(shares), error)
