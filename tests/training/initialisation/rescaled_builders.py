"""Workloads in float64 whose weights are rescaled, and what their procedures measure of a fixed batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from training_builders import cross_entropy

from tunectl.training.curvature.measured_model import measured_model
from tunectl.training.initialisation.batch_losses import BatchLosses
from tunectl.training.initialisation.rescaling import Measured, Rescaling
from tunectl.workloads.workload import Workload

CPU = torch.device("cpu")
SEEDS = np.random.SeedSequence(0)


def points(examples: int, seed: int = 0) -> list[Tensor]:
    """A batch of random inputs, float64, with labels."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(examples, 4, generator=generator, dtype=torch.float64)
    return [inputs, torch.randint(0, 3, (examples,), generator=generator)]


def net(activation: Callable[[], nn.Module] = nn.Tanh, scale: float = 1.0) -> nn.Sequential:
    """Three layers, their biases not zero."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 6), activation(), nn.Linear(6, 5), activation(), nn.Linear(5, 3)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    return model


def workload_of(model: nn.Module, loss: Callable[[Any, Any], Tensor] = cross_entropy) -> Workload:
    data = TensorDataset(*points(24))
    return Workload(model, {"train": data, "valid": data}, loss)


def measured(rescaling: Rescaling, workload: Workload, *batches: list[Tensor], mode: Any = "eval") -> Measured:
    """What an iteration measures of these batches."""
    with measured_model(workload.model, mode, CPU, SEEDS) as model:
        sized = [(batch, len(batch[0])) for batch in batches]
        return rescaling.measure(BatchLosses(workload, model, sized))


def rescaled(tensor: Tensor, factor: float, compute: Callable[[], float]) -> float:
    """What `compute` gives where this tensor is multiplied; it is put back, bit for bit."""
    before = tensor.detach().clone()
    with torch.no_grad():
        tensor.mul_(factor)
    try:
        return compute()
    finally:
        with torch.no_grad():
            tensor.copy_(before)


class Weight(nn.Module):
    """One weight matrix, in float64."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([values], dtype=torch.float64))


def squares(model: Any, batch: Any) -> Tensor:
    """(w · x)^2, an example each."""
    losses: Tensor = (batch[0] @ model.w.T).square().squeeze(1)
    return losses
