"""D against the paper's form worked out from a history of gradients, and against the steps of the optimizers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tunectl.language.configuration import TrainingConfiguration
from tunectl.language.optimizer_traits import OPTIMIZERS, OptimizerName
from tunectl.training.curvature.preconditioners import l2_terms, preconditioner
from tunectl.training.optimizers import make_optimizer
from tunectl.training.precision import LossScaler

ADAPTIVE: tuple[OptimizerName, ...] = tuple(
    name for name in OPTIMIZERS if name not in ("sgd", "momentum", "nesterov", "lion", "muon")
)
L2: tuple[OptimizerName, ...] = tuple(name for name in OPTIMIZERS if name not in ("adamw", "lamb", "lion", "muon"))


class Parts(nn.Module):
    """A matrix, a vector, a matrix whose memory is in another order, a scalar, and a vector that has no gradient."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)

        def drawn(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        self.matrix = nn.Parameter(drawn(2, 3))
        self.vector = nn.Parameter(drawn(3))
        self.turned = nn.Parameter(drawn(4, 2).t())
        self.scalar = nn.Parameter(drawn(1)[0].clone())
        self.unused = nn.Parameter(drawn(2))


def configuration(name: OptimizerName, **fields: Any) -> TrainingConfiguration:
    """With an epsilon that matters, so that its place in the rule does, too."""
    values = {"epsilon": 0.05, "beta1": 0.8, "beta2": 0.9, "rho": 0.85, "momentum": 0.6, **fields}
    return TrainingConfiguration(name, 0.01, **values)


def trained(
    fields: TrainingConfiguration, updates: int = 6, dtype: torch.dtype = torch.float64, late: int = 0
) -> tuple[Parts, torch.optim.Optimizer, list[list[np.ndarray | None]]]:
    """The model after some updates with random gradients, its optimizer, and the gradients that were added to the
    mean squares (with the L2 term), in float64. `turned` has no gradient in the first `late` updates.
    """
    model, generator = Parts(dtype), torch.Generator().manual_seed(1)
    optimizer = make_optimizer(model, fields)
    history = []
    for update in range(updates):
        squared: list[np.ndarray | None] = []
        for name, parameter in model.named_parameters():
            parameter.grad = None
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(dtype)
            if name == "unused" or (name == "turned" and update < late):
                squared.append(None)
                continue
            parameter.grad = torch.empty_like(parameter).copy_(drawn)
            is_decayed = fields.weight_decay_scope == "all" or parameter.ndim >= 2
            decay = fields.weight_decay if is_decayed and fields.optimizer in L2 else 0.0
            squared.append((drawn.double() + decay * parameter.detach().double()).numpy())
        history.append(squared)
        optimizer.step()
    return model, optimizer, history


def divisor(fields: TrainingConfiguration, gradients: list[np.ndarray]) -> Any:
    """D of one parameter, from the gradients of its updates: each rule's definition as a sum over the history."""
    t, epsilon = len(gradients), fields.epsilon
    decay = fields.rho if fields.optimizer in ("rmsprop", "rmsprop_playbook") else fields.beta2
    mean: Any = sum((1 - decay) * decay ** (t - 1 - i) * gradient**2 for i, gradient in enumerate(gradients))
    match fields.optimizer:
        case "rmsprop":
            return np.sqrt(mean) + epsilon
        case "rmsprop_playbook":
            return np.sqrt(mean + decay**t + epsilon)
        case "adam_playbook" | "nadam_playbook":
            return (np.sqrt(mean) + epsilon) / np.sqrt(1 - decay**t)
        case _:
            return np.sqrt(mean / (1 - decay**t)) + epsilon


def inverse_root(fields: TrainingConfiguration, history: list[list[np.ndarray | None]], model: Parts) -> np.ndarray:
    """D^-1/2 of all parameters in their order; 0 without a gradient, except where the mean square starts at 1."""
    parts = []
    for index, parameter in enumerate(model.parameters()):
        gradients = [found for squared in history if (found := squared[index]) is not None]
        if gradients:
            parts.append(1 / np.sqrt(divisor(fields, gradients)).ravel())
        else:
            at_start = (1 + fields.epsilon) ** -0.25 if fields.optimizer == "rmsprop_playbook" else 0.0
            parts.append(np.full(parameter.numel(), at_start))
    return np.concatenate(parts)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("changes", [{}, {"weight_decay": 0.3, "weight_decay_scope": "matrices"}], ids=["", "decay"])
@pytest.mark.parametrize("name", ADAPTIVE)
def test_d_is_the_paper_s_form_of_the_gradients_so_far(
    name: OptimizerName, changes: dict[str, Any], dtype: torch.dtype
) -> None:
    fields = configuration(name, **changes)
    model, optimizer, history = trained(fields, dtype=dtype, late=2)
    found = preconditioner(optimizer, list(model.parameters()), fields)
    assert found is not None
    assert found.inverse_root.dtype is torch.float64
    expected = inverse_root(fields, history, model)
    assert found.inverse_root.numpy() == pytest.approx(expected, rel=1e-12 if dtype is torch.float64 else 1e-5)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_without_a_first_moment_a_step_is_the_rate_times_the_gradient_over_d(name: OptimizerName) -> None:
    """The optimizer's own step, so that D has the meaning that the rule gives it."""
    fields = configuration(name, beta1=0.0, momentum=0.0)
    model, optimizer, _ = trained(fields, updates=5)
    used = list(model.parameters())[:4]
    before = torch.cat([parameter.detach().flatten() for parameter in used])
    gradients = [torch.randn(parameter.shape, dtype=torch.float64) for parameter in used]
    for parameter, gradient in zip(used, gradients, strict=True):
        parameter.grad = torch.empty_like(parameter).copy_(gradient)
    optimizer.step()
    step = before - torch.cat([parameter.detach().flatten() for parameter in used])
    found = preconditioner(optimizer, used, fields)
    assert found is not None
    of_adam = torch.cat([gradient.flatten() for gradient in gradients]) * found.inverse_root**2
    if name == "lamb":
        # The step of each parameter is scaled to the norm of its weights.
        sizes = [parameter.numel() for parameter in used]
        parts = zip(torch.split(before, sizes), torch.split(of_adam, sizes), strict=True)
        of_adam = torch.cat([part * weights.norm() / part.norm() for weights, part in parts])
    torch.testing.assert_close(step, fields.learning_rate * of_adam, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("name", ["adam", "adam_playbook", "adamw", "nadam", "nadam_playbook"])
def test_the_first_step_is_the_first_moment_over_d_and_its_correction(name: OptimizerName) -> None:
    """At the first update the corrected first moment is the gradient itself; for nadam, nearly so."""
    fields = configuration(name, beta1=0.9)
    model, optimizer, _ = trained(fields, updates=0)
    before, gradient = model.matrix.detach().clone(), torch.full((2, 3), 0.7, dtype=torch.float64)
    model.matrix.grad = gradient.clone()
    optimizer.step()
    found = preconditioner(optimizer, [model.matrix], fields)
    assert found is not None
    assert found.first_moment_correction == pytest.approx(0.5499265 if name == "nadam" else 0.1, rel=1e-4)
    step = (before - model.matrix.detach()).flatten()
    look_ahead = {"nadam_playbook": 1.9, "nadam": 1.0564525}.get(name, 1.0)
    torch.testing.assert_close(
        step, look_ahead * fields.learning_rate * gradient.flatten() * found.inverse_root**2, rtol=1e-4, atol=0
    )


@pytest.mark.parametrize("name", ADAPTIVE)
def test_the_correction_counts_the_updates_and_is_absent_where_the_parameters_differ(name: OptimizerName) -> None:
    fields = configuration(name)
    momenta = [0.8 * (1 - 0.5 * 0.96 ** (0.004 * t)) for t in range(1, 7)]
    expected = {"rmsprop": 1.0, "rmsprop_playbook": 1.0, "nadam": 1 - math.prod(momenta)}.get(name, 1 - 0.8**6)
    for late in (0, 2):
        model, optimizer, _ = trained(fields, late=late)
        found = preconditioner(optimizer, list(model.parameters()), fields)
        assert found is not None
        if late and name not in ("rmsprop", "rmsprop_playbook"):
            assert found.first_moment_correction is None
        else:
            assert found.first_moment_correction == pytest.approx(expected, rel=1e-12)


def test_counts_that_make_no_difference_any_more_have_one_correction() -> None:
    fields = configuration("adam", beta1=0.5)
    model, optimizer, _ = trained(fields, updates=40, late=2)
    found = preconditioner(optimizer, list(model.parameters()), fields)
    assert found is not None
    assert found.first_moment_correction == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_before_the_first_update_there_is_none_except_where_the_mean_square_starts_at_one(name: OptimizerName) -> None:
    model, optimizer, _ = trained(configuration(name), updates=0)
    found = preconditioner(optimizer, list(model.parameters()), configuration(name))
    if name == "rmsprop_playbook":
        assert found is not None
        assert found.inverse_root.tolist() == pytest.approx([1.05**-0.25] * 20)
        assert found.first_moment_correction == 1.0
    else:
        assert found is None


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "lion", "muon"])
def test_optimizers_without_a_mean_square_have_none(name: OptimizerName) -> None:
    model, optimizer, _ = trained(configuration(name))
    assert preconditioner(optimizer, list(model.parameters()), configuration(name)) is None


@pytest.mark.parametrize("options", [{"foreach": True}, {"foreach": False}, {"fused": True}], ids=str)
def test_torch_s_ways_to_update_give_the_same(options: dict[str, bool]) -> None:
    fields = configuration("adam")
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = torch.optim.Adam([weight], betas=(0.8, 0.9), eps=0.05, **options)
    for gradient in ([1.0, 0.5], [-0.3, 2.0]):
        weight.grad = torch.tensor(gradient)
        optimizer.step()
    found = preconditioner(optimizer, [weight], fields)
    assert found is not None
    v = 0.1 * (0.9 * np.array([1, 0.25]) + np.array([0.09, 4])) / (1 - 0.9**2)
    assert found.inverse_root.tolist() == pytest.approx((np.sqrt(v) + 0.05) ** -0.5, rel=1e-6)


def test_an_update_that_loss_scaling_skipped_leaves_no_preconditioner() -> None:
    fields = configuration("adam")
    weight = nn.Linear(2, 1)
    optimizer = make_optimizer(weight, fields)
    scaler = LossScaler(torch.device("cpu"))
    for parameter in weight.parameters():
        parameter.grad = torch.full_like(parameter, math.inf)
    gradients = [parameter.grad for parameter in weight.parameters() if parameter.grad is not None]
    scaler.unscale(gradients)
    scaler.step(optimizer, gradients)
    assert optimizer.state
    assert preconditioner(optimizer, list(weight.parameters()), fields) is None


@pytest.mark.parametrize("name", ADAPTIVE)
def test_an_entry_that_d_would_divide_by_zero_is_zero(name: OptimizerName) -> None:
    fields = configuration(name, epsilon=0.0, rho=0.0)
    weight = nn.Linear(2, 1, bias=False).double()
    optimizer = make_optimizer(weight, fields)
    weight.weight.grad = torch.tensor([[0.0, 3.0]], dtype=torch.float64)
    optimizer.step()
    found = preconditioner(optimizer, [weight.weight], fields)
    assert found is not None
    assert found.inverse_root.tolist() == pytest.approx([0.0, 3**-0.5])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_l2_terms_are_the_decay_of_the_parameters_in_its_scope(name: OptimizerName) -> None:
    fields = configuration(name, weight_decay=0.3, weight_decay_scope="matrices")
    model, optimizer, _ = trained(fields, updates=0)
    terms = l2_terms(optimizer, list(model.parameters()), fields)
    if name not in L2:
        assert terms is None
        return
    assert terms is not None
    assert terms.tolist() == [0.3] * 6 + [0.0] * 3 + [0.3] * 8 + [0.0] * 3
    assert l2_terms(optimizer, list(model.parameters()), configuration(name)) is None
