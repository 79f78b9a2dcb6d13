"""Which second derivatives the probe takes for wrong: derivative_checks.py, by what `refusals` says of a workload."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from probed_workloads import (
    Cube,
    DetachedCube,
    OnceCube,
    OutsideCube,
    Reversed,
    Rounded,
    SingleCube,
    made_with,
    probed,
    refusal,
)
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from training_builders import cross_entropy, plain_workload

from tunectl.workloads.workload import Workload


def test_a_derivative_of_the_gradient_that_is_not_finite_is_refused():
    message = refusal(made_with(lambda values: (values.relu() ** 2 + 0).sqrt() + values))
    assert "derivative along a random direction is nan" in message


def test_a_gradient_that_is_not_finite_is_the_trials_matter():
    probed(made_with(lambda values: values * torch.nan))


def test_an_autograd_function_with_right_second_derivatives_can_be_measured():
    probed(made_with(Cube.apply))


def test_one_whose_backward_detaches_what_it_saved_is_refused_with_what_was_found():
    message = refusal(made_with(DetachedCube.apply))
    assert "it uses code with a backward pass of its own (DetachedCube), and second" in message
    assert "second derivatives are wrong: along a random direction the gradient changes by" in message
    assert "does it detach what it saved" in message


def test_so_is_one_that_computes_its_gradient_outside_of_autograd():
    assert "second derivatives are wrong" in refusal(made_with(OutsideCube.apply))


def test_constants_and_casts_to_float32_do_not_hinder_the_test_in_float64():
    weights = torch.tensor([1.0, 2.0, 3.0])

    def factory(cube: Any) -> Callable[[], Workload]:
        def loss(model: Any, batch: Any) -> Tensor:
            inputs = batch[0].mul(4).to(torch.int8).float() / 4 + torch.zeros(6, dtype=torch.float32)
            return nn.functional.cross_entropy(cube(model(inputs)), batch[1], weights, reduction="none")

        return lambda: replace(plain_workload(), loss=loss, metrics=None)

    probed(factory(Cube.apply))
    assert "second derivatives are wrong" in refusal(factory(DetachedCube.apply))


def test_one_that_says_that_it_has_no_second_derivative_is_refused():
    message = refusal(made_with(OnceCube.apply))
    assert (
        "it uses code with a backward pass of its own (OnceCube), which is marked with @once_differentiable" in message
    )


def test_one_that_says_so_but_torch_does_not_notice_is_refused():
    class OnceSquare(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x**2

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, *grads: Tensor) -> Tensor:
            return grads[0] * 2 * ctx.saved_tensors[0]

    def loss(model: Any, batch: Any) -> Tensor:
        return OnceSquare.apply(model(batch[0])[:, 0])  # the last operation: its own gradient is a constant

    assert "(OnceSquare), and second derivatives are wrong" in refusal(
        lambda: replace(plain_workload(), loss=loss, metrics=None)
    )


def test_one_that_cannot_be_tested_in_float64_is_refused_with_the_reason():
    message = refusal(made_with(SingleCube.apply))
    assert "can only be tested in float64, and this failed: TypeError: a kernel for float32" in message


def hooked(factor: Callable[[], float]) -> Callable[[Tensor], Tensor]:
    def function(values: Tensor) -> Tensor:
        if values.requires_grad:
            values.register_hook(lambda gradient: gradient * factor())
        return torch.tanh(values)

    return function


@pytest.mark.parametrize("function", [Reversed, Rounded])
def test_a_gradient_that_is_that_of_no_loss_is_refused(function: type[torch.autograd.Function]):
    message = refusal(made_with(function.apply))
    assert f"({function.__name__})" in message
    assert "second derivatives are wrong" in message


def test_so_is_one_that_a_hook_changes_or_from_which_a_part_of_the_loss_is_detached():
    for function in (hooked(lambda: 3.0), lambda values: values * torch.tanh(values).detach()):
        message = refusal(made_with(function))
        assert "it uses" not in message
        assert "measured: second derivatives are wrong" in message
        assert "is a part of the loss detached, or a gradient changed by a hook?" in message


def test_where_the_loss_cannot_be_computed_in_float64_products_that_are_not_symmetric_are_refused():
    only_first = hooked(lambda: 3.0 if torch.is_grad_enabled() else 1.0)

    def single(values: Tensor) -> Tensor:
        assert values.dtype == torch.float32
        return only_first(values)

    assert "its second derivatives are not symmetric" in refusal(made_with(single))


def test_units_that_are_exactly_at_a_kink_are_no_reason():
    def black(model: Any, batch: Any) -> Tensor:
        return cross_entropy(model, [batch[0] * torch.tensor([1.0, 0, 0, 0, 0, 0]), batch[1]])

    def factory() -> Workload:
        workload = plain_workload()
        model: Any = workload.model
        for layer in (model[0], model[2]):
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            model[0].weight[::2, 0] = 0
        return replace(workload, loss=black, metrics=None)

    probed(factory)


def test_a_loss_that_only_float32_can_compute_is_tested_in_float32():
    def single(values: Tensor) -> Tensor:
        assert values.dtype == torch.float32
        return torch.tanh(values)

    probed(made_with(single))
