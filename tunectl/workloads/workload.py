"""The Workload type: a model, its data, its loss and its metrics. Importing it loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.data import Dataset


@dataclass(frozen=True, slots=True)
class Workload:
    """What a factory returns: all that a trial trains and measures.

    Attributes:
        model: a torch module on the CPU; the trial moves it to its device. data: map-style torch datasets by split:
        `train` and `valid`, more if wanted; `test` is never evaluated during a study.
            A batch is what torch's default collation makes of the examples.
        loss: `loss(model, batch)` gives one value per example, shape [B]. Neither it nor `metrics` may write into the
        batch, which both see: work on a copy.
        metrics: `metrics(model, batch)` gives a dict of per-example values, shape [B], or of pairs (values, weights) of
        the same shape, each a tuple and no weight negative; they are averaged over the split by weight. None: no metric
        but `loss`, which is always measured.
        baseline_loss: the loss of the best constant prediction (for labels their entropy), in the unit of `loss`.
        finalize: derives further metrics from a split's averages (`{"perplexity": exp(loss)}`); the dict of numbers
        that it returns is added, under names that are not taken, without a slash. Where the averages of a ruined model
        are too large for it (ArithmeticError) or not finite (ValueError), they are NaN.
        blocks: modules of the model, run one after the other, that `activation_checkpointing: blocks` lets forget what
        they computed until their gradient is taken. What they compute must depend on their inputs, their parameters and
        buffers, and torch's random generators alone.
    """

    model: nn.Module
    data: Mapping[str, Dataset[Any]]
    loss: Callable[[Any, Any], Tensor]
    metrics: Callable[[Any, Any], Mapping[str, Any]] | None = None
    baseline_loss: float | None = None
    finalize: Callable[[dict[str, float]], Mapping[str, float]] | None = None
    blocks: Sequence[nn.Module] = ()
