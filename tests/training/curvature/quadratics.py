"""A quadratic loss of a few weights, on which the next update and the critical learning rate have a closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.curvature.critical_rate import CriticalRate, critical_learning_rate
from tunectl.training.optimizers import make_optimizer

RATE = 0.02
RATIO = 1 + 1 / 16
SIZE = 12


class Parts(nn.Module):
    """A matrix, a vector, a matrix whose memory is in another order, and a scalar: 12 weights."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        values = torch.randn(SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
        self.matrix = nn.Parameter(values[:4].reshape(2, 2).clone())
        self.vector = nn.Parameter(values[4:5].clone())
        self.turned = nn.Parameter(values[5:11].reshape(3, 2).clone().t())
        self.scalar = nn.Parameter(values[11].clone())


def flat(tensors: Any) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


class Quadratic:
    """The loss (w - c)'H(w - c) / 2 + 3 of a model's weights, with its calls counted."""

    def __init__(self, model: nn.Module) -> None:
        generator = torch.Generator().manual_seed(7)
        root = torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64)
        self.hessian = root @ root.T / SIZE + 0.1 * torch.eye(SIZE, dtype=torch.float64)
        self.centre = torch.randn(SIZE, generator=generator, dtype=torch.float64)
        self.model, self.calls = model, 0

    def __call__(self) -> Tensor:
        self.calls += 1
        weights = torch.cat([parameter.reshape(-1) for parameter in self.model.parameters()])
        away = weights.double() - self.centre
        return (away @ self.hessian @ away / 2 + 3).to(weights.dtype)

    def gradients(self) -> list[Tensor]:
        return list(torch.autograd.grad(self(), list(self.model.parameters())))

    def crossing(self, change: Tensor) -> float:
        """The multiple of this change at which the loss is again that at 0."""
        slope = flat(self.gradients()) @ change
        return float(-2 * slope / (change @ self.hessian @ change))


def trained(fields: TrainingConfiguration, updates: int = 4) -> tuple[Parts, torch.optim.Optimizer, Quadratic]:
    """A model and its optimizer after some updates."""
    model = Parts()
    optimizer, loss = make_optimizer(model, fields), Quadratic(model)
    for _ in range(updates):
        make_update(model, optimizer, loss, fields)
    return model, optimizer, loss


def make_update(
    model: nn.Module, optimizer: torch.optim.Optimizer, loss: Quadratic, fields: TrainingConfiguration
) -> None:
    optimizer.zero_grad()
    torch.autograd.backward(loss())
    if fields.grad_clip_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), fields.grad_clip_norm)
    optimizer.step()
    optimizer.zero_grad()


def critical(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[], Tensor],
    fields: TrainingConfiguration,
    gradients: Any = None,
    **options: Any,
) -> CriticalRate:
    if gradients is None:
        gradients = torch.autograd.grad(loss(), list(model.parameters()))
    options = {"learning_rate": fields.learning_rate, **options}
    found = critical_learning_rate(
        loss, optimizer, list(model.parameters()), gradients, configuration=fields, **options
    )
    assert found is not None
    return found


def is_just_above(found: float, crossing: float) -> bool:
    """Whether the loss rises at `found`, and the crossing is at most 1/16 below it."""
    return crossing * (1 - 1e-9) <= found <= crossing * RATIO * (1 + 1e-9)
