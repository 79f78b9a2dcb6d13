"""Which gradient norms are typical, the thresholds to clip at, and which part of the updates they clip."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np

from tunectl.analysis.results.runs import Run
from tunectl.analysis.updates.gradient_norms import clip_threshold, clipped_fraction
from tunectl.procedures.procedure import Results, runs_of
from tunectl.procedures.rate_judgements import is_unstable, rounded

PERCENTILE = 90.0
SMALLER = (1.0, 1 / 3, 1 / 10)
"""Thresholds, as parts of the first one; more than half of the updates are clipped soon after."""


def most_stable(results: Results, phase: int) -> Run | None:
    """The run whose norms are taken as typical: of those that came to their end the one at the highest rate whose loss
    never went up for a period; where all did, the one at the lowest rate. None where none came to its end.
    """
    runs = [run for runs in runs_of(results, phase).values() for run in runs if run.feasible]
    if not runs:
        return None
    calm = [run for run in runs if not is_unstable(run)]
    key = (lambda run: -_rate(run)) if calm else _rate
    return min(calm or runs, key=lambda run: (key(run), run.plan.repeat))


def _rate(run: Run) -> float:
    return float(run.plan.hyperparameters["learning_rate"])


def thresholds(run: Run) -> list[float]:
    """The thresholds to sweep at, the largest first; [] where the run has no norm above 0."""
    first = clip_threshold(run.updates.gradient_norm, PERCENTILE)
    return [] if first is None or not math.isfinite(first) else [rounded(first * part) for part in SMALLER]


def median_clipped(runs: Sequence[Run]) -> float | None:
    """The part of the updates that were clipped, the median over the runs; None where it is not known.

    Own code does not say which updates it clipped: there it is the part of its gradient norms above the threshold.
    """
    parts = []
    for run in runs:
        clip, norms = run.plan.hyperparameters.get("grad_clip_norm"), run.updates.gradient_norm
        if len(run.updates.clipped):
            parts.append(clipped_fraction(run.updates))
        elif clip is not None and not np.isnan(norms).all():
            parts.append(float((norms[~np.isnan(norms)] > float(clip)).mean()))
    return statistics.median(parts) if parts else None
