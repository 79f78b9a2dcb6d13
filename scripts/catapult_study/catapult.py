"""A workload whose loss goes up within the first updates at twice its best learning rate, and comes back down.

A linear regression decides what the best rate is: its labels are noisy, so a high rate ends far from the weights that
made them, and a low one does not get there in time. Beside it, and without a part in the metric, two layers of WIDTH
linear units learn to answer 0, whose curvature is 2 * SCALE**2 at first. A rate above 2 / curvature, up to about twice
that, throws them up, until they land where the loss is flatter: the catapult of Lewkowycz et al. (2020, "The large
learning rate phase of deep learning", eq. 8).
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from tunectl import Workload

FEATURES = 16
NOISE = 1.0
WIDTH = 4096
SCALE = 5.5


class Regression(nn.Module):
    """The weights of the regression, and the two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(FEATURES))
        self.first = nn.Parameter(torch.randn(WIDTH))
        self.second = nn.Parameter(torch.randn(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight

    def aside(self) -> Tensor:
        return SCALE * (self.first * self.second).sum() / WIDTH**0.5


@functools.cache
def load() -> dict[str, TensorDataset]:
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(FEATURES, generator=generator)
    inputs = torch.randn(2500, FEATURES, generator=generator)
    labels = inputs @ target
    noise = NOISE * torch.randn(2000, generator=generator)
    return {
        "train": TensorDataset(inputs[:2000], labels[:2000] + noise),
        "valid": TensorDataset(inputs[2000:], labels[2000:]),
    }


def preload() -> None:
    """Make the data once."""
    load()


def loss(model: nn.Module, batch: list[Tensor]) -> Tensor:
    """One value per example, shape [B]."""
    x, y = batch
    return 0.5 * (model(x) - y).square() + 0.5 * model.aside().square()


def metrics(model: nn.Module, batch: list[Tensor]) -> dict[str, Tensor]:
    """The squared error of the regression alone."""
    x, y = batch
    return {"squared_error": (model(x) - y).square()}


def catapult() -> Workload:
    data = load()
    return Workload(
        model=Regression(),
        data=data,
        loss=loss,
        metrics=metrics,
        baseline_loss=float(0.5 * data["train"].tensors[1].var()),
    )
