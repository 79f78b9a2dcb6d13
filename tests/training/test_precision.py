from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_parts import gradient_of
from training_builders import (
    StopAt,
    comparable,
    error_rate,
    frozen,
    labelled,
    make_request,
    plain_workload,
    stochastic_workload,
    train_trial,
)
from trial_records import ended, lines_in

from tunectl.core.errors import WorkloadError
from tunectl.core.folders import TrialFolder
from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.gradients import MeanLoss, gradients
from tunectl.training.optimizers import make_optimizer
from tunectl.training.precision import LossScaler
from tunectl.training.probe import probe
from tunectl.workloads.workload import Workload

CPU = torch.device("cpu")


def lines(folder: TrialFolder) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return lines_in(folder.measurements), lines_in(folder.steps)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("stop", [0, 11, 14])
def test_a_trial_in_reduced_precision_that_is_stopped_goes_on_bit_for_bit(folder, tmp_path, precision, stop):
    request = make_request(precision=precision, grad_clip_norm=1.0, optimizer="momentum")
    whole = TrialFolder(tmp_path / "whole")
    whole.path.mkdir()
    train_trial(request, whole, stochastic_workload)
    assert train_trial(request, folder, stochastic_workload, stop=StopAt(stop), save_every_seconds=1e9) is None
    assert train_trial(request, folder, stochastic_workload) is not None
    assert comparable(folder) == comparable(whole)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("optimizer", ["momentum", "adam", "adam_playbook"])
def test_the_loss_curve_is_that_of_float32_to_the_precision_but_not_the_same(folder, tmp_path, precision, optimizer):
    rate = {"momentum": 0.05}.get(optimizer, 0.01)
    found = {}
    for name in ("float32", precision):
        place = TrialFolder(tmp_path / name)
        place.path.mkdir()
        request = make_request(optimizer=optimizer, learning_rate=rate, precision=name, max_train_steps=60)
        assert ended(train_trial(request, place, plain_workload)).state == "completed"
        found[name] = np.concatenate([line["loss"] for line in lines(place)[1]])
    reduced, full = found[precision], found["float32"]
    assert full[-5:].mean() < 0.3 * full[:5].mean()
    assert not np.array_equal(reduced, full)
    assert np.allclose(reduced, full, rtol=0.1, atol=0.05)


def seen_types(types: list[Any]):
    def factory() -> Workload:
        def loss(model: nn.Module, batch: Any) -> Tensor:
            scores: Tensor = model(batch[0])
            types.append(("loss", model.training, scores.dtype))
            return (scores**2).mean(dim=1)  # bfloat16 itself

        def metrics(model: nn.Module, batch: Any) -> Any:
            scores = model(batch[0])
            types.append(("metrics", model.training, scores.dtype))
            return {"huge": torch.full((len(scores),), 300.0, dtype=torch.bfloat16)}

        data = {"train": labelled(50), "valid": labelled(20, seed=1)}
        return Workload(nn.Linear(6, 3), data, loss, metrics)

    return factory


def test_training_and_evaluation_are_cast_and_sums_are_not(folder):
    types: list[Any] = []
    objective = make_request().objective.__class__("valid/huge", "minimize")
    train_trial(make_request(precision="bfloat16", objective=objective), folder, seen_types(types))
    expected = {("loss", True), ("loss", False), ("metrics", False)}
    assert set(types) == {(*place, torch.bfloat16) for place in expected}
    measured, steps = lines(folder)
    assert measured[0]["metrics"]["valid/huge"] == 300.0, "a bfloat16 sum of 20 would be 6,016 or 5,984"
    losses = np.concatenate([line["loss"] for line in steps])
    assert any(loss != torch.tensor(loss).bfloat16().item() for loss in losses)
    assert torch.load(folder.resume, weights_only=True)["model"]["weight"].dtype == torch.float32


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "adam_playbook", "lamb"])
def test_the_scaler_skips_and_adapts_as_torch_s(name):
    overflowing = {0, 1, 7, 8, 20}
    found = []
    for ours in (True, False):
        torch.manual_seed(0)
        model = nn.Linear(5, 4)
        optimizer = make_optimizer(model, TrainingConfiguration(name, 0.1))
        scaler: Any = LossScaler(CPU) if ours else torch.amp.GradScaler("cpu")
        scales, skipped = [], []
        for update in range(24):
            inputs = torch.randn(8, 5, generator=torch.Generator().manual_seed(update))
            model.zero_grad(set_to_none=True)
            losses = model(inputs).square().mean(dim=1)
            if ours:
                MeanLoss(8, list(model.parameters()), scaler.scale).backward(losses, 8)
            else:
                scaler.scale(losses.mean()).backward()
            if update in overflowing:
                gradient_of(model.weight)[1, 2] = float("inf") if update % 2 else float("nan")
            if ours:
                grads = gradients(list(model.parameters()))
                scaler.unscale(grads)
                skipped.append(scaler.step(optimizer, grads).item())
                scales.append(scaler.scale.item())
            else:
                # Torch's own leaves the velocity uninitialised where it skips the first fused update.
                vars(optimizer).update(_step_supports_amp_scaling=False)
                scaler.step(optimizer)
                scaler.update()
                scales.append(scaler.get_scale())
        found.append((scales, [parameter.detach().clone() for parameter in model.parameters()]))
        if ours:
            assert [place for place, skip in enumerate(skipped) if skip] == sorted(overflowing)
    assert found[0][0] == found[1][0]
    assert found[0][0][-1] == 2.0**11
    for here, there in zip(found[0][1], found[1][1], strict=True):
        assert torch.allclose(here, there, rtol=1e-6, atol=1e-7)


def test_the_scale_doubles_after_two_thousand_good_updates():
    scaler, optimizer = LossScaler(CPU), make_optimizer(nn.Linear(2, 2), TrainingConfiguration("sgd", 0.1))
    for _ in range(1999):
        scaler.unscale([torch.ones(2)])
        scaler.step(optimizer, [])
    assert scaler.scale == 2.0**16
    other = LossScaler(CPU)
    other.load_state(scaler.state())
    for found in (scaler, other):
        found.unscale([torch.ones(2)])
        found.step(optimizer, [])
        assert found.scale == 2.0**17


def overflowing_workload(factor: float) -> Workload:
    """Its float16 gradients overflow while the loss is scaled by more than about 65504 / factor."""

    class Steep(torch.autograd.Function):
        @staticmethod
        def forward(context, scores):
            return scores.clone()

        @staticmethod
        def backward(context, gradient):
            return (gradient.half() * factor).to(gradient.dtype) / factor

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(Steep.apply(model(batch[0])), batch[1], reduction="none")

    data = {"train": labelled(50), "valid": labelled(20, seed=1)}
    return Workload(nn.Linear(6, 3), data, loss, error_rate)


def test_updates_that_overflow_are_skipped_counted_and_no_nan_gradient(folder):
    request = make_request(precision="float16", objective=make_request().objective.__class__("valid/loss", "minimize"))
    result = ended(train_trial(request, folder, lambda: overflowing_workload(64.0)))
    measured, steps = lines(folder)
    skipped = [update for line in steps for update in line.get("skipped", ())]
    assert (result.state, result.reason) == ("completed", "")
    assert skipped == list(range(len(skipped)))
    assert 2 <= len(skipped) <= 8, "from 2^16 down, one by one"
    assert [line["metrics"]["train/skipped_updates"] for line in measured[1:]] == [len(skipped)] * (len(measured) - 1)
    norms = [norm for line in steps for norm in line["gradient_norm"]]
    assert all(isinstance(norm, str) == (update in skipped) for update, norm in enumerate(norms))
    assert not any(clip for line in steps for clip in line["clipped"])
    assert all(0 < norm < 100 for norm in norms[len(skipped) :])
    assert measured[-1]["metrics"]["valid/loss"] < 0.5 * measured[0]["metrics"]["valid/loss"]


def test_a_gradient_that_no_scale_makes_finite_is_a_nan_gradient(folder):
    request = make_request(precision="float16", max_train_steps=60)
    result = ended(train_trial(request, folder, lambda: overflowing_workload(float("nan"))))
    assert (result.state, result.reason, result.infeasible_step) == ("infeasible", "nan_gradient", 17)


def test_an_operation_that_float16_lacks_is_found_by_the_probe():
    def loss(model: nn.Module, batch: Any) -> Tensor:
        scores: Tensor = model(batch[0])
        with torch.autocast("cpu", enabled=False):
            torch.linalg.inv(scores.T @ scores)
        return scores.float().square().mean(dim=1)

    data = {"train": labelled(50), "valid": labelled(20, seed=1)}
    request = make_request(precision="float16", objective=make_request().objective.__class__("valid/loss", "minimize"))
    with pytest.raises(WorkloadError, match=r"loss\(model, batch\) failed on a batch of 'train'.*Half"):
        probe(request, lambda: Workload(nn.Linear(6, 3), data, loss), device="cpu")


def test_the_scaler_s_state_goes_through_a_file(tmp_path):
    scaler = LossScaler(CPU)
    torch.save(scaler.state(), tmp_path / "state")
    assert frozen(torch.load(tmp_path / "state", weights_only=True)) == frozen(scaler.state())
