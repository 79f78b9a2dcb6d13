"""Trials with an optimizer of the study's own. Tests user_optimizer.py, and its places in the loop and in resume.pt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training_builders import StopAt, comparable, make_request, plain_workload, stochastic_workload, train_trial
from trial_records import lines_in
from user_optimizers import Lion, ScheduleFree, fields

from tunectl.core.errors import WorkloadError
from tunectl.core.folders import TrialFolder
from tunectl.core.objective import Objective
from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.eager_optimizers import eager
from tunectl.training.optimizers import make_optimizer
from tunectl.training.user_optimizer import evaluated, has_modes


def configuration(name: str, learning_rate: float = 0.01, **arguments: Any) -> TrainingConfiguration:
    code = fields(name, learning_rate=learning_rate, **arguments)
    own = {key: value for key, value in arguments.items() if key == "weight_decay"}
    return TrainingConfiguration(learning_rate=learning_rate, **own, **code)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)).double()


def updated(network: nn.Module, optimizer: torch.optim.Optimizer, updates: int = 20) -> list[torch.Tensor]:
    features = torch.randn(8, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for _ in range(updates):
        optimizer.zero_grad()
        network(features).square().mean().backward()
        optimizer.step()
    return [parameter.detach() for parameter in network.parameters()]


@pytest.mark.parametrize(
    ("name", "arguments", "own"),
    [
        ("torch.optim:Adagrad", {}, {}),
        ("torch.optim:RAdam", {"beta2": 0.9, "epsilon": 1e-3}, {"betas": (0.9, 0.9), "eps": 1e-3}),
        ("torch.optim:AdamW", {"beta1": 0.5, "fused": True}, {"betas": (0.5, 0.999), "fused": True}),
        ("torch.optim:RMSprop", {"momentum": 0.5, "alpha": 0.9}, {"momentum": 0.5, "alpha": 0.9}),
        ("torch.optim:Adamax", {"weight_decay": 0.1}, {"weight_decay": 0.1}),
        ("torch.optim:SGD", {"nesterov": True, "momentum": 0.9}, {"nesterov": True, "momentum": 0.9}),
    ],
)
def test_a_class_of_a_library_gets_the_arguments_of_the_study_and_keeps_its_other_defaults(name, arguments, own):
    ours, theirs = model(), model()
    made = make_optimizer(ours, configuration(name, **arguments))
    bare = eager(getattr(torch.optim, name.rpartition(":")[2]))(theirs.parameters(), lr=0.01, **own)
    for here, there in zip(updated(ours, made), updated(theirs, bare), strict=True):
        assert torch.equal(here, there)


def test_a_class_of_a_file_is_trained_as_in_a_loop_of_torch():
    ours, theirs = model(), model()
    made = make_optimizer(ours, configuration("Lion", beta1=0.8))
    bare = eager(Lion)(theirs.parameters(), lr=0.01, betas=(0.8, 0.99))
    assert all(map(torch.equal, updated(ours, made), updated(theirs, bare)))
    assert type(made).__name__ == "Lion"


def test_a_function_may_give_the_optimizer():
    made = make_optimizer(model(), configuration("made", momentum=0.5))
    assert isinstance(made, torch.optim.SGD)
    assert made.param_groups[0]["momentum"] == 0.5


def test_with_the_scope_matrices_vectors_have_no_weight_decay_and_matrices_the_default_of_the_class():
    asked = replace(configuration("torch.optim:AdamW"), weight_decay_scope="matrices", weight_decay=0.01)
    groups = make_optimizer(model(), asked).param_groups
    assert [group["weight_decay"] for group in groups] == [0.01, 0.0]
    assert [parameter.ndim for group in groups for parameter in group["params"]] == [2, 2, 1, 1]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("NoOptimizer", {}, "optimizer ./user_optimizers.py:NoOptimizer: expected a torch.optim.Optimizer, got NoOp"),
        ("Closure", {}, "its step() needs a closure"),
        ("torch.optim:LBFGS", {}, "its step() needs a closure"),
        ("Plain2", {}, "has no Plain2; nearest: Plain"),
        ("Lion", {"momentum": 0.9}, "it does not take momentum; its parameters are lr, betas, weight_decay"),
        ("Lion", {"beta3": 0.9}, "its betas are 2, got beta3"),
    ],
)
def test_what_is_no_optimizer_that_can_be_used_is_refused(name: str, arguments: dict[str, Any], message: str):
    with pytest.raises(WorkloadError) as refused:
        make_optimizer(model(), configuration(name, **arguments))
    assert message in str(refused.value)


@pytest.mark.parametrize("name", ["Lion", "Noisy", "TensorRate", "SavedCount", "ScheduleFree", "torch.optim:RAdam"])
def test_a_trial_that_stops_at_every_update_ends_bit_for_bit_as_if_it_had_not(
    folder: TrialFolder, tmp_path: Path, name: str
):
    request = make_request(max_train_steps=6, eval_every=4, **fields(name, learning_rate=0.05))
    whole = TrialFolder(tmp_path / "whole")
    whole.path.mkdir()
    assert train_trial(request, whole, stochastic_workload) is not None
    for _ in range(6):
        assert train_trial(request, folder, stochastic_workload, stop=StopAt(1), save_every_seconds=1e9) is None
    assert train_trial(request, folder, stochastic_workload) is not None
    assert comparable(folder) == comparable(whole)


def test_evaluating_more_often_does_not_change_a_training_with_two_sets_of_weights(folder: TrialFolder, tmp_path: Path):
    request = make_request(max_train_steps=12, **fields("ScheduleFree", learning_rate=0.05))
    often = TrialFolder(tmp_path / "often")
    often.path.mkdir()
    train_trial(replace(request, eval_every=1), often)
    train_trial(replace(request, eval_every=12), folder)
    losses = [[loss for block in lines_in(place.steps) for loss in block["loss"]] for place in (folder, often)]
    assert losses[0] == losses[1]


def test_what_is_evaluated_and_kept_are_the_weights_of_eval_and_the_trained_ones_are_beside_them(folder: TrialFolder):
    last = Objective("valid/loss", "minimize", "final")
    train_trial(make_request(objective=last, **fields("ScheduleFree", learning_rate=0.05)), folder)
    parts = torch.load(folder.checkpoint(30), weights_only=True)
    again = plain_workload().model
    optimizer = ScheduleFree(again.parameters(), lr=0.05)
    again.load_state_dict(parts["model"])
    optimizer.load_state_dict(parts["optimizer"])
    features, labels = plain_workload().data["valid"].tensors  # type: ignore[attr-defined]
    loss = nn.functional.cross_entropy(again(features), labels)
    assert float(loss.detach()) == pytest.approx(parts["metrics"]["valid/loss"], rel=1e-6)
    optimizer.train()
    for trained, raw in zip(again.parameters(), parts["raw_weights"], strict=True):
        assert torch.allclose(trained, raw, atol=1e-6)
    assert not torch.equal(parts["model"]["0.weight"], parts["raw_weights"][0])


def test_the_trained_weights_come_back_bit_for_bit_after_an_evaluation():
    network = model()
    optimizer = make_optimizer(network, configuration("ScheduleFree"))
    assert has_modes(optimizer)
    before = [weight.clone() for weight in updated(network, optimizer, 5)]
    with evaluated(optimizer, list(network.parameters())) as raw:
        assert not all(map(torch.equal, network.parameters(), before))
        assert all(map(torch.equal, raw, before))
    assert all(map(torch.equal, network.parameters(), before))


def test_an_update_that_overflows_in_float16_is_skipped_whatever_an_option_of_the_optimizer_is_called(
    folder: TrialFolder,
):
    request = make_request(precision="float16", max_train_steps=4, **fields("FusedInName", learning_rate=0.05))
    workload = plain_workload()

    def overflowing(network: nn.Module, batch: Any) -> Any:
        return workload.loss(network, batch) * 1e4

    train_trial(request, folder, lambda: replace(plain_workload(), loss=overflowing))
    losses = [loss for block in lines_in(folder.steps) for loss in block["loss"]]
    assert all(isinstance(loss, float) for loss in losses), losses


def test_an_optimizer_that_gives_parameters_new_tensors_is_measured_and_averaged_as_one_that_does_not(
    folder: TrialFolder, tmp_path: Path
):
    other = TrialFolder(tmp_path / "other")
    other.path.mkdir()
    for name, place in (("Plain", folder), ("Replacing", other)):
        train_trial(make_request(polyak_decay=0.9, **fields(name, learning_rate=0.05)), place)
    here, there = (comparable(place) for place in (folder, other))
    assert here["steps"] == there["steps"]
    assert here["measurements"] == there["measurements"]
