"""Whether own code learned anything, judged by its training losses: `diverged`, `no_progress`, or neither.

The rules are those of tunectl's own loop (training.feasibility), as far as a few printed losses allow. Nothing is
judged if there are too few losses, or if the first one came too late to show where training began.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from tunectl.core.divergence import (
    BASELINE_TOLERANCE,
    STANDARD_ERRORS,
    deviations_above,
    is_clearly_below,
    is_diverged,
)
from tunectl.core.measurement_kinds import EVALUATION
from tunectl.core.measurements import Measurement
from tunectl.core.objective import Objective
from tunectl.core.own_code_request import TRAINING_LOSS

FEWEST_FOR_DIVERGENCE = 5
FEWEST_FOR_PROGRESS = 10

PRINTED_SPREAD = 0.2
"""The standard deviation of the examples' losses at the start, as a part of their mean. Printed losses are means over
batches, which hide it; for a classifier at initialisation it is 0.1 to 0.5. With it, twice the start has diverged.
"""

EARLY = 0.02
"""A first loss after this part of training is not the start: a loss falls fastest in the first steps."""

TAIL_PART = 20
FEWEST_IN_TAIL = 3
"""The end is the median of the last twentieth of the losses, and of at least three: one spike does not count."""

FALLEN = 0.9
"""A loss that ends below this part of its first value is falling, even if its start is not known."""

NEAR = 0.05
"""The loss of a dead network, whose biases have converged, is within this part of the baseline, or within its error."""

EXACT = 2e-3
"""A loss that never moved is that of a dead network only if it is certainly this close to the baseline: networks at
initialisation, and those that learn very slowly, are higher (PyTorch's linear layers by 0.2 to 1 % for ten classes).
"""

MOVED, MOVED_ONCE = 6.0, 2.0
"""A loss moved if three in a row are this many median deviations from the median of the second half, or if one is this
many times as far from it as any loss of the second half.
"""

TREND = 0.5
MOST_BLOCKS = 20
FEWEST_FOR_TREND = 5
"""A series is flat if Kendall's tau of the means of at most 20 blocks is closer to 0; 1 in 500 of noise is not."""


class LossVerdict(NamedTuple):
    """Why a trial is infeasible: the reason for the tables, and a message."""

    reason: str
    message: str


def verdict_on(
    measurements: Sequence[Measurement], objective: Objective, *, baseline: float | None, no_progress: bool = True
) -> LossVerdict | None:
    """Why a trial of own code that came to its end is infeasible; None if it is not, or if that cannot be judged.

    `baseline` is the training loss of the best constant prediction. `diverged` means that the loss ends far above its
    start, or, with a baseline, above the larger of the two. `no_progress` with a baseline means that the loss moved in
    the first half and is at the baseline in the second, where neither it nor the objective nor any other loss still
    rises or falls. A loss that never moved may be that of a network that learns too slowly to be seen in the noise of
    the batches, which is feasible. `no_progress` without a baseline means that it was never below its first value.

    Two kinds of losses are not judged. One that is negative or begins at 0 does not show a start: it may be a reward,
    or a mean without values yet. One that grows while the objective improves has another meaning, such as that of a
    generator against its discriminator, or of a penalty.
    """
    printed = [
        item for item in measurements if item.measurement_kind == EVALUATION.name and TRAINING_LOSS in item.metrics
    ]
    if len(printed) < FEWEST_FOR_DIVERGENCE:
        return None
    losses = [item.metrics[TRAINING_LOSS] for item in printed]
    if losses[0] == 0 or min(losses) < 0:
        return None
    is_early = printed[0].step <= EARLY * printed[-1].step
    found = _diverged(losses, baseline, is_early=is_early)
    if found is None and no_progress and len(losses) >= FEWEST_FOR_PROGRESS:
        half = printed[len(printed) // 2].step
        if baseline is not None:
            found = _flat(losses, _other_losses(printed, objective.metric, half), baseline)
        elif is_early:
            found = _never_below(losses)
    return None if found is not None and _improves(measurements, objective) else found


def _improves(measurements: Sequence[Measurement], objective: Objective) -> bool:
    """Whether the objective improves on the whole, if it is another metric."""
    evaluations = sorted(
        (item for item in measurements if item.measurement_kind == EVALUATION.name), key=lambda item: item.step
    )
    values = [item.metrics[objective.metric] for item in evaluations if objective.metric in item.metrics]
    costs = [objective.metric_cost(value) for value in values]
    if objective.metric == TRAINING_LOSS or len(costs) < FEWEST_FOR_TREND or not all(map(math.isfinite, costs)):
        return False
    return _direction(costs) <= -TREND


def _diverged(losses: Sequence[float], baseline: float | None, *, is_early: bool) -> LossVerdict | None:
    first, end = losses[0], statistics.median(losses[-max(FEWEST_IN_TAIL, len(losses) // TAIL_PART) :])
    if is_early and math.isfinite(first):
        start, name = max(first, -math.inf if baseline is None else baseline), "its start"
    elif baseline is not None and not end < FALLEN * first:
        start, name = baseline, "the best constant prediction"
    else:
        return None
    name = "the best constant prediction" if start == baseline else name
    spread = PRINTED_SPREAD * abs(start)
    if not is_diverged(end, start, spread):
        return None
    above = deviations_above(end, start, spread)
    message = f"the training loss ended at {end:.4g}, {name} has {start:.4g} ({above:.3g} times {spread:.3g} above it)"
    return LossVerdict("diverged", message)


def _never_below(losses: Sequence[float]) -> LossVerdict | None:
    if not min(losses[1:]) >= losses[0]:
        return None
    return LossVerdict("no_progress", f"the training loss was never below its first, {losses[0]:.4g}")


def _flat(all_losses: Sequence[float], others: Iterable[Sequence[float]], baseline: float) -> LossVerdict | None:
    """The verdict on the second half of training, by its losses and by the other series that may still move."""
    begins, losses = all_losses[: len(all_losses) // 2], all_losses[len(all_losses) // 2 :]
    if any(_is_clearly_below(baseline, part) for part in (losses, losses[len(losses) // 2 :])):
        return None
    if not _is_at(baseline, losses, NEAR) or not (_moved(begins, losses) or _is_at(baseline, losses, EXACT, sure=True)):
        return None
    # Half of a few losses is too short to show a slow fall that all of them together show.
    whole = all_losses if len(losses) < MOST_BLOCKS else losses
    if any(_has_direction(series) for series in (whole, losses, *others)):
        return None
    message = f"the training loss ended flat at {_mean(losses):.4g}: the best constant prediction has {baseline:.4g}"
    return LossVerdict("no_progress", message)


def _other_losses(printed: Sequence[Measurement], objective: str, half: int) -> list[list[float]]:
    """The objective and all other losses in the second half."""
    found: dict[str, list[float]] = {}
    for item in printed:
        for name, value in item.metrics.items():
            if item.step >= half and name != TRAINING_LOSS and (name == objective or "loss" in name.lower()):
                found.setdefault(name, []).append(value)
    return [series for series in found.values() if len(series) >= FEWEST_FOR_TREND]


def _is_clearly_below(baseline: float, losses: Sequence[float]) -> bool:
    if _mostly_below(baseline, losses):
        return True
    mean = _mean(losses)
    return is_clearly_below(baseline, mean, _deviation(losses, mean), len(losses))


def _is_at(baseline: float, losses: Sequence[float], part: float, *, sure: bool = False) -> bool:
    """Whether the mean is at the baseline: within a part of it or, unless `sure`, within its own error."""
    mean = _mean(losses)
    error = _deviation(losses, mean) / math.sqrt(len(losses))
    if sure:
        return abs(mean - baseline) <= part * abs(baseline) and error <= part * abs(baseline)
    return mean <= baseline + max(STANDARD_ERRORS * error, part * abs(baseline))


def _moved(begins: Sequence[float], losses: Sequence[float]) -> bool:
    """Whether the first half of training has losses unlike those of the second half."""
    middle = statistics.median(losses)
    distances = [abs(loss - middle) for loss in losses]
    if max(abs(loss - middle) for loss in begins) > MOVED_ONCE * max(distances):
        return True
    threes = (begins[at : at + FEWEST_IN_TAIL] for at in range(len(begins) - FEWEST_IN_TAIL + 1))
    usual = statistics.median(distances)
    return any(abs(statistics.median(three) - middle) > MOVED * usual for three in threes)


def _mostly_below(baseline: float, losses: Sequence[float]) -> bool:
    """Whether most losses are below the baseline, by a sign test: one spike of a trained network does not matter."""
    limit = baseline - BASELINE_TOLERANCE * abs(baseline)
    return 2 * sum(loss < limit for loss in losses) - len(losses) > STANDARD_ERRORS * math.sqrt(len(losses))


def _has_direction(series: Sequence[float]) -> bool:
    """Whether a series rises or falls on the whole."""
    return abs(_direction(series)) >= TREND


def _direction(series: Sequence[float]) -> float:
    """Kendall's tau of the means of a series' blocks: 1 if each is above all before it, -1 if each is below them."""
    blocks = min(MOST_BLOCKS, len(series))
    edges = [place * len(series) // blocks for place in range(blocks + 1)]
    means = [_mean(series[first:end]) for first, end in pairwise(edges)]
    signs = [(later > earlier) - (later < earlier) for place, later in enumerate(means) for earlier in means[:place]]
    return sum(signs) / len(signs) if signs else 0.0


def _mean(losses: Sequence[float]) -> float:
    # Scaled by the largest, so that sums and squares of floats up to 1e308 do not overflow.
    scale = max(map(abs, losses))
    return scale * math.fsum(loss / scale for loss in losses) / len(losses) if 0 < scale < math.inf else sum(losses)


def _deviation(losses: Sequence[float], mean: float) -> float:
    scale = max(map(abs, losses))
    if not 0 < scale < math.inf:
        return 0.0
    return scale * math.sqrt(math.fsum((loss / scale - mean / scale) ** 2 for loss in losses) / len(losses))
