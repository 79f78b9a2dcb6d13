from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tunectl.core.errors import WorkloadError
from tunectl.spec.configuration import TrainingConfiguration
from tunectl.training.optimizers import can_fuse, make_optimizer, parameter_groups, trainable_parameters


def path(updates: int = 20, **fields: Any) -> np.ndarray:
    """The weights after `updates` updates on the quadratic 0.5 * sum(c w^2), by the optimizer."""
    model = nn.Linear(3, 2, bias=True).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2.0, 0.5], [0.3, 1.5, -1.0]], dtype=torch.float64))
        model.bias.copy_(torch.tensor([0.7, -0.4], dtype=torch.float64))
    curvature = torch.tensor([[1.0, 0.2, 3.0], [0.5, 2.0, 1.0]], dtype=torch.float64)
    optimizer = make_optimizer(model, TrainingConfiguration(learning_rate=0.05, **fields))
    for _ in range(updates):
        optimizer.zero_grad()
        (0.5 * (curvature * model.weight**2).sum() + 0.5 * (model.bias**2).sum()).backward()
        optimizer.step()
    return np.concatenate([model.weight.detach().numpy().ravel(), model.bias.detach().numpy()])


START = np.array([1.0, -2.0, 0.5, 0.3, 1.5, -1.0, 0.7, -0.4])
CURVATURE = np.array([1.0, 0.2, 3.0, 0.5, 2.0, 1.0, 1.0, 1.0])
IS_MATRIX = np.array([1.0] * 6 + [0.0] * 2)


def sgd_oracle(momentum: float = 0.0, nesterov: bool = False, decay: Any = 0.0, updates: int = 20) -> np.ndarray:
    """The playbook's rules: v <- momentum v + g, then w <- w - rate v, or w - rate (g + momentum v)."""
    weights, velocity = START.copy(), np.zeros(8)
    for _ in range(updates):
        gradient = CURVATURE * weights + decay * weights
        velocity = momentum * velocity + gradient
        weights = weights - 0.05 * (gradient + momentum * velocity if nesterov else velocity)
    return weights


def adam_oracle(beta1: float, beta2: float, epsilon: float, l2: float = 0.0, decoupled: Any = 0.0) -> np.ndarray:
    """Kingma and Ba's Adam with epsilon after the bias correction; Loshchilov and Hutter's decoupled decay."""
    weights, first, second = START.copy(), np.zeros(8), np.zeros(8)
    for t in range(1, 21):
        gradient = CURVATURE * weights + l2 * weights
        weights = weights * (1 - 0.05 * decoupled)
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
        weights = weights - 0.05 * (first / (1 - beta1**t)) / (np.sqrt(second / (1 - beta2**t)) + epsilon)
    return weights


def test_sgd_momentum_and_nesterov_follow_their_rules():
    assert path(optimizer="sgd", momentum=0.9) == pytest.approx(sgd_oracle(), abs=1e-12)
    assert path(optimizer="momentum", momentum=0.9) == pytest.approx(sgd_oracle(0.9), abs=1e-12)
    assert path(optimizer="nesterov", momentum=0.8) == pytest.approx(sgd_oracle(0.8, nesterov=True), abs=1e-12)


def test_nesterov_with_momentum_zero_is_plain_sgd_where_torch_raises():
    assert path(optimizer="nesterov", momentum=0.0) == pytest.approx(sgd_oracle(), abs=1e-12)


def test_adam_and_adamw_follow_their_rules_and_decay_weights_in_their_own_ways():
    fields = {"beta1": 0.85, "beta2": 0.98, "epsilon": 1e-3}
    oracle = adam_oracle(0.85, 0.98, 1e-3, l2=0.1)
    assert path(optimizer="adam", weight_decay=0.1, **fields) == pytest.approx(oracle, abs=1e-12)
    oracle = adam_oracle(0.85, 0.98, 1e-3, decoupled=0.1)
    assert path(optimizer="adamw", weight_decay=0.1, **fields) == pytest.approx(oracle, abs=1e-12)


def test_weight_decay_of_scope_matrices_spares_the_bias():
    assert path(optimizer="sgd", weight_decay=0.3) == pytest.approx(sgd_oracle(decay=0.3), abs=1e-12)
    spared = path(optimizer="sgd", weight_decay=0.3, weight_decay_scope="matrices")
    assert spared == pytest.approx(sgd_oracle(decay=0.3 * IS_MATRIX), abs=1e-12)
    assert spared != pytest.approx(sgd_oracle(decay=0.3), abs=1e-6)


def test_a_model_of_vectors_alone_has_one_group():
    configuration = TrainingConfiguration("sgd", 0.1, weight_decay=0.3, weight_decay_scope="matrices")
    groups = parameter_groups(list(nn.LayerNorm(3).parameters()), configuration)
    assert [group["weight_decay"] for group in groups] == [0.0]


def test_frozen_parameters_are_left_out_and_a_shared_one_counts_once():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    model[0].bias.requires_grad_(False)
    assert len(trainable_parameters(model)) == 2


@pytest.mark.parametrize("model", [nn.ReLU(), nn.Linear(2, 2).requires_grad_(False)])
def test_a_model_without_trainable_parameters_is_refused_with_a_message(model: nn.Module):
    with pytest.raises(WorkloadError, match="no trainable parameter"):
        make_optimizer(model, TrainingConfiguration("sgd", 0.1))


def test_an_embedding_with_sparse_gradients_trains_with_sgd():
    model = nn.Embedding(5, 2, sparse=True)
    before = model.weight.detach().clone()
    optimizer = make_optimizer(model, TrainingConfiguration("sgd", 0.1))
    model(torch.tensor([1, 1])).sum().backward()
    optimizer.step()
    assert torch.equal((before - model.weight).nonzero()[:, 0].unique(), torch.tensor([1]))


class Single(nn.Module):
    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)


@pytest.mark.parametrize(
    ("weight", "fused"),
    [
        (torch.randn(8, 4), True),
        (torch.randn(4, 8).t(), True),
        (torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last), True),
        (torch.tensor(1.0), True),
        (torch.empty(0, 3), True),
        (torch.randn(1, 8)[:, :1], True),
        (torch.randn(8, 4)[:, :2], False),
        (torch.randn(16)[::8], False),
        (torch.randn(4, 1).expand(4, 3), False),
        (torch.randn(3, dtype=torch.complex64), False),
    ],
)
def test_only_parameters_that_fill_one_block_of_memory_are_fused(weight: torch.Tensor, fused: bool):
    assert can_fuse(Single(weight)) is fused


def unfused(optimizer: torch.optim.Optimizer, model: nn.Module) -> torch.optim.Optimizer:
    """The same rule for another model, by torch's loops over parameters."""
    names = ("lr", "momentum", "nesterov", "betas", "eps")
    fields = {name: optimizer.param_groups[0][name] for name in (*names, "weight_decay") if name in optimizer.defaults}
    return type(optimizer)(model.parameters(), **fields, fused=False)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adam", "adamw"])
@pytest.mark.parametrize("with_gaps", [True, False])
def test_a_view_trains_as_torch_trains_it_without_fused_kernels(optimizer: Any, with_gaps: bool):
    values = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    found, expected = [Single(values.clone()[:, :2] if with_gaps else values.clone().t()) for _ in range(2)]
    curvature = torch.linspace(0.1, 1.0, found.weight.numel())
    ours = make_optimizer(found, TrainingConfiguration(optimizer, 0.1, momentum=0.9, weight_decay=0.01))
    for model, rule in ((found, ours), (expected, unfused(ours, expected))):
        for _ in range(5):
            rule.zero_grad()
            (curvature.view(model.weight.shape) * (model.weight - 1) ** 2).sum().backward()
            rule.step()
    assert torch.allclose(found.weight, expected.weight, rtol=1e-4)


@pytest.mark.parametrize("scope", ["all", "matrices"])
def test_a_sparse_gradient_that_no_module_announces_trains_as_a_dense_one(scope: Any):
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.scale = nn.Parameter(torch.ones(5, 2)), nn.Parameter(torch.ones(4))

        def forward(self, index: torch.Tensor, sparse: bool) -> torch.Tensor:
            rows = nn.functional.embedding(index, self.table, sparse=sparse)
            return rows.sum() ** 2 * torch.gather(self.scale, 0, index, sparse_grad=sparse).sum()

    models = [Functional(), Functional()]
    for model, sparse in zip(models, (True, False), strict=True):
        optimizer = make_optimizer(model, TrainingConfiguration("sgd", 1e-3, weight_decay_scope=scope))
        # The first update is dense: the sparse ones may begin later.
        for step in range(3):
            optimizer.zero_grad()
            model(torch.tensor([1, 1, 3]), sparse and step > 0).backward()
            optimizer.step()
    assert torch.allclose(models[0].table, models[1].table, atol=1e-6)
    assert torch.allclose(models[0].scale, models[1].scale, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["momentum", "nesterov", "adam"])
def test_a_parameter_that_takes_part_only_later_trains(optimizer: Any):
    models = [nn.ModuleList([nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)])]
    models.append(copy.deepcopy(models[0]))
    ours = make_optimizer(models[0], TrainingConfiguration(optimizer, 0.1, momentum=0.9))
    theirs = unfused(ours, models[1])
    for step in range(4):
        for model, rule in zip(models, (ours, theirs), strict=True):
            rule.zero_grad()
            sum((layer.weight**2).sum() for layer in model[: 1 + step // 2]).backward()
            rule.step()
    for found, expected in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.allclose(found, expected, atol=1e-6)
