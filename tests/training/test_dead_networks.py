"""Trials of networks that are dead, and of living ones that have hardly learned: what becomes of them at their end.

Tests feasibility.py, input_dependence.py and running_statistics.py.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training_builders import StopAt, comparable, cross_entropy, error_rate, labelled, make_request, train_trial
from trial_records import ended

from tunectl.core.folders import TrialFolder
from tunectl.core.objective import Objective
from tunectl.workloads import digits
from tunectl.workloads.workload import Workload

SCHEDULES = ("constant", "linear", "cosine", "inverse_sqrt", "step")


def entropy(examples: int) -> float:
    shares = torch.bincount(labelled(examples).tensors[1]) / examples
    return float(-(shares * shares.log()).sum())


def dead() -> Workload:
    """No hidden unit lets anything through: the biases of the output learn how frequent the labels are."""
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    nn.init.constant_(model.get_parameter("0.bias"), -100.0)
    data = {"train": labelled(50), "valid": labelled(20)}
    return Workload(model, data, cross_entropy, error_rate, baseline_loss=entropy(50))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.slow
def test_a_dead_network_makes_no_progress_under_every_schedule_although_its_loss_still_falls(
    folder: TrialFolder, schedule: str
):
    request = make_request(max_train_steps=60, eval_every=60, learning_rate=0.01, batch_size=16, schedule=schedule)
    result = ended(train_trial(request, folder, dead))
    assert (result.state, result.reason, result.infeasible_step) == ("infeasible", "no_progress", 60)
    assert result.message.startswith("the predictions do not depend on the input")


def test_a_deep_network_that_died_in_training_and_settles_at_the_entropy_of_the_labels_makes_no_progress(
    folder: TrialFolder,
):
    request = make_request(
        max_train_steps=200, eval_every=200, learning_rate=0.3, batch_size=16, seed=3, schedule="cosine"
    )
    result = ended(train_trial(request, folder, lambda: digits.mlp(num_layers=6, width=16)))
    assert (result.state, result.reason) == ("infeasible", "no_progress")


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("rate", [1e-3, 1e-6])
def test_a_slow_network_is_feasible_under_every_schedule(folder: TrialFolder, schedule: str, rate: float):
    def slow() -> Workload:
        workload = dead()
        nn.init.zeros_(workload.model.get_parameter("0.bias"))
        return workload

    request = make_request(
        max_train_steps=25, eval_every=25, learning_rate=rate, momentum=0.0, batch_size=4, schedule=schedule
    )
    assert ended(train_trial(request, folder, slow)).state == "completed"


def test_a_slow_network_with_an_output_layer_of_zeros_is_feasible(folder: TrialFolder):
    def slow() -> Workload:
        workload = dead()
        nn.init.zeros_(workload.model.get_parameter("0.bias"))
        nn.init.zeros_(workload.model.get_parameter("2.weight"))
        return workload

    request = make_request(max_train_steps=50, eval_every=50, learning_rate=1e-5, schedule="cosine")
    assert ended(train_trial(request, folder, slow)).state == "completed"


@pytest.mark.parametrize("seed", range(4))
def test_batch_normalisation_whose_running_statistics_have_hardly_moved_is_feasible(folder: TrialFolder, seed: int):
    """Its units are shut in evaluation mode until the running mean has come to where the batches are."""

    def lagging() -> Workload:
        model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12, momentum=0.01), nn.ReLU(), nn.Linear(12, 3))
        nn.init.constant_(model.get_parameter("0.bias"), -1000.0)
        data = {"train": labelled(50), "valid": labelled(20)}
        return Workload(model, data, cross_entropy, error_rate, baseline_loss=entropy(50))

    request = make_request(max_train_steps=20, eval_every=20, learning_rate=1e-3, batch_size=8, seed=seed)
    assert ended(train_trial(request, folder, lagging)).state == "completed"


def normalised(dead: bool, layer: type[nn.Module] = nn.BatchNorm1d) -> Workload:
    """Four layers with batch normalisation, whose evaluations are above step 0 until its running statistics fit."""
    layers: list[nn.Module] = [nn.Flatten()]
    for width_before in (64, 32, 32, 32):
        layers += [nn.Linear(width_before, 32), layer(32), nn.ReLU()]
    if dead:
        nn.init.constant_(layers[-2].get_parameter("bias"), -1000.0)
    model = nn.Sequential(*layers, nn.Linear(32, 10))
    splits = digits.load().splits
    return Workload(model, {name: splits[name] for name in ("train", "valid")}, cross_entropy, error_rate)


class OwnNorm(nn.Module):
    """Batch normalisation of a user's own, of which only its running numbers can be seen."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            mean, deviation = x.mean(0), x.std(0)
            with torch.no_grad():
                self.mean.lerp_(mean, 0.1)
                self.deviation.lerp_(deviation, 0.1)
        else:
            mean, deviation = self.mean, self.deviation
        return (x - mean) / (deviation + 1e-3) + self.bias


@pytest.mark.parametrize("layer", [nn.BatchNorm1d, OwnNorm])
@pytest.mark.parametrize("rate", [1e-4, 1e-3, 1e-2])
def test_twenty_steps_with_batch_normalisation_are_feasible_without_a_baseline(
    folder: TrialFolder, rate: float, layer: type[nn.Module]
):
    request = make_request(max_train_steps=20, eval_every=10, learning_rate=rate, batch_size=32, optimizer="adam")
    result = ended(train_trial(request, folder, lambda: normalised(dead=False, layer=layer)))
    assert (result.state, result.message) == ("completed", "")


def test_a_dead_network_with_batch_normalisation_is_found_after_twenty_steps(folder: TrialFolder):
    request = make_request(max_train_steps=20, eval_every=10, learning_rate=1e-3, batch_size=32, optimizer="adam")
    result = ended(train_trial(request, folder, lambda: normalised(dead=True)))
    assert (result.reason, result.infeasible_step) == ("no_progress", 20)


def regression(shut: float, baseline: float | None) -> Workload:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        losses: Tensor = (model(batch[0])[:, 0] - batch[1]).square()
        return losses

    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1))
    nn.init.constant_(model.get_parameter("0.bias"), shut)
    return Workload(model, {"train": labelled(50), "valid": labelled(20)}, loss, baseline_loss=baseline)


@pytest.mark.parametrize("known", [True, False])
def test_a_dead_regression_is_found_with_a_baseline_and_without_one(folder: TrialFolder, known: bool):
    """Without one it was enough to have been below the loss at step 0."""
    variance = float(labelled(50).tensors[1].double().var(correction=0))
    settings: dict[str, Any] = {"max_train_steps": 60, "eval_every": 20, "learning_rate": 0.02, "schedule": "linear"}
    objective = {"objective": Objective("valid/loss", "minimize")}
    request = make_request(**settings, **objective)
    result = ended(train_trial(request, folder, lambda: regression(-100.0, variance if known else None)))
    assert (result.reason, result.infeasible_step) == ("no_progress", 60)
    assert ("the best constant prediction has" in result.message) is known


def test_a_living_regression_without_a_baseline_is_feasible(folder: TrialFolder):
    objective = Objective("valid/loss", "minimize")
    request = make_request(learning_rate=1e-3, objective=objective)
    assert ended(train_trial(request, folder, lambda: regression(0.0, None))).state == "completed"


def test_a_loss_without_targets_that_one_model_of_no_input_lowers_is_no_dead_network(folder: TrialFolder):
    """Such as a function to be minimised: every example has the same loss."""

    class Point(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x = nn.Parameter(torch.tensor(3.0))

        def forward(self, batch: Tensor) -> Tensor:
            return self.x.square().expand(len(batch))

    def factory() -> Workload:
        data = {"train": labelled(50), "valid": labelled(20)}
        return Workload(Point(), data, lambda model, batch: model(batch[0]))

    objective = Objective("valid/loss", "minimize")
    request = make_request(learning_rate=0.01, objective=objective)
    assert ended(train_trial(request, folder, factory)).state == "completed"


def test_looking_for_a_dead_network_changes_nothing_that_a_trial_leaves(folder: TrialFolder, tmp_path: Any):
    unjudged = TrialFolder(tmp_path / "unjudged")
    unjudged.path.mkdir()
    train_trial(make_request(), folder, dead)
    train_trial(make_request(no_progress=False), unjudged, dead)
    assert comparable(folder) == comparable(unjudged)


@pytest.mark.parametrize("stopped_at", [11, 30])
def test_a_dead_network_that_was_resumed_ends_the_same(folder: TrialFolder, tmp_path: Any, stopped_at: int):
    whole = TrialFolder(tmp_path / "whole")
    whole.path.mkdir()
    expected = ended(train_trial(make_request(schedule="cosine"), whole, dead))
    assert train_trial(make_request(schedule="cosine"), folder, dead, stop=StopAt(stopped_at)) is None
    result = ended(train_trial(make_request(schedule="cosine"), folder, dead))
    assert (result.reason, result.message) == (expected.reason, expected.message) == ("no_progress", expected.message)
    assert math.isfinite(result.eval_seconds)
