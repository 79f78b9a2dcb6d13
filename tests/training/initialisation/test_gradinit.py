"""GradInit against differences, a step taken by hand and torch's Adam. Tests batch_losses.py and rescaling.py too."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from rescaled_builders import Weight, measured, net, points, rescaled, squares, workload_of
from torch import nn
from torch_parts import gradient_of

from tunectl.training.initialisation.gradinit import ADAM_STEP, SGD_STEP, FirstStep, GradInit
from tunectl.training.initialisation.rescaling import Measured
from tunectl.workloads.workload import Workload

FREE = [replace(step, largest_norm=1e9) for step in (SGD_STEP, ADAM_STEP)]
BOUND = [replace(step, largest_norm=1e-9) for step in (SGD_STEP, ADAM_STEP)]


def gradinit(workload: Workload, step: FirstStep = SGD_STEP, rate: float = 0.01) -> GradInit:
    return GradInit(list(workload.model.parameters()), rate, 0.9, step)


@pytest.mark.parametrize("step", [*FREE, *BOUND], ids=str)
def test_the_derivative_by_each_scale_is_the_change_of_the_objective_in_finite_differences(step: FirstStep) -> None:
    workload, batches = workload_of(net(scale=2.0)), (points(24), points(24, seed=1))
    procedure = gradinit(workload, step)
    name = "loss_after_step" if step in FREE else "gradient_norm"
    unit = step.size if step in FREE else 1.0
    found = measured(procedure, workload, *batches)
    assert ("loss_after_step" in found.metrics) == (step in FREE)

    def objective() -> float:
        return measured(procedure, workload, *batches).metrics[name] / unit

    for tensor, derivative in zip(procedure.tensors, found.derivatives, strict=True):
        change = (rescaled(tensor, 1 + 1e-6, objective) - rescaled(tensor, 1 - 1e-6, objective)) / 2e-6
        assert derivative == pytest.approx(change, rel=1e-5, abs=1e-7)


def test_the_loss_after_the_step_is_that_of_the_step_taken_and_nothing_is_left_moved() -> None:
    workload, batches = workload_of(net()), (points(24), points(24, seed=1))
    for step in FREE:
        before = [parameter.detach().clone() for parameter in workload.model.parameters()]
        found = measured(gradinit(workload, step), workload, *batches).metrics["loss_after_step"]
        assert all(map(torch.equal, before, workload.model.parameters()))
        model = net()
        nn.functional.cross_entropy(model(batches[0][0]), batches[0][1]).backward()
        grads = torch.cat([gradient_of(parameter).reshape(-1) for parameter in model.parameters()])
        with torch.no_grad():
            for parameter in model.parameters():
                own = gradient_of(parameter)
                parameter.sub_(step.size * (own.sign() if step.is_signed else own / grads.norm()))
            expected = float(nn.functional.cross_entropy(model(batches[1][0]), batches[1][1]))
        assert found == pytest.approx(expected, rel=1e-12)


def test_the_scales_follow_torchs_adam_with_clipped_derivatives_apart_for_the_two_objectives() -> None:
    procedure = gradinit(workload_of(Weight(3.0), squares), rate=0.05)
    scales, adams = [], []
    for _ in range(2):
        scales.append(torch.ones((), dtype=torch.float64, requires_grad=True))
        adams.append(torch.optim.Adam([scales[-1]], lr=0.05))
    scale = 1.0
    for slope, constrained in [(5.0, 1), (0.3, 1), (-0.2, 0), (0.9, 1), (-7.0, 0), (0.01, 0)]:
        (factor,) = procedure.factors(Measured({"constrained": float(constrained)}, [1.0], [slope]))
        with torch.no_grad():
            scales[constrained].fill_(scale)
        scales[constrained].grad = torch.tensor(max(-1.0, min(1.0, slope)), dtype=torch.float64)
        adams[constrained].step()
        assert factor * scale == pytest.approx(float(scales[constrained].detach()), rel=1e-9)
        scale *= factor


def test_a_scale_is_at_least_a_hundredth_and_a_tensor_of_zeros_keeps_its_own() -> None:
    procedure = gradinit(workload_of(Weight(3.0), squares), rate=0.7)
    found = Measured({"constrained": 0.0}, [1.0], [1.0])
    assert procedure.factors(found) == pytest.approx([0.3])
    assert procedure.factors(found) == pytest.approx([0.01 / 0.3])
    assert procedure.factors(found) == [1.0]
    assert procedure.factors(Measured({"constrained": 0.0}, [0.0], [math.nan])) == [1.0]


def test_a_gradient_of_zero_moves_nothing() -> None:
    workload = workload_of(Weight(0.0), squares)
    found = measured(gradinit(workload), workload, *[[torch.ones(2, 1, dtype=torch.float64)]] * 2)
    assert found.metrics == {"loss": 0.0, "gradient_norm": 0.0, "constrained": 0.0, "loss_after_step": 0.0}
    assert found.not_finite() == ""


def test_a_gradient_of_1e25_in_float32_is_no_overflow() -> None:
    model = nn.Linear(4, 1)
    workload = workload_of(model, lambda model, batch: 1e25 * model(batch[0].float()).squeeze(1).square())
    found = measured(gradinit(workload), workload, points(24), points(24))
    assert 1e24 < found.metrics["gradient_norm"] < 1e27
    assert found.metrics["constrained"] == 1.0
    assert found.not_finite() == ""


def test_its_state_continues_it() -> None:
    workload = workload_of(net())
    one, other = gradinit(workload), gradinit(workload)
    found = measured(one, workload, points(24), points(24, seed=1))
    one.factors(found)
    other.load_state(one.state())
    assert one.factors(found) == other.factors(found) != gradinit(workload).factors(found)
