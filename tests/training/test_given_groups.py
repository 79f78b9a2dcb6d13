"""The groups that a workload gives its optimizer. Tests given_groups.py, optimizers.py and loop.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training_builders import StopAt, comparable, labelled, make_request, plain_workload, train_trial
from trial_records import lines_in
from user_optimizers import fields

from tunectl.core.curvature_settings import CurvatureSettings
from tunectl.core.errors import WorkloadError
from tunectl.core.folders import TrialFolder
from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.given_groups import set_rate
from tunectl.training.optimizers import make_optimizer
from tunectl.workloads.workload import Workload


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def head_faster(model: Any, configuration: TrainingConfiguration) -> list[dict[str, Any]]:
    return [
        {"params": model[0].parameters()},
        {"params": model[2].named_parameters(), "lr": 10 * configuration.learning_rate, "weight_decay": 0.5},
    ]


@pytest.mark.parametrize("code", [{"optimizer": "adam"}, fields("Lion", learning_rate=0.01)])
def test_a_group_has_its_own_rate_and_options_and_the_schedule_of_all(code: dict[str, Any]):
    optimizer = make_optimizer(network(), TrainingConfiguration(learning_rate=0.01, **code), head_faster)
    for group in optimizer.param_groups:
        set_rate(group, 0.005)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.005, 0.05])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0, 0.5]


def test_a_trial_is_that_of_a_loop_of_torch_with_these_groups(folder: TrialFolder):
    workload = replace(
        plain_workload(),
        parameter_groups=lambda model: [
            {"params": model[0].parameters(), "lr": 0.01},
            {"params": model[2].parameters()},
        ],
    )
    first = {name: value.clone() for name, value in workload.model.state_dict().items()}
    train_trial(make_request(batch_size=50, max_train_steps=1, optimizer="sgd"), folder, lambda: workload)
    twin = network()
    twin.load_state_dict(first)
    features, labels = labelled(50).tensors
    nn.functional.cross_entropy(twin(features), labels).backward()
    for index, rate in ((0, 0.01), (2, 0.05)):
        layer: Any = twin[index]
        expected = layer.weight - rate * layer.weight.grad
        assert torch.allclose(workload.model.state_dict()[f"{index}.weight"], expected, atol=1e-7)


def test_a_trial_with_groups_that_stops_goes_on_bit_for_bit(folder: TrialFolder, tmp_path: Path):
    def workload() -> Workload:
        return replace(plain_workload(), parameter_groups=head_faster)

    request, whole = make_request(schedule="linear", optimizer="adam"), TrialFolder(tmp_path / "whole")
    whole.path.mkdir()
    train_trial(request, whole, workload)
    assert train_trial(request, folder, workload, stop=StopAt(11), save_every_seconds=1e9) is None
    train_trial(request, folder, workload)
    assert comparable(folder) == comparable(whole)


def test_the_scope_matrices_divides_a_group_without_a_weight_decay_of_its_own():
    asked = TrainingConfiguration("adamw", 0.01, weight_decay=0.1, weight_decay_scope="matrices")
    groups = make_optimizer(network(), asked, head_faster).param_groups
    assert [(group["weight_decay"], len(group["params"])) for group in groups] == [(0.1, 1), (0.0, 1), (0.5, 2)]


@pytest.mark.parametrize(
    ("optimizer", "option", "expected"),
    [
        ("adam", "betas", None),
        ("sgd", "name", None),
        ("nadam", "betas", "nadam does not read the option 'betas' of a group; expected weight_decay, lr, beta1"),
        ("adam", "learning_rate", "adam does not read the option 'learning_rate' of a group; expected lr"),
        ("sgd", "wd", "sgd does not read the option 'wd' of a group; expected lr, momentum"),
        ("Lion", "own_option", None),
        ("Lion", "learning_rate", ":Lion does not read the option 'learning_rate' of a group; expected lr"),
    ],
)
def test_an_option_that_the_optimizer_would_pass_over_is_refused(optimizer: str, option: str, expected: str | None):
    code: dict[str, Any] = fields(optimizer, learning_rate=0.1) if optimizer == "Lion" else {"optimizer": optimizer}
    value = (0.5, 0.9) if option == "betas" else 0.1

    def make() -> Any:
        asked = TrainingConfiguration(learning_rate=0.1, **code)
        return make_optimizer(network(), asked, lambda model: [{"params": model.parameters(), option: value}])

    if expected is None:
        assert make().param_groups[0][option] == value
    else:
        with pytest.raises(WorkloadError, match=expected):
            make()


@pytest.mark.parametrize(("options", "is_bounded"), [({}, True), ({"lr": 0.1}, False), ({"weight_decay": 0.5}, False)])
def test_groups_with_options_of_their_own_have_no_stability_bound(
    folder: TrialFolder, options: dict[str, Any], is_bounded: bool
):
    """One rate and one rule are bounded."""
    workload = replace(
        plain_workload(),
        parameter_groups=lambda model: [
            {"params": model[0].parameters()},
            {"params": model[2].parameters(), **options},
        ],
    )
    settings = CurvatureSettings(at=(2,), examples=16, measures=("lambda_1", "critical_learning_rate"), eigenvalues=1)
    train_trial(make_request(optimizer="sgd", curvature=settings, max_train_steps=3), folder, lambda: workload)
    (line,) = [item["metrics"] for item in lines_in(folder.measurements) if "curvature/lambda_1" in item["metrics"]]
    assert "curvature/critical_learning_rate" in line
    of_one_rate = {"curvature/ratio", "curvature/bound", "curvature/paper_ratio"}
    assert of_one_rate & line.keys() == (of_one_rate if is_bounded else set())


@pytest.mark.parametrize(
    ("give", "message"),
    [
        (lambda model: None, "expected a list of dicts with `params`, got None (is a return missing?)"),
        (lambda model: {"params": []}, "expected a list of dicts with `params`, got a dict"),
        (lambda model: [{"parameters": []}], "[0]: expected a dict with `params`, got parameters"),
        (lambda model: [{"params": ["a"]}], "[0]: expected parameters of the model in `params`"),
        (
            lambda model: [{"params": [nn.Parameter(torch.zeros(2))]}],
            "expected parameters of the model, got 1 that are",
        ),
        (
            lambda model: [{"params": model[0].parameters()}],
            "got none for 2.weight, 2.bias; write requires_grad_(False)",
        ),
        (
            lambda model: [{"params": model.parameters()}, {"params": [model[0].bias]}],
            "expected each parameter in one group, got 0.bias in several",
        ),
        (lambda model: [{"params": model.parameters(), "lr": -1}], "expected a learning rate of at least 0, got -1"),
    ],
)
def test_groups_that_leave_out_or_repeat_a_parameter_are_refused(give: Callable[..., Any], message: str):
    with pytest.raises(WorkloadError) as refused:
        make_optimizer(network(), TrainingConfiguration("sgd", 0.01), give)
    assert message in str(refused.value)


def test_a_frozen_parameter_needs_no_group_and_may_be_in_one():
    model = network()
    model[0].requires_grad_(False)
    for give in (lambda net: [{"params": net[2].parameters()}], lambda net: [{"params": net.parameters()}]):
        assert make_optimizer(model, TrainingConfiguration("sgd", 0.01), give).param_groups
