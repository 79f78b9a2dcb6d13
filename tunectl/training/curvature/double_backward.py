"""The gradient of a loss with its graph, and the derivative of that gradient along a vector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tunectl.training.backward_passes import gradients_of

Gradients = Sequence[Tensor | None]


def gradient_with_graph(losses: Tensor, parameters: Sequence[nn.Parameter], divisor: float) -> Gradients:
    """The gradient of the sum of the losses, shape [B], over `divisor`, one tensor a parameter, with its graph.

    None for a parameter that the losses do not use.
    """
    if not losses.requires_grad:
        return [None] * len(parameters)
    # In single precision at least, as in MeanLoss: 1 / divisor has few digits in half precision.
    wide = losses.to(torch.promote_types(losses.dtype, torch.float32))
    start = torch.full_like(wide, 1.0 / divisor, requires_grad=False)
    return gradients_of([wide], parameters, [start], create_graph=True)


def hessian_product(
    grads: Gradients, parameters: Sequence[nn.Parameter], vector: Gradients, *, keep: bool, with_graph: bool = False
) -> Gradients:
    """The Hessian times a vector that is given, as the gradient, by parameter; `keep` the graph for more products.

    None for a parameter whose product is zero. `with_graph`: with the graph of the product, also of the vector's part
    in it.
    """
    # A parameter in which the loss is linear has a gradient without a graph.
    curved = [
        (grad, part)
        for grad, part in zip(grads, vector, strict=True)
        if grad is not None and part is not None and grad.requires_grad
    ]
    if not curved:
        return [None] * len(parameters)
    starts = [part.to(grad.dtype) for grad, part in curved]
    return gradients_of([grad for grad, _ in curved], parameters, starts, retain_graph=keep, create_graph=with_graph)


def flat_vector(parts: Gradients, parameters: Sequence[nn.Parameter]) -> Tensor:
    """The parts one after the other, shape [n], float64, without a graph; zeros for None."""
    return joined([None if part is None else part.detach() for part in parts], parameters)


def joined(parts: Gradients, parameters: Sequence[nn.Parameter]) -> Tensor:
    """The parts one after the other, shape [n], float64, with their graph; zeros for None."""
    pieces = [
        torch.zeros_like(parameter, dtype=torch.float64, requires_grad=False)
        if part is None
        else part.to(torch.float64)
        for part, parameter in zip(parts, parameters, strict=True)
    ]
    return torch.cat([piece.reshape(-1) for piece in pieces])
