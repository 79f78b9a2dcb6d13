"""What the tests of all image models do with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from tunectl.workloads import digits


def parameters_of(model: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(parameter.numel() for parameter in model.parameters())


def trained_losses(
    model: nn.Module, *, updates: int, learning_rate: float, batch_size: int = 64, side: int = 8
) -> list[float]:
    """The losses of a training on the digits by SGD with a momentum of 0.9, until one is not a number.

    `side`: the images have this many pixels a side, 8 or a half or quarter of it.
    """
    images, labels = digits.load().splits["train"].tensors
    if side != 8:
        images = nn.functional.avg_pool2d(images, 8 // side)
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    losses: list[float] = []
    for _ in range(updates):
        chosen = torch.randint(len(images), (batch_size,), generator=generator)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images[chosen]), labels[chosen])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if not loss.isfinite():
            break
    return losses


def without_gradient(model: nn.Module, *, updates: int = 4, side: int = 4) -> set[str]:
    """The names of the parameters that have no gradient, or only zeros, in every one of a few updates."""
    torch.manual_seed(1)
    images, labels = torch.randn(6, 1, side, side), torch.arange(6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    names = {name for name, _ in model.named_parameters()}
    for _ in range(updates):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        names -= {name for name, each in model.named_parameters() if each.grad is not None and each.grad.any()}
        if not names:
            break
    return names


def checked_depth(of_depth: Callable[[Any], Any]) -> None:
    """Check that a depth that is no whole number is refused."""
    for depth in (10.0, True, "28", -2, 0):
        with pytest.raises(ValueError, match="depth: expected a whole number, at least 1, got"):
            of_depth(depth)


def pairs(first: Sequence[str], second: Sequence[str], third: Sequence[str]) -> list[tuple[str, str, str]]:
    """Combinations in which every pair of the first two is, and every pair of one of these and the third."""
    return [(one, other, third[(i + j) % len(third)]) for i, one in enumerate(first) for j, other in enumerate(second)]
