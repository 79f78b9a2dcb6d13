"""Gradients of an update, their norm, clipping, and the size of the update, without waiting for the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tunectl.core.errors import WorkloadError
from tunectl.training.evaluation import checked_losses

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


_NO_START: tuple[None, bool] = (None, False)


class MeanLoss:
    """Starts the backward passes of an update from the mean of its losses, without a node for the mean in the graph,
    which would take a twentieth of the time of a small update.
    """

    def __init__(self, batch_size: int, scale: Tensor | None = None) -> None:
        self._batch_size, self._scale = batch_size, scale
        self._starts: dict[int, tuple[Tensor | None, bool]] = {}
        self._sum: Tensor | None = None

    def backward(self, losses: Tensor, examples: int) -> None:
        """Add the gradient of the sum of these losses over `batch_size`, times the scale where there is one.

        Raises WorkloadError unless there is one loss per example.
        """
        start, widen = self._starts.get(examples, _NO_START)
        if start is None or start.shape != losses.shape:
            start = self._start(losses, examples)
            widen = start.dtype != losses.dtype
            self._starts[examples] = start, widen
        if widen:
            losses = losses.to(start.dtype)
        losses.backward(gradient=start if self._scale is None else start * self._scale)  # type: ignore[no-untyped-call]
        part = losses.detach().sum()
        self._sum = part if self._sum is None else self._sum + part

    def take_sum(self) -> Tensor:
        """The sum of all losses since the last call, shape [], in single precision at least."""
        taken, self._sum = self._sum, None
        assert taken is not None
        return taken

    def _start(self, losses: Tensor, examples: int) -> Tensor:
        if checked_losses(losses).shape[0] != examples:
            raise WorkloadError(f"loss(model, batch) gave {losses.shape[0]} values for a batch of {examples} examples")
        # A half-precision sum over a batch would lose most of its digits, and 1 / batch_size times the scale its range.
        wide = torch.promote_types(losses.dtype, torch.float32)
        return torch.full_like(losses, 1.0 / self._batch_size, dtype=wide, requires_grad=False)


class UpdateRatio:
    """The size of an update of the weights with two or more axes: the norm of their change over their norm before it.

    The norms are taken over all of these weights together. So the ratio does not depend on the division into tensors,
    and a matrix of zeros, as a last layer may be at the start, does not make it infinite.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._weights: list[Tensor] = [parameter.detach() for parameter in parameters if parameter.ndim >= 2]
        self._before: list[Tensor] = []

    def begin(self) -> None:
        """To be called right before the update."""
        self._before = [weight.clone() for weight in self._weights]

    def end(self) -> Tensor | None:
        """The norms of change and weights, shape [2], on the device; None where there are no such weights."""
        before, self._before = self._before, []
        if not before:
            return None
        change = torch._foreach_sub(self._weights, before)
        return torch.stack([total_norm(torch._foreach_norm(change)), total_norm(torch._foreach_norm(before))])
