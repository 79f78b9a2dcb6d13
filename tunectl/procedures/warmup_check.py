"""Whether a warmup holds: whether training at the base rate after it learns, under every seed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tunectl.analysis.results.runs import Run
from tunectl.procedures.procedure import SEEDS

CLEARLY_BELOW = 0.9
"""A loss below this part of the baseline has been learned, not guessed: a dead network stays within 2 % of it."""

LEARNED_PART = 0.5
"""Where the workload has no baseline_loss: this part of the loss at step 0."""

LIKE_THE_OTHERS = 0.75
"""A run whose loss has fallen by less than this part of what another seed's has was damaged: half of its units are
dead, say. It is below the baseline, but it has not been held.
"""


def holds(run: Run) -> bool:
    """Whether a run ended with a loss clearly below that of a constant prediction, not merely without a NaN."""
    _, losses = run.curve("train/loss")
    if not run.feasible or len(losses) == 0 or not math.isfinite(losses[-1]):
        return False
    if run.baseline_loss is not None and run.baseline_loss > 0:
        return bool(losses[-1] < CLEARLY_BELOW * run.baseline_loss)
    return bool(losses[-1] < LEARNED_PART * losses[0])


def hold(runs: Sequence[Run]) -> bool:
    """Whether a warmup holds: each of SEEDS runs does, and none is far behind the one that has learned most.

    How far a run has come is the fall of its evaluated training loss, from the loss of a constant prediction where that
    is known, else from step 0.
    """
    if len(runs) < SEEDS or not all(holds(run) for run in runs):
        return False
    falls = [_fall(run) for run in runs]
    return min(falls) >= LIKE_THE_OTHERS * max(falls)


def _fall(run: Run) -> float:
    _, losses = run.curve("train/loss")
    known = run.baseline_loss is not None and run.baseline_loss > 0
    return float((run.baseline_loss if known else losses[0]) - losses[-1])
