"""What `probe` refuses where a trial has an initialisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training_builders import frozen, make_request, plain_workload, stochastic_workload

from tunectl.core.errors import WorkloadError
from tunectl.core.objective import Objective
from tunectl.core.records import TrialRequest
from tunectl.training.probe import probe
from tunectl.workloads.workload import Workload


def request_for(method: str) -> TrialRequest:
    defaults = {"initialisation_steps": 5, "initialisation_learning_rate": 0.1, "initialisation_momentum": 0.9}
    return make_request(initialisation=method, objective=Objective("valid/loss", "minimize"), **defaults)


def refusal(method: str, factory: Callable[..., Workload]) -> str:
    """The message, of a workload that can be trained without an initialisation."""
    probe(request_for("none"), factory, device="cpu")
    with pytest.raises(WorkloadError) as caught:
        probe(request_for(method), factory, device="cpu")
    return str(caught.value)


class OnceSquare(torch.autograd.Function):
    """x^2 with a gradient, and no second one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] * 2 * x


class TwiceSquare(torch.autograd.Function):
    """x^2 with two right derivatives of the loss, and an error at the third."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return _Slope.apply(grads[0], x)


class _Slope(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(grad, x)
        return grad * 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        grad, x = ctx.saved_tensors
        return grads[0] * 2 * x, grads[0] * 2 * grad


def with_loss_of(function: Callable[[Tensor], Tensor]) -> Callable[[], Workload]:
    def loss(model: Any, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(function(model(batch[0])), batch[1], reduction="none")

    return lambda: replace(plain_workload(), loss=loss, metrics=None)


@pytest.mark.parametrize("method", ["metainit", "gradinit"])
def test_a_loss_without_a_second_derivative_is_refused(method: str) -> None:
    found = refusal(method, with_loss_of(OnceSquare.apply))
    assert found.startswith(f"initialisation: {method} cannot be used with this workload: ")
    assert "OnceSquare" in found


def test_a_loss_without_a_third_derivative_is_refused_for_metainit() -> None:
    found = refusal("metainit", with_loss_of(TwiceSquare.apply))
    assert found.startswith("initialisation: metainit cannot be used with this workload: the second derivative of the")
    probe(request_for("gradinit"), with_loss_of(TwiceSquare.apply), device="cpu")


def test_weights_in_half_precision_are_refused() -> None:
    def half() -> Workload:
        def loss(model: Any, batch: Any) -> Tensor:
            return nn.functional.cross_entropy(model(batch[0].bfloat16()).float(), batch[1], reduction="none")

        workload = plain_workload()
        return replace(workload, model=workload.model.bfloat16(), loss=loss, metrics=None)

    assert "the parameter 0.weight has the type torch.bfloat16" in refusal("gradinit", half)


def test_a_model_of_vectors_alone_has_nothing_for_metainit_to_rescale() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(6))

        def forward(self, inputs: Tensor) -> Tensor:
            return (inputs * self.scale)[:, :3]

    def vectors() -> Workload:
        return replace(plain_workload(), model=Scaled())

    assert "it rescales matrices, and the model has no trained one" in refusal("metainit", vectors)
    probe(request_for("gradinit"), vectors, device="cpu")


@pytest.mark.parametrize("method", ["metainit", "gradinit"])
def test_a_workload_that_can_be_initialised_passes_and_keeps_its_weights(method: str) -> None:
    made: list[Workload] = []

    def factory() -> Workload:
        made.append(stochastic_workload())
        return made[-1]

    probe(request_for("none"), factory, device="cpu")
    probe(request_for(method), factory, device="cpu")
    plain, probed = (frozen(dict(workload.model.named_parameters())) for workload in made)
    assert probed == plain
