"""The critical learning rate, against quadratics and functions of one weight on which it has a closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from quadratics import RATE, Parts, Quadratic, critical, flat, is_just_above, trained
from torch import Tensor, nn
from training_builders import frozen

from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.curvature.critical_rate import (
    LARGEST_MULTIPLE,
    SMALLEST_MULTIPLE,
    CriticalRate,
    critical_learning_rate,
)
from tunectl.training.optimizers import make_optimizer


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
