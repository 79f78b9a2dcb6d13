"""Whether own code learned at all, by the training losses that it told: `diverged`, `no_progress`, or neither.

The rules are those of tunectl's own loop (training.feasibility) as far as a few printed losses can carry them. Where
there are too few, or the first came too late to say where training began, nothing is judged.
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
from tunectl.core.objective import Objective
from tunectl.core.program_request import TRAINING_LOSS
from tunectl.core.records import Measurement

FEWEST_FOR_DIVERGENCE = 5
FEWEST_FOR_PROGRESS = 10

TOLD_SPREAD = 0.2
"""Printed losses are means over batches, which hide how much the losses of examples differ. At this part of their mean,
where those of a classifier at initialisation lie (0.1 to 0.5), a training has diverged that ends at twice its start.
"""

EARLY = 0.02
"""A first loss that came later than this part of training is no start: a loss falls fastest in the first steps."""

TAIL_PART = 20
FEWEST_IN_TAIL = 3
"""The end is the median of the last twentieth of the losses, at least of three: one spike is not the end."""

FALLEN = 0.9
"""A loss that ends below this part of its first one is falling, though its start is not known."""

NEAR = 0.05
"""A dead network's biases have settled: its loss lies within this part of the baseline, or within its error."""

EXACT = 2e-3
"""A loss that never moved is a dead network's only where it is known to lie this near: networks at initialisation, and
those that learn too slowly to be seen, lie higher (PyTorch's linear layers by 0.2 to 1 % for ten classes).
"""

MOVED, MOVED_ONCE = 6.0, 2.0
"""A loss moved where three in a row lie so many median deviations from the middle of those of the second half, or one
so many times as far as any of those.
"""

TREND = 0.5
MOST_BLOCKS = 20
FEWEST_FOR_TREND = 5
"""A series is flat where Kendall's tau of the means of at most 20 blocks is nearer to 0; of noise one in 500 is not."""


class ToldVerdict(NamedTuple):
    """Why a trial is infeasible: the word for the tables and a line for people."""

    reason: str
    message: str


def verdict_on(
    measurements: Sequence[Measurement], objective: Objective, *, baseline: float | None, no_progress: bool = True
) -> ToldVerdict | None:
    """Say whether a trial of own code that came to its end is infeasible; None where it is not, or cannot be judged.

    `baseline` is the training loss of the best constant prediction. `diverged`: the loss ends far above where it began,
    or, with a baseline, above the larger of both. `no_progress` with a baseline: the loss moved in the first half, and
    in the second it lies at the baseline, where neither it nor the objective, nor another loss, has a direction. One
    that never moved may be that of a network that learns too slowly to be seen in the noise of batches, which is
    feasible. Without a baseline: it was never below the first.

    What is below 0, or begins at 0, is no loss of which a start says anything (a reward, a mean that is not filled
    yet), and a loss that grows while the objective improves belongs to another game (a generator against its
    discriminator, a penalty): neither is judged.
    """
    told = [item for item in measurements if item.kind == EVALUATION.name and TRAINING_LOSS in item.metrics]
    if len(told) < FEWEST_FOR_DIVERGENCE:
        return None
    losses = [item.metrics[TRAINING_LOSS] for item in told]
    if losses[0] == 0 or min(losses) < 0:
        return None
    is_early = told[0].step <= EARLY * told[-1].step
    found = _diverged(losses, baseline, is_early=is_early)
    if found is None and no_progress and len(losses) >= FEWEST_FOR_PROGRESS:
        half = told[len(told) // 2].step
        if baseline is not None:
            found = _flat(losses, _other_losses(told, objective.metric, half), baseline)
        elif is_early:
            found = _never_below(losses)
    return None if found is not None and _improves(measurements, objective) else found


def _improves(measurements: Sequence[Measurement], objective: Objective) -> bool:
    """Whether the objective, where it is another metric, gets better on the whole."""
    told = sorted((item for item in measurements if item.kind == EVALUATION.name), key=lambda item: item.step)
    values = [item.metrics[objective.metric] for item in told if objective.metric in item.metrics]
    costs = [objective.loss(value) for value in values]
    if objective.metric == TRAINING_LOSS or len(costs) < FEWEST_FOR_TREND or not all(map(math.isfinite, costs)):
        return False
    return _direction(costs) <= -TREND


def _diverged(losses: Sequence[float], baseline: float | None, *, is_early: bool) -> ToldVerdict | None:
    first, end = losses[0], statistics.median(losses[-max(FEWEST_IN_TAIL, len(losses) // TAIL_PART) :])
    if is_early and math.isfinite(first):
        start, name = max(first, -math.inf if baseline is None else baseline), "its start"
    elif baseline is not None and not end < FALLEN * first:
        start, name = baseline, "the best constant prediction"
    else:
        return None
    name = "the best constant prediction" if start == baseline else name
    spread = TOLD_SPREAD * abs(start)
    if not is_diverged(end, start, spread):
        return None
    above = deviations_above(end, start, spread)
    message = f"the training loss ended at {end:.4g}, {name} has {start:.4g} ({above:.3g} times {spread:.3g} above it)"
    return ToldVerdict("diverged", message)


def _never_below(losses: Sequence[float]) -> ToldVerdict | None:
    if not min(losses[1:]) >= losses[0]:
        return None
    return ToldVerdict("no_progress", f"the training loss was never below its first, {losses[0]:.4g}")


def _flat(told: Sequence[float], others: Iterable[Sequence[float]], baseline: float) -> ToldVerdict | None:
    """The verdict on the second half of training, by its losses and by what else shows whether it still moves."""
    begins, losses = told[: len(told) // 2], told[len(told) // 2 :]
    if any(_is_clearly_below(baseline, part) for part in (losses, losses[len(losses) // 2 :])):
        return None
    if not _is_at(baseline, losses, NEAR) or not (_moved(begins, losses) or _is_at(baseline, losses, EXACT, sure=True)):
        return None
    # Half of a few losses is too short to show a slow fall that all of them show.
    whole = told if len(losses) < MOST_BLOCKS else losses
    if any(_has_direction(series) for series in (whole, losses, *others)):
        return None
    message = f"the training loss ended flat at {_mean(losses):.4g}: the best constant prediction has {baseline:.4g}"
    return ToldVerdict("no_progress", message)


def _other_losses(told: Sequence[Measurement], objective: str, half: int) -> list[list[float]]:
    """The objective and all other losses of the second half, by metric."""
    found: dict[str, list[float]] = {}
    for item in told:
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
    """Whether the mean lies at the baseline, within a part of it, or (not `sure`) within its own error."""
    mean = _mean(losses)
    error = _deviation(losses, mean) / math.sqrt(len(losses))
    if sure:
        return abs(mean - baseline) <= part * abs(baseline) and error <= part * abs(baseline)
    return mean <= baseline + max(STANDARD_ERRORS * error, part * abs(baseline))


def _moved(begins: Sequence[float], losses: Sequence[float]) -> bool:
    """Whether the first half of training has losses that those of the second half are no repetition of."""
    middle = statistics.median(losses)
    distances = [abs(loss - middle) for loss in losses]
    if max(abs(loss - middle) for loss in begins) > MOVED_ONCE * max(distances):
        return True
    threes = (begins[at : at + FEWEST_IN_TAIL] for at in range(len(begins) - FEWEST_IN_TAIL + 1))
    usual = statistics.median(distances)
    return any(abs(statistics.median(three) - middle) > MOVED * usual for three in threes)


def _mostly_below(baseline: float, losses: Sequence[float]) -> bool:
    """The same by the sign test, in which one spike of a network that has learned does not count."""
    limit = baseline - BASELINE_TOLERANCE * abs(baseline)
    return 2 * sum(loss < limit for loss in losses) - len(losses) > STANDARD_ERRORS * math.sqrt(len(losses))


def _has_direction(series: Sequence[float]) -> bool:
    """Whether a series rises or falls on the whole."""
    return abs(_direction(series)) >= TREND


def _direction(series: Sequence[float]) -> float:
    """Kendall's tau of the means of a series' blocks: 1 where each is above all before it, -1 where each is below."""
    blocks = min(MOST_BLOCKS, len(series))
    edges = [place * len(series) // blocks for place in range(blocks + 1)]
    means = [_mean(series[first:end]) for first, end in pairwise(edges)]
    signs = [(later > earlier) - (later < earlier) for place, later in enumerate(means) for earlier in means[:place]]
    return sum(signs) / len(signs) if signs else 0.0


def _mean(losses: Sequence[float]) -> float:
    # By the largest: neither sums nor squares of floats up to 1e308 may overflow.
    scale = max(map(abs, losses))
    return scale * math.fsum(loss / scale for loss in losses) / len(losses) if 0 < scale < math.inf else sum(losses)


def _deviation(losses: Sequence[float], mean: float) -> float:
    scale = max(map(abs, losses))
    if not 0 < scale < math.inf:
        return 0.0
    return scale * math.sqrt(math.fsum((loss / scale - mean / scale) ** 2 for loss in losses) / len(losses))
