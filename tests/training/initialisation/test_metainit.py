"""MetaInit against dense Hessians, differences and hand computation. Tests batch_losses.py and rescaling.py too."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from rescaled_builders import Weight, measured, net, points, rescaled, squares, workload_of
from torch import nn
from torch.func import functional_call

from tunectl.core.errors import WorkloadError
from tunectl.training.initialisation.metainit import MetaInit
from tunectl.training.initialisation.rescaling import Measured
from tunectl.workloads.workload import Workload


def metainit(workload: Workload, rate: float = 0.1, momentum: float = 0.9) -> MetaInit:
    return MetaInit(list(workload.model.parameters()), rate, momentum)


def dense_quotient(model: nn.Module, batch: list[torch.Tensor]) -> float:
    """The gradient quotient by a dense Hessian in float64, written as in the paper."""
    weights = {name: parameter.detach().double() for name, parameter in model.named_parameters()}
    sizes = [weight.numel() for weight in weights.values()]

    def loss(flat: torch.Tensor) -> torch.Tensor:
        parts = zip(weights.items(), flat.split(sizes), strict=True)
        given = {name: part.view_as(weight) for (name, weight), part in parts}
        logits = functional_call(model.double(), given, (batch[0].double(),))
        return nn.functional.cross_entropy(logits, batch[1])

    point = torch.cat([weight.reshape(-1) for weight in weights.values()])
    gradient = torch.autograd.functional.jacobian(loss, point)
    product = torch.autograd.functional.hessian(loss, point) @ gradient
    sign = 2.0 * (gradient >= 0) - 1
    return float(((gradient - product) / (gradient + 1e-5 * sign) - 1).abs().sum() / len(gradient))


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.GELU])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_quotient_agrees_with_a_dense_hessian_in_float64(activation: type[nn.Module], dtype: torch.dtype) -> None:
    workload = workload_of(net(activation).to(dtype))
    inputs, labels = points(24)
    found = measured(metainit(workload), workload, [inputs.to(dtype), labels]).metrics
    exact = dense_quotient(workload.model, [inputs.to(dtype), labels])
    # Where g is small, the rounding of float32 counts, which depends on the processor.
    tolerance = 1e-6 if dtype is torch.float64 else 1e-4
    assert found["gradient_quotient"] == pytest.approx(exact, rel=tolerance)


def test_its_derivative_by_each_norm_is_the_change_of_the_quotient_in_finite_differences() -> None:
    workload, batch = workload_of(net()), points(24)
    procedure = metainit(workload)
    found = measured(procedure, workload, batch)

    def quotient() -> float:
        return measured(procedure, workload, batch).metrics["gradient_quotient"]

    for tensor, norm, derivative in zip(procedure.tensors, found.norms, found.derivatives, strict=True):
        assert tensor.ndim == 2
        assert norm == pytest.approx(float(tensor.detach().square().sum().sqrt()), rel=1e-12)
        step = 1e-6
        change = (rescaled(tensor, 1 + step, quotient) - rescaled(tensor, 1 - step, quotient)) / (2 * step * norm)
        assert derivative == pytest.approx(change, rel=1e-5)


def test_two_steps_are_those_worked_out_by_hand() -> None:
    # L = w², g = 2w, Hg = 4w: GQ = |-2w / (2w + ε) - 1| = 1 + 2w / (2w + ε), which grows with |w|.
    workload = workload_of(Weight(3.0), squares)
    batch = [torch.ones(2, 1, dtype=torch.float64)]
    procedure = metainit(workload)
    found = measured(procedure, workload, batch)
    assert found.metrics["gradient_quotient"] == pytest.approx(1 + 6 / (6 + 1e-5), rel=1e-12)
    assert found.derivatives == pytest.approx([2e-5 / (6 + 1e-5) ** 2], rel=1e-6)
    # m = -0.1, then 0.9 m - 0.1.
    (factor,) = procedure.factors(found)
    assert 3.0 * factor == pytest.approx(2.9, rel=1e-12)
    (factor,) = procedure.factors(Measured({}, [2.9], [1.0]))
    assert 2.9 * factor == pytest.approx(2.9 - 0.19, rel=1e-12)


def test_a_norm_that_falls_below_zero_turns_its_tensor_and_one_of_zero_is_never_made() -> None:
    procedure = metainit(workload_of(Weight(3.0), squares), rate=0.5, momentum=0.0)
    assert procedure.factors(Measured({}, [0.2], [1.0])) == pytest.approx([-1.5])
    assert procedure.factors(Measured({}, [0.5], [1.0])) == [1.0]
    assert procedure.factors(Measured({}, [0.5], [0.0])) == [1.0], "no slope, no step"


def test_vectors_and_tensors_of_zeros_keep_their_values() -> None:
    model = net()
    with torch.no_grad():
        weights = list(model.parameters())
        weights[4].zero_()
    workload = workload_of(model)
    procedure = metainit(workload)
    assert [tensor.shape for tensor in procedure.tensors] == [(6, 4), (5, 6), (3, 5)]
    found = measured(procedure, workload, points(24))
    assert math.isnan(found.derivatives[2])
    assert found.not_finite() == ""
    assert procedure.factors(found)[2] == 1.0


def test_a_weight_without_gradient_counts_as_one_and_a_linear_loss_has_no_quotient_to_lower() -> None:
    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = (nn.Parameter(torch.ones(1, 2, dtype=torch.float64)) for _ in range(2))

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return (inputs[:, :2] @ self.used.T).squeeze(1)

    workload = workload_of(Linear(), lambda model, batch: model(batch[0]) + 10)
    found = measured(metainit(workload), workload, points(24))
    # g / (g + ε s) - 1 is -ε / |g|, nearly nothing, for the two used weights; -1 for the two unused ones.
    assert found.metrics["gradient_quotient"] == pytest.approx(0.5, abs=1e-3)
    assert found.derivatives == [0.0, 0.0]


def test_values_that_are_not_finite_are_named() -> None:
    model = net(nn.ReLU)
    with torch.no_grad():
        next(model.parameters())[0, 0] = math.nan
    workload = workload_of(model)
    assert measured(metainit(workload), workload, points(24)).not_finite() == "the gradient quotient is nan"


def test_its_state_continues_it() -> None:
    workload = workload_of(net())
    one, other = metainit(workload), metainit(workload)
    found = measured(one, workload, points(24))
    one.factors(found)
    other.load_state(one.state())
    assert one.factors(found) == other.factors(found) != metainit(workload).factors(found)


@pytest.mark.parametrize(
    ("weight", "said"), [(0.0, "no value of a batch has a weight"), (-1.0, "expected finite numbers of at least 0")]
)
def test_weights_by_which_no_mean_can_be_taken_are_said_to_be_what_they_are(weight: float, said: str) -> None:
    def loss(model: Any, batch: Any) -> Any:
        values = squares(model, batch)
        return values, torch.full_like(values, weight, requires_grad=False)

    workload = workload_of(Weight(3.0), loss)
    with pytest.raises(WorkloadError, match=said):
        measured(metainit(workload), workload, [torch.ones(2, 1, dtype=torch.float64)])
