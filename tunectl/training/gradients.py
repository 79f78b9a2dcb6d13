"""Gradients of an update, their norm, clipping, and the size of the update, without waiting for the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tunectl.core.errors import WorkloadError
from tunectl.training.backward_passes import pass_back
from tunectl.training.example_losses import ExampleLosses, example_losses, weighted

_CLIP_EPSILON = 1e-6
"""What torch.nn.utils.clip_grad_norm_ adds to the norm before dividing by it."""


def gradients(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """The gradients of the last backward pass, without parameters that have none."""
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def tensor_norms(grads: Sequence[Tensor]) -> Sequence[Tensor]:
    """The Euclidean norm of each gradient, as 0-dimensional tensors on its device."""
    if any(grad.is_sparse for grad in grads):
        # A sparse gradient may have a row twice: its entries are the sums.
        grads = [grad.coalesce().values() if grad.is_sparse else grad for grad in grads]
    return torch._foreach_norm(list(grads)) if grads else ()


def total_norm(norms: Sequence[Tensor]) -> Tensor:
    """The global norm, shape []: the Euclidean norm of the norms."""
    norm: Tensor = torch.linalg.vector_norm(torch.stack(list(norms)))
    return norm


def clip(grads: Sequence[Tensor], norm: Tensor, max_norm: float) -> None:
    """Scale the gradients in place by min(1, max_norm / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_ does.

    `norm` is their global norm, shape []. A norm that is not finite makes the gradients so; it is found in the series.
    """
    if grads:
        torch._foreach_mul_(list(grads), torch.clamp(max_norm / (norm + _CLIP_EPSILON), max=1.0))


class UpdateSums(NamedTuple):
    """What was summed over the examples of an update: w v, and w, each of shape [] (a number without weights).

    `loss` is None where there was no example. `divisor` is that of the gradients, None where no loss had weights, and
    they were divided by the batch size.
    """

    loss: Tensor | None
    weight: Tensor | float
    divisor: Tensor | None


_NO_START: tuple[None, bool] = (None, False)


class MeanLoss:
    """Starts the backward passes of an update from the weighted mean of its losses, without a node for the mean in the
    graph, which would take a twentieth of the time of a small update.

    The mean is sum(w v) / sum(w) over all examples of the update (w is 1 without weights); where the weights sum to 0,
    its gradient is 0. With several micro-batches, sum(w) is known only after the last one. Until then the gradients are
    divided by what it is expected to be, which keeps them in the range of float16, and corrected with each micro-batch.

    Where the update `is_divided`, the losses of some parts may be constants, as where none of their examples has a
    target, but not those of all.

    With `one_divisor` they are divided by the batch size until the end of the update: where the backward passes of
    several devices depend on each other, as with batch normalisation that is synchronised, all must have one divisor.
    """

    def __init__(
        self,
        batch_size: int,
        parameters: Sequence[nn.Parameter],
        scale: Tensor | None = None,
        *,
        one_divisor: bool = False,
        is_divided: bool = False,
    ) -> None:
        self._batch_size, self._parameters, self._scale = batch_size, parameters, scale
        self._is_divided, self.has_graph = is_divided, False
        self._complex = [parameter for parameter in parameters if parameter.is_complex()]
        self._starts: dict[int, tuple[Tensor | None, bool]] = {}
        self.is_open = False
        self._sum: Tensor | None = None
        self._weights = _UpdateWeights(batch_size, one_divisor=one_divisor)

    def begin(self) -> None:
        """Begin an update: the gradients of the last one go. It `is_open` until its sums are added up or taken, and
        `has_graph` says whether any loss since then was no constant.
        """
        self.is_open, self.has_graph = True, False
        for parameter in self._parameters:
            parameter.grad = None

    def backward(self, given: Any, examples: int, *, counts: bool = True) -> None:
        """Add the gradient of what the loss gave for a batch, or for a micro-batch of it, of this number of examples:
        a tensor of shape [examples], or values and weights (see `example_losses`).

        With a scale it is that much larger; where the examples do not count it is 0. Raises WorkloadError unless there
        is one loss per example.
        """
        if not counts:
            values = example_losses(given, examples).values
            self._pass_back(values, torch.zeros_like(values))
            return
        if isinstance(given, tuple) or self._weights.divisor is not None:
            self._backward_weighted(example_losses(given, examples), examples)
            return
        losses: Tensor = given
        start, widen = self._starts.get(examples, _NO_START)
        if start is None or start.shape != losses.shape:
            start = self._start(given, examples)
            widen = start.dtype != losses.dtype
            self._starts[examples] = start, widen
        if widen:
            losses = losses.to(start.dtype)
        self._pass_back(losses, start if self._scale is None else start * self._scale)
        self._add(losses.detach().sum())
        self._weights.unweighted += examples

    def sums(self) -> UpdateSums:
        """The sums of this update so far."""
        return UpdateSums(self._sum, *self._weights.sums())

    def set_sums(self, loss: Tensor, weight: Tensor | None) -> None:
        """Replace the sums of this update, by those over all devices; `weight` is None where no loss had weights."""
        self._sum = loss
        self._weights.set_sum(weight)

    def take_sum(self) -> tuple[Tensor, Tensor | None]:
        """The sum of w v over all losses since the last call, and that of the weights, both of shape [], in single
        precision at least; None where no loss had weights, and their sum is the number of examples.

        Raises WorkloadError where all losses were constants.
        """
        if not self.has_graph:
            raise WorkloadError("loss(model, batch): expected a tensor with a gradient, got one that requires none")
        self.is_open = False
        taken, self._sum = self._sum, None
        assert taken is not None
        return taken, self._weights.take()

    def _backward_weighted(self, losses: ExampleLosses, examples: int) -> None:
        values, total = losses.values, losses.total_weight()
        wide = torch.promote_types(values.dtype, torch.float32)
        values, total = values.to(wide), total.to(wide)
        weights = torch.ones_like(values) if losses.weights is None else losses.weights.to(wide)
        divisor, correction = self._weights.add(total, examples)
        grads = gradients(self._parameters)
        if correction is not None and grads:
            torch._foreach_mul_(grads, correction)
        # Where weights are wrong, which is found when the series are read, the gradient is 0 and no ruined one.
        start = torch.where((weights == 0) | total.isnan(), 0.0, weights / divisor)
        self._pass_back(values, start if self._scale is None else start * self._scale)
        self._add(weighted(values.detach(), weights).sum())

    def _pass_back(self, values: Tensor, start: Tensor) -> None:
        if self._is_divided and not values.requires_grad:
            return
        pass_back(values, start)
        self.has_graph = True
        for parameter in self._complex:
            if parameter.grad is not None and parameter.grad.is_conj():
                # Torch cannot multiply several in place, nor view as real numbers, what is yet to be conjugated.
                parameter.grad = parameter.grad.resolve_conj()

    def _add(self, part: Tensor) -> None:
        self._sum = part if self._sum is None else self._sum + part

    def _start(self, given: Any, examples: int) -> Tensor:
        losses = example_losses(given, examples).values
        # A half-precision sum over a batch would lose most of its digits, and 1 / batch_size times the scale its range.
        wide = torch.promote_types(losses.dtype, torch.float32)
        return torch.full_like(losses, 1.0 / self._batch_size, dtype=wide, requires_grad=False)


class _UpdateWeights:
    """The weights of the losses of an update so far, as tensors of shape [].

    `unweighted` counts the examples that came without weights, before the first that had some; `divisor` is that of the
    gradients so far, None where they were divided by the number of examples.
    """

    def __init__(self, batch_size: int, *, one_divisor: bool) -> None:
        self._batch_size, self._one_divisor = batch_size, one_divisor
        self._total, self._examples = torch.zeros(()), 0
        self.unweighted = 0
        self.divisor: Tensor | None = None

    def add(self, total: Tensor, examples: int) -> tuple[Tensor, Tensor | None]:
        """Account for a part of the update with this sum of weights; gives the divisor of its gradients, and the factor
        by which those of the earlier parts must be multiplied to have it, too, None where there are none.
        """
        whole = torch.full_like(total, self._batch_size)
        divisor = self.divisor
        if divisor is None:
            self._total, self._examples = torch.full_like(total, self.unweighted), self.unweighted
            divisor = whole if self.unweighted else None
        self._total = self._total + total
        self._examples += examples
        if self._one_divisor:
            self.divisor = whole
            return whole, None
        # As if the examples that are still to come had such weights, too; after the last one it is the sum itself.
        expected = self._total * (self._batch_size / self._examples)
        new = self.divisor = torch.where(expected > 0, expected, whole)
        return new, None if divisor is None else divisor / new

    def sums(self) -> tuple[Tensor | float, Tensor | None]:
        """The sum of all weights, and the divisor of the gradients."""
        return (float(self.unweighted) if self.divisor is None else self._total), self.divisor

    def set_sum(self, total: Tensor | None) -> None:
        """Replace the sum of all weights; None where there were none."""
        self.divisor = total
        if total is not None:
            self._total = total

    def take(self) -> Tensor | None:
        """The sum of all weights, None where there were none; the next update begins."""
        total = None if self.divisor is None else self._total
        self.unweighted, self.divisor = 0, None
        return total


class UpdateRatio:
    """The size of an update of the weights with two or more axes: the norm of their change over their norm before it.

    The norms are taken over all of these weights together. So the ratio does not depend on the division into tensors,
    and a matrix of zeros, as a last layer may be at the start, does not make it infinite.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        # The parameters themselves: an optimizer may give them other tensors (`parameter.data = …`).
        self._weights = [parameter for parameter in parameters if parameter.ndim >= 2]
        self._before: list[Tensor] = []

    def begin(self) -> None:
        """To be called right before the update."""
        self._before = [weight.detach().clone() for weight in self._weights]

    def end(self) -> Tensor | None:
        """The norms of change and weights, shape [2], on the device; None where there are no such weights."""
        before, self._before = self._before, []
        if not before:
            return None
        change = torch._foreach_sub([weight.detach() for weight in self._weights], before)
        return torch.stack([total_norm(torch._foreach_norm(change)), total_norm(torch._foreach_norm(before))])
