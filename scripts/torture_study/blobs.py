"""What the torture runs train: noisy blobs, with randomness wherever a trial can have it.

Every example is drawn with the generators of torch, numpy and Python, in the loader processes; the model has dropout.
So a resumed trial ends as if undisturbed only where all of these were restored.
"""

from __future__ import annotations

import functools
import random
import time

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from tunectl import Workload

CLASSES, FEATURES = 6, 24
SPREAD = 1.2


class Blobs(Dataset):
    """`count` points around `CLASSES` centres, each drawn anew with noise whenever it is asked for."""

    def __init__(self, count: int, seed: int) -> None:
        centres = torch.randn(CLASSES, FEATURES, generator=torch.Generator().manual_seed(0))
        generator = torch.Generator().manual_seed(seed)
        self.y = torch.randint(CLASSES, (count,), generator=generator)
        self.x = centres[self.y] + SPREAD * torch.randn(count, FEATURES, generator=generator)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        noise = 0.1 * torch.randn(FEATURES) + float(np.random.normal(0.0, 0.1))
        return (self.x[index] + noise) * random.uniform(0.9, 1.1), self.y[index]


@functools.cache
def load() -> dict[str, Blobs]:
    return {"train": Blobs(300, seed=1), "valid": Blobs(120, seed=2)}


def preload() -> None:
    load()


def losses(model: nn.Module, batch: list[Tensor]) -> Tensor:
    """One value per example, shape [B]."""
    return functional.cross_entropy(model(batch[0]), batch[1], reduction="none")


def errors(model: nn.Module, batch: list[Tensor]) -> dict[str, Tensor]:
    return {"error_rate": model(batch[0]).argmax(1) != batch[1]}


def blobs(*, width: int = 48, dropout: float = 0.3, pause_seconds: float = 0.0) -> Workload:
    """`pause_seconds` makes each batch take longer, without work for a core."""

    def slow_losses(model: nn.Module, batch: list[Tensor]) -> Tensor:
        time.sleep(pause_seconds)
        return losses(model, batch)

    model = nn.Sequential(nn.Linear(FEATURES, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, CLASSES))
    return Workload(model=model, data=load(), loss=slow_losses if pause_seconds else losses, metrics=errors)
