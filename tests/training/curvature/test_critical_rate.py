"""The critical learning rate and the next update, against quadratics on which both have a closed form.

Tests critical_rate.py and next_update.py.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training_builders import frozen

from tunectl.language.configuration import TrainingConfiguration
from tunectl.language.optimizer_traits import OPTIMIZERS, OptimizerName
from tunectl.training.curvature.critical_rate import (
    LARGEST_MULTIPLE,
    SMALLEST_MULTIPLE,
    CriticalRate,
    critical_learning_rate,
)
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


@pytest.mark.parametrize("rate", [1e-6, 1e-3, 0.02, 3.0, 200.0])
def test_for_plain_sgd_it_is_two_over_the_curvature_along_the_gradient(rate: float) -> None:
    fields = TrainingConfiguration("sgd", rate)
    model = Parts()
    loss = Quadratic(model)
    gradient = flat(loss.gradients())
    curvature = float(gradient @ loss.hessian @ gradient / (gradient @ gradient))
    found = critical(model, make_optimizer(model, fields), loss, fields)
    assert is_just_above(found.learning_rate, 2 / curvature)
    assert found.multiple is not None
    assert found.learning_rate == pytest.approx(found.multiple * rate)
    assert found.lambda_c == pytest.approx(2 / found.learning_rate)
    assert found.limit == 0


PLAIN: dict[str, Any] = {}
FULL: dict[str, Any] = {"weight_decay": 0.05, "weight_decay_scope": "matrices", "grad_clip_norm": 0.5}


@pytest.mark.parametrize("changes", [PLAIN, FULL], ids=["plain", "decay and clipping"])
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


def test_the_graph_of_the_gradient_can_still_be_used() -> None:
    fields = TrainingConfiguration("sgd", RATE)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    data = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def loss() -> Tensor:
        return torch.as_tensor(model(data).square().mean())

    parameters = list(model.parameters())
    graph = torch.autograd.grad(loss(), parameters, create_graph=True)

    def product() -> Any:
        return frozen(torch.autograd.grad(graph, parameters, [torch.ones_like(g) for g in graph], retain_graph=True))

    before = product()
    critical(model, make_optimizer(model, fields), loss, fields, graph)
    assert product() == before


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


# A loss f of one weight that the update moves from 0 to the multiple: rate 1, gradient -1.


def along(
    function: Callable[[float], float], start: float | None = None, slope: float = -1.0, at_zero: float | None = None
) -> CriticalRate | None:
    """The critical rate where the loss at multiple m is function(m)."""
    weight = nn.Parameter(torch.zeros((), dtype=torch.float64))
    fields = TrainingConfiguration("sgd", 1.0)
    optimizer = torch.optim.SGD([weight], lr=1.0)

    def loss() -> Tensor:
        return torch.tensor(function(float(weight) * -slope), dtype=torch.float64)

    gradient = torch.tensor(slope, dtype=torch.float64)
    return critical_learning_rate(
        loss, optimizer, [weight], [gradient], configuration=fields, learning_rate=1.0, start=start, at_zero=at_zero
    )


def falls_until(crossing: float) -> Callable[[float], float]:
    return lambda multiple: multiple * (multiple - crossing)


@pytest.mark.parametrize("crossing", [2.0**-9, 0.3, 1.0, 1.5, 777.0, 2.0**19])
def test_a_cold_search_doubles_or_halves_and_then_bisects(crossing: float) -> None:
    found = along(falls_until(crossing))
    assert found is not None
    assert found.limit == 0
    assert is_just_above(found.learning_rate, crossing)
    # One at 0, one at 1, the doublings or halvings, and four of the bisection.
    assert found.passes <= 2 + abs(math.floor(math.log2(crossing))) + 1 + 4


@pytest.mark.parametrize(("change", "passes"), [(1.0, 6), (1.35, 6), (0.8, 6), (1.8, 7), (0.55, 7), (4.0, 9)])
def test_a_warm_search_takes_six_passes_where_little_changed_and_one_less_with_a_known_loss(
    change: float, passes: int
) -> None:
    old = along(falls_until(40.0))
    assert old is not None
    found = along(falls_until(40.0 * change), start=old.learning_rate)
    assert found is not None
    assert is_just_above(found.learning_rate, 40.0 * change)
    assert found.passes <= passes
    assert along(falls_until(40.0 * change), start=old.learning_rate, at_zero=0.0) == replace(
        found, passes=found.passes - 1
    )


@pytest.mark.parametrize("start", [None, 1e-30, 40.0, 1e30])
def test_beyond_a_limit_it_is_said_on_which_side(start: float | None) -> None:
    above, below = along(lambda multiple: -multiple, start), along(falls_until(2.0**-11), start)
    assert above is not None
    assert (above.multiple, above.limit, above.lambda_c) == (LARGEST_MULTIPLE, 1, None)
    assert below is not None
    assert (below.multiple, below.limit, below.lambda_c) == (SMALLEST_MULTIPLE, -1, None)


def test_an_update_that_goes_uphill_raises_the_loss_at_once() -> None:
    """As momentum does after the bottom of a valley; two passes show it."""
    fields = TrainingConfiguration("momentum", RATE, momentum=0.9)
    model, optimizer, loss = trained(fields, updates=3)
    uphill = [-gradient for gradient in loss.gradients()]
    for parameter, velocity in zip(model.parameters(), uphill, strict=True):
        optimizer.state[parameter]["momentum_buffer"] = 3 * velocity
    found = critical(model, optimizer, loss, fields, start=4.0)
    assert (found.multiple, found.limit, found.passes) == (SMALLEST_MULTIPLE, -1, 2)


@pytest.mark.parametrize("value", [math.inf, math.nan, -math.inf])
def test_a_loss_that_is_not_finite_has_risen(value: float) -> None:
    found = along(lambda multiple: -multiple if multiple < 5.0 else value)
    assert found is not None
    assert is_just_above(found.learning_rate, 5.0)


def test_without_a_finite_loss_or_gradient_there_is_none() -> None:
    assert along(lambda multiple: math.nan) is None
    assert along(falls_until(1.0), slope=math.nan) is None
    assert along(falls_until(1.0), slope=math.inf) is None


def test_no_multiple_of_an_update_that_moves_nothing_raises_the_loss() -> None:
    found = along(falls_until(1.0), slope=0.0)
    assert found is not None
    assert (found.multiple, found.limit, found.passes) == (LARGEST_MULTIPLE, 1, 0)


def test_of_several_crossings_it_is_one_at_which_the_loss_begins_to_rise() -> None:
    """It rises from 3 on, falls below the start between 6 and 20, and rises again."""

    def waves(multiple: float) -> float:
        return multiple * (multiple - 3) * (multiple - 6) * (multiple - 20)

    def is_a_crossing(found: CriticalRate | None) -> bool:
        return found is not None and any(is_just_above(found.learning_rate, crossing) for crossing in (3, 20))

    assert waves(1) < 0
    cold = along(waves)
    assert cold is not None
    assert is_just_above(cold.learning_rate, 3)
    for start in (0.1, 2.9, 4.0, 8.0, 19.0, 1e4):
        assert is_a_crossing(along(waves, start))


@pytest.mark.parametrize("rate", [1e-9, 1e-7, 1e-5])
def test_rounding_does_not_pass_for_a_rise(rate: float) -> None:
    """In single precision, at the first rates of a warmup, the losses at 0 and at the rate differ by rounding alone."""
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        model = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 5))
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3, generator=generator)
        inputs, targets = torch.randn(64, 20, generator=generator), torch.randint(5, (64,), generator=generator)

        def loss(model: nn.Module = model, inputs: Tensor = inputs, targets: Tensor = targets) -> Tensor:
            return nn.functional.cross_entropy(model(inputs), targets)

        found, usual = (
            critical(model, make_optimizer(model, fields), loss, fields)
            for fields in (TrainingConfiguration("sgd", small) for small in (rate, 0.1))
        )
        if found.limit == 0:
            assert found.learning_rate == pytest.approx(usual.learning_rate, rel=0.13)
        else:
            assert found.limit == 1
            assert usual.learning_rate > rate * LARGEST_MULTIPLE


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


def test_passes_counts_every_call_of_the_loss_and_no_call_keeps_a_graph() -> None:
    fields = TrainingConfiguration("adam", RATE)
    model, optimizer, loss = trained(fields)
    gradients, loss.calls = loss.gradients(), 0

    def watched() -> Tensor:
        value = loss()
        assert not value.requires_grad
        return value

    found = critical(model, optimizer, watched, fields, gradients)
    assert found.passes == loss.calls
    assert all(parameter.grad is None for parameter in model.parameters())
