"""The next update, made on the weights and taken back, by the critical learning rate along it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from quadratics import RATE, Parts, Quadratic, critical, flat, is_just_above, make_update, trained
from torch import Tensor, nn
from training_builders import frozen

from tunectl.language.configuration import TrainingConfiguration
from tunectl.language.optimizer_traits import OPTIMIZERS, OptimizerName
from tunectl.training.optimizers import make_optimizer

PLAIN: dict[str, Any] = {}
FULL: dict[str, Any] = {"weight_decay": 0.05, "weight_decay_scope": "matrices", "grad_clip_norm": 0.5}
ADAPTIVE: dict[str, Any] = {"grad_clip": "adaptive", "adaptive_clip_factor": 0.01}
UPDATE: dict[str, Any] = {"weight_decay": 0.05, "grad_clip": "update", "update_clip_rms": 0.1}


@pytest.mark.parametrize(
    "changes",
    [PLAIN, FULL, ADAPTIVE, UPDATE],
    ids=["plain", "decay and clipping", "adaptive clipping", "clipped update"],
)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_is_where_the_loss_rises_along_the_update_that_the_optimizer_makes_next(
    name: OptimizerName, changes: dict[str, Any]
) -> None:
    """The oracle lets the optimizer itself make the update, in a second training of the same history."""
    fields = TrainingConfiguration(name, RATE, momentum=0.5, **changes)
    model, optimizer, loss = trained(fields)
    twin, its_optimizer, its_loss = trained(fields)
    before = flat(twin.parameters())
    for group in its_optimizer.param_groups:
        group["lr"] = 0.013
    make_update(twin, its_optimizer, its_loss, fields)
    change = flat(twin.parameters()) - before
    found = critical(model, optimizer, loss, fields, learning_rate=0.013)
    crossing = loss.crossing(change)
    assert found.multiple is not None
    assert is_just_above(found.multiple, crossing)
    assert found.learning_rate == pytest.approx(found.multiple * 0.013)
    assert (found.lambda_c is None) == (name != "sgd" or changes != PLAIN)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_nothing_else_changes_by_one_bit(name: OptimizerName) -> None:
    fields = TrainingConfiguration(name, RATE, **FULL)
    model, optimizer, loss = trained(fields)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.25)
    model.matrix.data[0, 0] = -0.0

    def everything() -> Any:
        grads = [parameter.grad for parameter in model.parameters()]
        state = copy.deepcopy(optimizer.state_dict())
        return frozen([[parameter.detach() for parameter in model.parameters()], state, grads, torch.get_rng_state()])

    gradients = loss.gradients()
    kept = frozen(gradients)
    before, hooks = everything(), len(optimizer._optimizer_step_pre_hooks)
    critical(model, optimizer, loss, fields, gradients, learning_rate=0.5, start=3.0)
    assert everything() == before
    assert frozen(gradients) == kept
    assert len(optimizer._optimizer_step_pre_hooks) == hooks


@pytest.mark.parametrize("call", [1, 2, 5])
def test_the_weights_are_put_back_where_the_loss_raises_an_exception(call: int) -> None:
    fields = TrainingConfiguration("momentum", RATE)
    model, optimizer, loss = trained(fields)
    gradients, before, calls = loss.gradients(), frozen(list(model.parameters())), 0

    def failing() -> Tensor:
        nonlocal calls
        calls += 1
        if calls == call:
            raise RuntimeError("out of memory")
        return loss()

    with pytest.raises(RuntimeError, match="out of memory"):
        critical(model, optimizer, failing, fields, gradients)
    assert frozen(list(model.parameters())) == before


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_gradient_in_another_order_of_memory_is_the_same_gradient(name: OptimizerName) -> None:
    """torch's fused kernels would read it as one block in the parameter's order."""
    fields = TrainingConfiguration(name, RATE)
    model, optimizer, loss = trained(fields)
    assert not model.turned.is_contiguous()
    contiguous = [gradient.contiguous() for gradient in loss.gradients()]
    other = [gradient.t().contiguous().t() if gradient.ndim == 2 else gradient for gradient in contiguous]
    assert critical(model, optimizer, loss, fields, contiguous) == critical(model, optimizer, loss, fields, other)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_parameter_without_a_gradient_does_not_move(name: OptimizerName) -> None:
    fields = TrainingConfiguration(name, RATE, weight_decay=0.1)
    model, optimizer, loss = trained(fields)
    seen: list[Tensor] = []

    def watched() -> Tensor:
        seen.append(model.matrix.detach().clone())
        return loss()

    critical(model, optimizer, watched, fields, [None, *loss.gradients()[1:]])
    assert len(seen) > 4
    assert all(torch.equal(matrix, model.matrix) for matrix in seen)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_at_rate_zero_it_is_along_the_update_with_the_base_rate(name: OptimizerName) -> None:
    fields = TrainingConfiguration(name, 0.5, momentum=0.5)
    model, optimizer, loss = trained(fields, updates=0)
    at_zero = critical(model, optimizer, loss, fields, learning_rate=0.0)
    at_base = critical(model, optimizer, loss, fields)
    assert at_zero.multiple is None
    assert at_zero.limit == 0
    assert at_zero.learning_rate == at_base.learning_rate


def test_a_weight_that_is_used_twice_is_moved_once_and_put_back() -> None:
    fields = TrainingConfiguration("sgd", RATE)
    values = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    first, second = nn.Linear(3, 3, bias=False).double(), nn.Linear(3, 3, bias=False).double()
    single = nn.Linear(3, 3, bias=False).double()
    second.weight = first.weight
    tied = nn.Sequential(first, nn.Tanh(), second)
    for weight in (first.weight, single.weight):
        weight.data.copy_(values)
    data = torch.randn(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def loss_of(model: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
        return lambda: (model(data) - 1).square().mean()

    found = critical(tied, make_optimizer(tied, fields), loss_of(tied), fields)
    expected = critical(single, make_optimizer(single, fields), loss_of(lambda x: single(single(x).tanh())), fields)
    assert found == expected
    assert torch.equal(first.weight, values)
    assert second.weight is first.weight


def test_a_view_of_a_weight_sees_it_move() -> None:
    """What a module keeps of its weights besides the parameters moves with them, as in training."""
    fields = TrainingConfiguration("sgd", RATE)
    model = Parts()
    view, loss = model.matrix.detach().view(-1), Quadratic(model)
    seen: list[float] = []

    def watched() -> Tensor:
        seen.append(float(view[0]))
        return loss()

    critical(model, make_optimizer(model, fields), watched, fields, loss.gradients())
    assert len(set(seen)) == len(seen)
    assert seen[0] == float(view[0])


def test_clipping_is_that_of_training() -> None:
    model = Parts()
    loss = Quadratic(model)
    norm = float(flat(loss.gradients()).norm())
    rates = []
    for limit in (None, 2 * norm, norm / 4):
        fields = TrainingConfiguration("sgd", RATE, grad_clip_norm=limit)
        found = critical(model, make_optimizer(model, fields), loss, fields)
        assert (found.lambda_c is None) == (limit == norm / 4)
        rates.append(found.learning_rate)
    assert rates[1] == rates[0]
    assert rates[2] == pytest.approx(4 * rates[0], rel=1e-4)
