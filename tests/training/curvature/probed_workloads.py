"""Probes of workloads whose curvature is to be measured, and autograd functions with right and wrong derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from training_builders import make_request, plain_workload

from tunectl.core.curvature_settings import CurvatureSettings
from tunectl.core.errors import WorkloadError
from tunectl.core.objective import Objective
from tunectl.training.probe import probe
from tunectl.workloads.workload import Workload

ON = CurvatureSettings(every=10)


def probed(factory: Callable[..., Workload], **changes: Any) -> None:
    """The probe of a workload whose loss is its objective, without curvature and with it."""
    request = make_request(objective=Objective("valid/loss", "minimize"), **changes)
    probe(request, factory, device="cpu")
    probe(replace(request, curvature=ON), factory, device="cpu")


def refusal(factory: Callable[..., Workload], **changes: Any) -> str:
    """The message with curvature, of a workload that can be trained without."""
    with pytest.raises(WorkloadError, match=r"training\.curvature: the curvature of this workload cannot") as caught:
        probed(factory, **changes)
    return str(caught.value)


def made_with(function: Callable[[Tensor], Tensor], *, dtype: torch.dtype = torch.float32) -> Callable[[], Workload]:
    """A network with this function of its hidden units."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.last = nn.Linear(6, 8, dtype=dtype), nn.Linear(8, 3, dtype=dtype)

        def forward(self, inputs: Tensor) -> Tensor:
            values = self.last(function(self.first(inputs.to(self.first.weight.dtype))))
            return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values

    return lambda: replace(plain_workload(), model=Net(), metrics=None)


class Cube(torch.autograd.Function):
    """x^3, right to every order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] * 3 * x**2


class DetachedCube(Cube):
    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] * 3 * x.detach() ** 2


class OnceCube(Cube):
    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] * 3 * x**2


class OutsideCube(Cube):
    """Computes its gradient where autograd does not see it, as kernels of one's own do."""

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.from_numpy(grads[0].detach().numpy() * 3 * x.detach().numpy() ** 2)


class SingleCube(Cube):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            raise TypeError("a kernel for float32")
        return Cube.forward(ctx, x)


class Rounded(torch.autograd.Function):
    """Rounds, with a gradient as if it did not: the gradient is that of no function, but its derivative is its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(x * 10) / 10

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 1

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return -grads[0]
