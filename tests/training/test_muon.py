"""Muon against torch.optim.Muon and against its definition by singular values. Tests muon.py, optimizers.py."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.muon import as_matrix, orthogonalised, scale_of
from tunectl.training.optimizers import make_optimizer

RATE, DECAY = 0.02, 0.1


def network() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 10), nn.ReLU(), nn.Linear(10, 3))


def configuration(**fields: Any) -> TrainingConfiguration:
    values = {"optimizer": "muon", "learning_rate": RATE, "weight_decay": DECAY, **fields}
    return TrainingConfiguration.from_hyperparameters(values)


def train(models: Sequence[nn.Module], optimizers: Sequence[Sequence[torch.optim.Optimizer]], updates: int) -> None:
    """The same random gradients for each model, and a rate that changes."""
    generator = torch.Generator().manual_seed(1)
    for update in range(updates):
        for parameters in zip(*(model.parameters() for model in models), strict=True):
            gradient = torch.randn(parameters[0].shape, generator=generator)
            for parameter in parameters:
                parameter.grad = gradient.to(parameter.dtype).clone()
        for own in optimizers:
            for optimizer in own:
                for group in optimizer.param_groups:
                    base = group.setdefault("base", group["lr"])
                    group["lr"] = base * (1 - update / 20)
                optimizer.step()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon exists since torch 2.9")
@pytest.mark.parametrize(("scale", "theirs"), [("match_adamw", "match_rms_adamw"), ("original", "original")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_muon_is_torch_s_for_hidden_matrices_and_adamw_for_the_rest(scale: str, theirs: str, dtype: torch.dtype):
    ours = network().to(dtype)
    other = copy.deepcopy(ours)
    first, bias, second, bias2, *output = other.parameters()
    muon: Any = torch.optim.Muon  # mypy: skipped where it is missing
    oracles = [
        muon([first, second], lr=RATE, weight_decay=DECAY, momentum=0.9, adjust_lr_fn=theirs),
        torch.optim.AdamW([bias, bias2, *output], lr=3e-3, betas=(0.8, 0.95), eps=1e-6, weight_decay=DECAY),
    ]
    own = {"momentum": 0.9, "adamw_learning_rate": 3e-3, "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-6}
    train([ours, other], [[make_optimizer(ours, configuration(muon_scale=scale, **own))], oracles], 12)
    for found, expected in zip(ours.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-7 if dtype == torch.float32 else 1e-15)


@pytest.mark.parametrize("shape", [(12, 12), (5, 30), (30, 5)])
def test_the_singular_values_of_a_step_are_those_of_the_polynomial(shape: tuple[int, int]):
    """The oracle: a x + b x^3 + c x^5, five times, of the singular values by SVD in float64."""
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    u, values, v = torch.linalg.svd(matrix, full_matrices=False)
    x = values / values.norm()
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5
    found = orthogonalised(matrix)
    assert found.dtype == torch.bfloat16
    assert found.shape == shape
    assert (found.double() - u @ x.diag() @ v).abs().max() < 0.02, "bfloat16 has 8 bits"
    assert 0.6 < float(x.min()) <= float(x.max()) < 1.3


def test_a_gradient_of_zeros_is_no_step():
    assert torch.equal(orthogonalised(torch.zeros(3, 4)), torch.zeros(3, 4, dtype=torch.bfloat16))


def test_a_convolution_moves_as_the_matrix_of_its_outputs():
    torch.manual_seed(0)
    conv: Any = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.Flatten(), nn.Linear(8, 2))
    flat: Any = nn.Sequential(nn.Linear(27, 8, bias=False), nn.Linear(8, 2))
    flat[0].weight.data = conv[0].weight.data.reshape(8, 27).clone()
    flat[1].load_state_dict(conv[2].state_dict())
    rules = [make_optimizer(model, configuration()) for model in (conv, flat)]
    for seed in range(3):
        gradient = torch.randn(8, 27, generator=torch.Generator().manual_seed(seed))
        conv[0].weight.grad, flat[0].weight.grad = gradient.view(8, 3, 3, 3).clone(), gradient.clone()
        for rule in rules:
            rule.step()
    assert torch.equal(as_matrix(conv[0].weight), flat[0].weight)


def test_the_scale_makes_entries_as_large_as_adamw_s_or_is_the_authors():
    """AdamW's entries have a root mean square of some 0.2 to 0.4 (Liu et al.)."""
    for shape in ((20, 20), (100, 10), (10, 100)):
        step = orthogonalised(torch.randn(shape, generator=torch.Generator().manual_seed(3))).float()
        assert 0.15 < float((step * scale_of(shape, "match_adamw")).square().mean().sqrt()) < 0.25
    assert scale_of((100, 25), "original") == 2.0
    assert scale_of((25, 100), "original") == 1.0


@pytest.mark.parametrize("own", [None, RATE / 5])
def test_without_a_rate_of_its_own_adamw_has_that_of_the_matrices_and_both_follow_the_schedule(own: float | None):
    model = network()
    before = model[0].bias.detach().clone()
    optimizer = make_optimizer(model, configuration(weight_decay=0.0, adamw_learning_rate=own))
    for group in optimizer.param_groups:
        group["lr"] = RATE / 2  # as the loop does at half of the base rate
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    # The first step of Adam is its rate.
    torch.testing.assert_close(before - model[0].bias, torch.full_like(before, (own or RATE) / 2))


def test_weight_decay_of_scope_matrices_spares_vectors_in_both_parts():
    model = network()
    optimizer = make_optimizer(model, configuration(weight_decay_scope="matrices"))
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert [decays[id(parameter)] for parameter in model.parameters()] == [DECAY, 0.0] * 3


def test_lion_s_second_decay_is_its_authors_unless_the_study_says_otherwise():
    fields = {"optimizer": "lion", "learning_rate": 0.1}
    assert TrainingConfiguration.from_hyperparameters(fields).beta2 == 0.99
    assert TrainingConfiguration.from_hyperparameters({**fields, "beta2": 0.9}).beta2 == 0.9
    assert TrainingConfiguration.from_hyperparameters({"optimizer": "adam", "learning_rate": 0.1}).beta2 == 0.999


def test_every_entry_of_a_lion_step_has_the_size_of_the_rate():
    model = network()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = make_optimizer(model, TrainingConfiguration("lion", 0.25))
    for number, parameter in enumerate(model.parameters()):
        parameter.grad = torch.full_like(parameter, 10.0 ** (number - 3))
    optimizer.step()
    for old, new in zip(before, model.parameters(), strict=True):
        assert np.allclose((old - new).detach().numpy(), 0.25, atol=1e-6)


def test_muon_and_lion_have_a_state_of_one_tensor_for_each_matrix():
    def tensors(name: Any) -> set[str]:
        model = network()
        optimizer = make_optimizer(model, TrainingConfiguration(name, 0.01))
        model(torch.ones(2, 6)).sum().backward()
        optimizer.step()
        state = optimizer.state[model[0].weight]
        return {key for key, value in state.items() if isinstance(value, Tensor)}

    assert tensors("muon") == {"momentum_buffer"}
    assert tensors("lion") == {"exp_avg"}
    assert math.isclose(configuration().momentum, 0.95)


@pytest.mark.parametrize("shape", [(12, 30), (30, 12)])
def test_matrices_of_one_shape_are_orthogonalised_at_once_as_each_by_itself(shape: tuple[int, int]):
    matrices = torch.randn(4, *shape, generator=torch.Generator().manual_seed(4)) * torch.tensor(
        [1, 1e-3, 9, 0.0]
    ).view(4, 1, 1)
    together = orthogonalised(matrices)
    assert together.shape == matrices.shape
    for found, matrix in zip(together, matrices, strict=True):
        torch.testing.assert_close(found, orthogonalised(matrix), rtol=0, atol=0.02)


def test_layers_of_one_shape_train_as_torch_trains_them_up_to_bfloat16():
    torch.manual_seed(0)
    ours: Any = nn.Sequential(*[nn.Linear(8, 8, bias=False) for _ in range(4)])
    before = [layer.weight.detach().clone() for layer in ours]
    optimizer = make_optimizer(ours, configuration(weight_decay=0.0))
    for number, parameter in enumerate(ours.parameters()):
        parameter.grad = torch.randn(8, 8, generator=torch.Generator().manual_seed(number))
    optimizer.step()
    for start, parameter in list(zip(before, ours.parameters(), strict=True))[:3]:
        assert parameter.grad is not None
        u, _, v = torch.linalg.svd(start - parameter.detach())
        wanted, _, other = torch.linalg.svd(parameter.grad)
        # The step has the singular vectors of its own gradient: none was mixed up with another.
        aligned = (wanted @ other * (u @ v)).sum() / 8
        assert float(aligned) > 0.99
