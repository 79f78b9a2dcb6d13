"""A workload of one's own: a small network learns a noisy sine.

`own_workload.yaml` names it as `./own_workload.py:sine`. The data set gives dicts; a batch is what torch's default
collation makes of them.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from tunectl import Workload

NOISE = 0.1


class Sine(Dataset):
    """`count` points x in [-1, 1] with y = sin(pi x) + noise, the same in every trial."""

    def __init__(self, count: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.x = 2 * torch.rand(count, 1, generator=generator) - 1
        self.y = torch.sin(math.pi * self.x) + NOISE * torch.randn(count, 1, generator=generator)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"x": self.x[index], "y": self.y[index]}


@functools.cache
def load() -> dict[str, Sine]:
    """The datasets by split, created once."""
    return {"train": Sine(500, seed=0), "valid": Sine(200, seed=1)}


def preload() -> None:
    """Called once, before the trials start: what is cached here they all share."""
    load()


def squared_error(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """One value per example, shape [B]."""
    return (model(batch["x"]) - batch["y"]).square().squeeze(1)


def moments(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The mean squares from which `explained` comes; each is averaged over the whole split."""
    return {"squared_error": squared_error(model, batch), "squared_target": batch["y"].square().squeeze(1)}


def explained(metrics: dict[str, float]) -> dict[str, float]:
    """The share of the target's mean square that the model explains: 1 is perfect, 0 is as good as answering 0."""
    return {"explained": 1 - metrics["squared_error"] / metrics["squared_target"]}


def sine(*, hidden: int = 16) -> Workload:
    """The factory: its keywords are hyperparameters. Torch is seeded by then, so the model follows the trial's seed."""
    model = nn.Sequential(nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, 1))
    return Workload(
        model=model,
        data=load(),
        loss=squared_error,
        metrics=moments,
        baseline_loss=0.5 + NOISE**2,  # answering 0: the mean square of a sine, and the noise
        finalize=explained,
    )
