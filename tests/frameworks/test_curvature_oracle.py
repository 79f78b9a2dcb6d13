"""Eigenvalues of Hessians beside those of curvlinops and SciPy, which share no code with tunectl's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tunectl.training.curvature.hessian_products import HessianProducts
from tunectl.training.curvature.lanczos import largest_eigenvalues
from tunectl.training.curvature.measured_examples import MeasuredExamples
from tunectl.training.curvature.measured_loss import MeasuredLoss
from tunectl.training.curvature.measured_model import measured_model
from tunectl.training.optimizers import trainable_parameters
from tunectl.workloads.workload import Workload

pytestmark = pytest.mark.frameworks

EXAMPLES, CLASSES, SIDE = 48, 3, 6
CPU = torch.device("cpu")


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(96, CLASSES)
    )


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 20), nn.Tanh(), nn.Linear(20, CLASSES))


def cross_entropy(model: nn.Module, batch: Any) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("network", [perceptron, convolutional])
def test_the_ends_of_the_spectrum_are_those_of_curvlinops_with_eigsh(network: Callable[[], nn.Module]) -> None:
    from curvlinops import HessianLinearOperator
    from scipy.sparse.linalg import eigsh

    torch.manual_seed(0)
    model = network().double()
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(EXAMPLES, 1, SIDE, SIDE, dtype=torch.float64, generator=generator)
    labels = torch.randint(0, CLASSES, (EXAMPLES,), generator=generator)
    workload = Workload(model, {"train": torch.utils.data.TensorDataset(inputs, labels)}, cross_entropy)

    model.eval()
    theirs = HessianLinearOperator(
        model, nn.CrossEntropyLoss(), list(model.parameters()), [(inputs, labels)], check_deterministic=False
    ).to_scipy()
    start = np.random.default_rng(2).standard_normal(theirs.shape[0])
    largest = np.sort(eigsh(theirs, k=3, which="LA", v0=start, tol=1e-10, return_eigenvectors=False))[::-1]
    smallest = eigsh(theirs, k=1, which="SA", v0=start, tol=1e-10, return_eigenvectors=False)

    model.train()
    with measured_model(model, "eval", CPU) as measured:
        loss = MeasuredLoss(workload, MeasuredExamples(workload.data["train"], EXAMPLES, CPU), measured)
        products = HessianProducts(loss, trainable_parameters(model))
        options: dict[str, Any] = {"start": None, "tolerance": 1e-10, "max_products": 600}
        ours = largest_eigenvalues(
            products.product, products.size, count=3, generator=torch.Generator().manual_seed(3), **options
        )
        negative = largest_eigenvalues(
            lambda vector: -products.product(vector),
            products.size,
            generator=torch.Generator().manual_seed(4),
            **options,
        )
    assert ours.converged
    assert negative.converged
    assert ours.values == pytest.approx(largest.tolist(), rel=1e-8)
    assert -negative.values[0] == pytest.approx(float(smallest[0]), rel=1e-8)
