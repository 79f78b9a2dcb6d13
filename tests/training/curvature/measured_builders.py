"""Small workloads whose curvature is measured, and their dense Hessians by torch's own means."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from tunectl.training.curvature.hessian_products import HessianProducts
from tunectl.training.curvature.measured_examples import MeasuredExamples
from tunectl.training.curvature.measured_loss import MeasuredLoss
from tunectl.training.curvature.measured_model import measured_model
from tunectl.training.optimizers import trainable_parameters
from tunectl.workloads.workload import Workload

CPU = torch.device("cpu")


def points(examples: int = 24, features: int = 4, classes: int = 3, seed: int = 0) -> TensorDataset:
    """Random inputs, float64, with labels."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(examples, features, generator=generator, dtype=torch.float64)
    return TensorDataset(inputs, torch.randint(0, classes, (examples,), generator=generator))


def tokens(examples: int = 12, length: int = 5, words: int = 7) -> TensorDataset:
    """Random sequences of token numbers, with labels of 3 classes."""
    generator = torch.Generator().manual_seed(0)
    sequences = torch.randint(0, words, (examples, length), generator=generator)
    return TensorDataset(sequences, torch.randint(0, 3, (examples,), generator=generator))


def cross_entropy(model: Any, batch: Any) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")


def measured_workload(
    model: nn.Module, loss: Callable[[Any, Any], Any] = cross_entropy, data: TensorDataset | None = None
) -> Workload:
    """A workload in float64, its model in the modes of training."""
    data = points() if data is None else data
    model.double().train()
    return Workload(model, {"train": data, "valid": data}, loss)


def tanh_net(width: int = 6) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 3))


def relu_net(width: int = 6) -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 3))


@contextmanager
def products_of(
    workload: Workload, *, examples: int = 1000, chunks: int = 1, mode: Any = "train"
) -> Iterator[tuple[HessianProducts, MeasuredLoss]]:
    """The products of a workload in its measured state."""
    sample = MeasuredExamples(workload.data["train"], examples, CPU, chunks=chunks)
    with measured_model(workload.model, mode, CPU) as model:
        loss = MeasuredLoss(workload, sample, model)
        yield HessianProducts(loss, trainable_parameters(workload.model)), loss


def hessian_by_products(products: HessianProducts) -> Tensor:
    """The Hessian [n, n], a column for each product with a unit vector."""
    columns = [products.product(unit) for unit in torch.eye(products.size, dtype=torch.float64)]
    return torch.stack(columns, dim=1)


class _MeanLoss(nn.Module):
    def __init__(self, model: nn.Module, loss: Callable[[Any, Any], Tensor]) -> None:
        super().__init__()
        self.inner, self.loss = model, loss

    def forward(self, batch: Any) -> Tensor:
        return self.loss(self.inner, batch).mean()


def dense(
    workload: Workload, mode: Callable[[nn.Module], Any] = nn.Module.eval, batch: Any = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, gradient [n] and Hessian [n, n] by torch.autograd.functional, of a copy in the given mode."""
    whole = _MeanLoss(copy.deepcopy(workload.model), workload.loss)
    mode(whole.inner)
    batch = workload.data["train"].tensors if batch is None else batch  # type: ignore[attr-defined]
    trained = {name: parameter for name, parameter in whole.named_parameters() if parameter.requires_grad}
    sizes = [parameter.numel() for parameter in trained.values()]

    def function(flat: Tensor) -> Tensor:
        parts = [part.view_as(parameter) for part, parameter in zip(flat.split(sizes), trained.values(), strict=True)]
        given = dict(zip(trained, parts, strict=True))
        return torch.func.functional_call(whole, given, (tuple(tensor.clone() for tensor in batch),))

    point = torch.cat([parameter.detach().reshape(-1) for parameter in trained.values()])
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        gradient = torch.autograd.functional.jacobian(function, point)
        hessian = torch.autograd.functional.hessian(function, point)
    return function(point).detach(), gradient, hessian


def apart(one: Tensor, other: Tensor) -> float:
    """The relative error, by the largest entry."""
    return float((one - other).abs().max() / other.abs().max())
