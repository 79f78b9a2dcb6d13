"""Progressive sharpening: λ1 grows in the course of training, until about 2/η where training is long enough.

Cohen et al. 2021, "Gradient descent on neural networks typically occurs at the edge of stability"; Gilmer et al. 2021,
section 3, saw it with SGD for all models but the Transformers on LM1B.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunectl.analysis.curvature.curvature_curves import CurvatureCurve
from tunectl.analysis.curves.smoothing import deviation, windowed_median
from tunectl.analysis.results.runs import Floats

LEAST_FACTOR = 2.0
"""λ1 must grow by this factor. λ1 that goes up and down by a few tens of percent is the noise of training; the growth
that the papers draw is by factors of 3 to 100.
"""

NOISE_DEVIATIONS = 5.0
"""... and by this many deviations of the noise of its logarithm, which is the largest of those between lines 1, 2 and 3
apart (noise often lasts for some lines): the highest median of three among 50 noisy values is 3 above the lowest.
"""

CONCORDANT = 0.75
"""Of all pairs of lines in the growth, at least this part have the later one above the earlier one. Pure noise between
its lowest and its highest value has 0.5 to 0.65, steady growth 1.
"""

KEPT = 0.5
"""Afterwards the median of what follows keeps this part of the growth (of its logarithm): noise that lasts for several
lines goes back.
"""

FEWEST_LINES = 6
_WIDTH = 3
_MOST_PLACES = 200


@dataclass(frozen=True, slots=True)
class Sharpening:
    """A growth of λ1: the step and value where it begins and where it ends, and the factor between them."""

    start: int
    end: int
    low: float
    high: float

    @property
    def factor(self) -> float:
        """How many times larger λ1 is at the end."""
        return self.high / self.low


def progressive_sharpening(sharpness: CurvatureCurve, rates: Floats) -> Sharpening | None:
    """The largest sustained growth of λ1 that the learning rate does not explain; None if there is none.

    `rates` are the learning rates at the curve's lines, shape [lines]. At the edge of stability λ1 follows 2/η: it
    grows where η falls, and falls where η rises. So both λ1 and λ1·η must grow by LEAST_FACTOR; the first excludes a
    warmup, the second a decay. Levels are medians of three lines. The lines where growth begins must be known; at its
    end lower bounds are enough. Lines without a known rate are left out.
    """
    lines = np.isfinite(rates)
    curve, rates = sharpness.chosen(lines), rates[lines]
    if len(curve) < FEWEST_LINES:
        return None
    with np.errstate(divide="ignore"):
        log_rates = np.log(rates)
    x = np.log(curve.values)
    noise = max(deviation(x[lag:] - x[:-lag]) for lag in range(1, _WIDTH + 1))
    places, levels, with_rate, known = _levels(curve, x, log_rates)
    found = _largest_growth(levels, with_rate, known)
    if found is None:
        return None
    first, last = found
    growth = float(levels[last] - levels[first])
    after = np.maximum(levels[last:] - levels[last], with_rate[last:] - with_rate[last])
    needed = max(math.log(LEAST_FACTOR), NOISE_DEVIATIONS * noise)
    is_kept = float(np.median(after)) >= -(1 - KEPT) * growth
    if growth < needed or not is_kept or _concordance(levels[first : last + 1]) < CONCORDANT:
        return None
    low, high = math.exp(levels[first]), math.exp(levels[last])
    return Sharpening(int(curve.steps[places[first]]), int(curve.steps[places[last]]), low, high)


def _levels(
    curve: CurvatureCurve, x: Floats, log_rates: Floats
) -> tuple[NDArray[np.int_], Floats, Floats, NDArray[np.bool_]]:
    """The places of the windows, the medians of ln λ1 and of ln λ1·η in each, and whether all its lines are known."""
    hop = max(1, math.ceil(len(curve) / _MOST_PLACES))
    width = max(_WIDTH, hop)
    levels = windowed_median(x, width, hop)
    # The rate of the middle line, as the median of a rate of 0 and of others would be no rate that was used.
    places = np.arange(len(levels)) * hop + width // 2
    known = windowed_median(curve.known.astype(float), width, hop) == 1
    return places, levels, levels + log_rates[places], known


def _largest_growth(levels: Floats, with_rate: Floats, known: NDArray[np.bool_]) -> tuple[int, int] | None:
    """The two windows, at least FEWEST_LINES - _WIDTH apart, between which both levels grow most."""
    # [start, end]: the smaller of both growths; a rate of 0 at the start makes the second infinite.
    with np.errstate(invalid="ignore"):
        both = np.minimum(levels[None, :] - levels[:, None], with_rate[None, :] - with_rate[:, None])
    both[~known] = -np.inf
    both[~np.triu(np.ones_like(both, dtype=bool), FEWEST_LINES - _WIDTH)] = -np.inf
    both = np.where(np.isnan(both), -np.inf, both)
    first, last = np.unravel_index(int(np.argmax(both)), both.shape)
    return (int(first), int(last)) if both[first, last] >= math.log(LEAST_FACTOR) else None


def _concordance(levels: Floats) -> float:
    """Of all pairs of two levels, the part in which the later one is larger."""
    later = np.triu(np.ones((len(levels), len(levels)), dtype=bool), 1)
    return float(np.mean((levels[None, :] > levels[:, None])[later]))
