"""The loss whose curvature is measured, as a function of the weights: one fixed batch, one fixed random state."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from tunectl.core.errors import WorkloadError
from tunectl.core.exception_place import user_frame
from tunectl.core.exception_text import exception_line
from tunectl.training.curvature.given_batch import GivenBatch
from tunectl.training.curvature.measured_examples import MeasuredExamples
from tunectl.training.curvature.measured_model import MeasuredModel, uses_batch_statistics
from tunectl.training.example_losses import WRONG_WEIGHTS, example_losses
from tunectl.training.memory_errors import has_asked_for_too_much
from tunectl.workloads.workload import Workload

_FEW, _TWO = 8, 2
_APART = 1e-4
"""Losses of the same example that differ by more than this part of the largest differ by more than rounding."""

_T = TypeVar("_T")

Examples = MeasuredExamples | GivenBatch
"""What is measured: a sample of the train split, or the batch that own code gives."""


def checked_weight(weight: float) -> float:
    """The weight of all measured examples together; raises NotMeasured where it is 0."""
    if weight == 0:
        raise NotMeasured("the weights of loss(model, batch) are 0 for all measured examples")
    return weight


class NotMeasured(Exception):  # noqa: N818  (no error of the trial, which goes on)
    """The curvature of this step cannot be measured; the message is the reason."""


class TooLittleMemory(NotMeasured):
    """The memory is too small for it, even in the smallest chunks."""


class ChunkLosses(NamedTuple):
    """The losses of a batch, each times its weight, shape [size], in the loss's own type; and the sum of the weights,
    which is the number of examples where the loss gives none.
    """

    values: Tensor
    weight: float


def chunk_losses(workload: Workload, model: MeasuredModel, batch: Any, size: int) -> ChunkLosses:
    """The losses of a batch of `size` examples in the model's measured state, with their graph.

    Raises WorkloadError where they are not as a workload's must be.
    """
    with model.forward():
        losses = example_losses(workload.loss(workload.model, batch), size)
    if losses.weights is None:
        return ChunkLosses(losses.values, float(size))
    weight = float(losses.total_weight())
    if not math.isfinite(weight):
        raise WorkloadError(f"{WRONG_WEIGHTS}, which those of the measured examples are not")
    return ChunkLosses(losses.products(), weight)


class MeasuredLoss:
    """The mean of a workload's losses over the measured examples, by weight, without a weight-decay term.

    To be used while the model is in its measured state.
    """

    def __init__(self, workload: Workload, examples: Examples, model: MeasuredModel) -> None:
        self._workload, self.examples, self._model = workload, examples, model
        self._coupled: bool | None = None

    @property
    def draws_random_numbers(self) -> bool:
        """Whether a forward drew random numbers; they were the same in every one."""
        return self._model.draws_random_numbers

    def losses(self, chunk: int) -> ChunkLosses:
        """The losses of a chunk; raises WorkloadError where they are not as a workload's must be."""
        return self.losses_of(self.examples.batch(chunk), self.examples.sizes()[chunk])

    def losses_of(self, batch: Any, size: int) -> ChunkLosses:
        """The losses of a batch of `size` examples."""
        return chunk_losses(self._workload, self._model, batch, size)

    def mean(self) -> float:
        """The mean loss of all measured examples, summed in float64, without a gradient; raises NotMeasured."""
        return self.fitting(self._mean, may_halve=False)

    def _mean(self) -> float:
        with torch.no_grad():
            chunks = [self.losses(chunk) for chunk in range(self.examples.chunks)]
            sums = [chunk.values.to(torch.float64).sum() for chunk in chunks]
        return float(torch.stack(sums).sum()) / checked_weight(sum(chunk.weight for chunk in chunks))

    def fitting(self, compute: Callable[[], _T], *, may_halve: bool, release: Callable[[], None] = lambda: None) -> _T:
        """What `compute` gives; where memory runs out, after `release`, it is called again with more chunks.

        `may_halve`: or on half of the examples, where chunks have another loss. Raises TooLittleMemory, and NotMeasured
        for every other exception of the workload's code or of torch.
        """
        while True:
            try:
                return compute()
            except NotMeasured:
                raise
            except Exception as error:
                if not has_asked_for_too_much(error):
                    place = user_frame(error)
                    raise NotMeasured(exception_line(error) + (f" ({place})" if place else "")) from error
            # Not in the handler: while it runs, the traceback keeps the tensors of the failed attempt.
            release()
            if self.examples.device.type == "cuda":
                torch.cuda.empty_cache()
            if not may_halve and self.is_coupled():
                raise TooLittleMemory("the memory became too small during the measurement")
            self.make_smaller()

    def is_coupled(self) -> bool:
        """Whether the loss of an example depends on the others in its batch, so that chunks have another loss.

        It does with batch statistics, and where the losses of a few examples change when their batch is divided: in a
        contrastive loss, and where random numbers are drawn for the batch as a whole.
        """
        if self._coupled is None:
            self._coupled = uses_batch_statistics(self._workload.model) or self.changes_with_its_batch()
        return self._coupled

    def changes_with_its_batch(self) -> bool:
        """Whether the losses of a few examples change when their batch is divided."""
        few = min(_FEW, self.examples.count)
        while few >= _TWO:
            try:
                return self._differ(few)
            except Exception as error:
                if not has_asked_for_too_much(error):
                    raise
            few //= 2
        return False

    def _differ(self, few: int) -> bool:
        """Whether the losses of this number of examples are others in two batches than in one."""
        sizes = [few // 2, few - few // 2]
        with torch.no_grad():
            (batch,) = self.examples.batches_of(few)
            # Clones: a loss may give a tensor that it fills again at each call.
            losses = self.losses_of(batch, few)
            whole, weight = losses.values.clone(), losses.weight
            parts, weights = [], []
            for half, size in zip(self.examples.batches_of(*sizes), sizes, strict=True):
                losses = self.losses_of(half, size)
                parts.append(losses.values.clone())
                weights.append(losses.weight)
        # Weights that are relative to those of the batch change, too.
        same = bool((torch.cat(parts) - whole).abs().max() <= _APART * whole.abs().max())
        return not (same and math.isclose(sum(weights), weight, rel_tol=_APART))

    def make_smaller(self, times: int = 2) -> None:
        """Let a measurement take less memory: more chunks, or half of the examples where chunks have another loss.

        Raises TooLittleMemory where it cannot be made smaller.
        """
        if not self.examples.is_divisible:
            raise TooLittleMemory("the memory is too small for the batch, which cannot be divided")
        if self.is_coupled():
            if not self.examples.halve():
                raise TooLittleMemory(f"the memory is too small even for {self.examples.count} examples")
        elif not self.examples.divide(times):
            raise TooLittleMemory("the memory is too small even for one example at a time")
