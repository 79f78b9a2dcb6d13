from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tunectl.core.errors import WorkloadError
from tunectl.spec.configuration import TrainingConfiguration
from tunectl.training.optimizers import make_optimizer, parameter_groups, trainable_parameters


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
