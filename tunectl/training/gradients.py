"""The gradient's global norm, and clipping by it, without waiting for the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_CLIP_EPSILON = 1e-6
"""What torch.nn.utils.clip_grad_norm_ adds to the norm before dividing by it."""


def gradients(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """The gradients that the last backward pass gave; parameters that took no part in it are skipped."""
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def tensor_norms(grads: Sequence[Tensor]) -> Sequence[Tensor]:
    """The Euclidean norm of each gradient, as 0-dimensional tensors on its device."""
    if any(grad.is_sparse for grad in grads):
        # A sparse gradient may name a row twice: only the sums are its entries.
        grads = [grad.coalesce().values() if grad.is_sparse else grad for grad in grads]
    return torch._foreach_norm(list(grads)) if grads else ()


def total_norm(norms: Sequence[Tensor]) -> Tensor:
    """The global norm, shape []: the Euclidean norm of the norms."""
    norm: Tensor = torch.linalg.vector_norm(torch.stack(list(norms)))
    return norm


def clip(grads: Sequence[Tensor], norm: Tensor, max_norm: float) -> None:
    """Scale the gradients in place by min(1, max_norm / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_ does.

    `norm` is their global norm, shape []. A norm that is not finite makes them so too, and is found by what records it.
    """
    if grads:
        torch._foreach_mul_(list(grads), torch.clamp(max_norm / (norm + _CLIP_EPSILON), max=1.0))
