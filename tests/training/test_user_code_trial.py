"""What the probe finds of a study's own optimizer and schedule. Tests user_code_trial.py and its call in probe.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset
from training_builders import make_request, plain_workload, stochastic_workload
from user_optimizers import fields, used

from tunectl.core.errors import WorkloadError
from tunectl.core.records import TrialRequest
from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.probe import probe
from tunectl.workloads.workload import Workload


def request(name: str, learning_rate: float = 0.01, **changes: Any) -> TrialRequest:
    return filled(fields(name, learning_rate=learning_rate), learning_rate=learning_rate, **changes)


def scheduled(name: str, **changes: Any) -> TrialRequest:
    return filled({"schedule": f"./user_optimizers.py:{name}", "schedule_code": used(name, "schedule")}, **changes)


def filled(code: dict[str, Any], **changes: Any) -> TrialRequest:
    """As a study's request, complete and as JSON."""
    asked = make_request(**code, **changes)
    return replace(asked, configuration=TrainingConfiguration(**asked.configuration).to_json())


def notes(asked: TrialRequest, factory: Callable[..., Workload] = plain_workload) -> tuple[str, ...]:
    return probe(asked, factory, device="cpu").notes


def test_an_optimizer_that_reads_its_rate_once_is_refused_with_a_schedule_which_would_have_no_effect():
    assert notes(request("torch.optim:Rprop"))
    for changes, message in (
        ({"schedule": "linear"}, "only its first update depends"),
        ({"warmup_steps": 4}, "depend"),
    ):
        with pytest.raises(WorkloadError, match=f"{message} on the lr of its groups"):
            notes(request("torch.optim:Rprop", **changes))
        assert notes(request("torch.optim:RMSprop", **changes))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Unsavable", "a checkpoint cannot be saved: optimizer['state'][0]['generator'] is of type torch._C.Generator"),
        ("Zeroing", "its step() clears the gradients"),
        ("Clearing", "its step() clears the gradients"),
        ("LateClosure", "its step() needs a closure"),
        ("Counting", "would not be the same (count is not in it)"),
        ("Stale", "would not be the same"),
        ("FixedRate", "its updates do not depend on the lr of its groups"),
        ("Rateless", "its parameter groups have no lr"),
        ("DriftingModes", "its eval() and train() change its state"),
        ("torch.optim:SparseAdam", "RuntimeError: SparseAdam does not support dense gradients"),
        ("Needing", "it cannot be made: TypeError"),
    ],
)
def test_an_optimizer_with_which_a_trial_would_be_wrong_is_refused_and_why(name: str, message: str):
    asked = request(name)
    if name == "Rateless":
        asked = filled(fields(name))
    with pytest.raises(WorkloadError) as refused:
        notes(asked)
    text = asked.configuration["optimizer"]
    assert str(refused.value).startswith(f"optimizer {text}: ")
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "name", ["Lion", "Noisy", "TensorRate", "Replacing", "SavedCount", "ScheduleFree", "torch.optim:Adagrad", "made"]
)
def test_an_optimizer_that_can_be_used_is_described_and_the_weights_stay_as_they_are(name: str):
    workload = stochastic_workload()
    before = [parameter.detach().clone() for parameter in workload.model.parameters()]
    (line, *_) = notes(request(name), lambda: workload)
    assert line.startswith(f"optimizer {request(name).configuration['optimizer']} is ")
    assert "from the study it gets lr" in line
    assert all(map(torch.equal, workload.model.parameters(), before))


def test_the_description_has_the_place_of_the_class_and_the_defaults_that_the_study_leaves():
    (line,) = notes(request("Lion"))
    assert "/user_optimizers.py:" in line
    assert line.endswith("it keeps its defaults betas (0.9, 0.99), weight_decay 0.0")


def test_a_sparse_gradient_can_be_given_to_an_optimizer_for_sparse_gradients():
    words = TensorDataset(torch.arange(20) % 5, torch.arange(20) % 3)

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")

    def embedding() -> Workload:
        return Workload(
            nn.Embedding(5, 3, sparse=True),
            {"train": words, "valid": words},
            loss,
            lambda model, batch: {"error_rate": model(batch[0]).argmax(dim=1) != batch[1]},
        )

    assert "SparseAdam" in notes(request("torch.optim:SparseAdam"), embedding)[0]


def test_an_optimizer_with_two_sets_of_weights_is_not_averaged_again_and_names_what_it_is_made_for():
    with pytest.raises(WorkloadError, match=r"averages the weights by itself .*leave out polyak_decay"):
        notes(request("ScheduleFree", polyak_decay=0.9))
    _, about_schedule, about_statistics = notes(request("ScheduleFree", schedule="cosine"), stochastic_workload)
    assert about_schedule.endswith("is made for schedule: constant")
    assert about_statistics.endswith("write training.batch_norm_statistics")


def test_a_warmup_begins_with_a_rate_of_zero_which_the_probe_tries():
    assert notes(request("Lion", warmup_steps=5))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ruined", "expected a factor of the learning rate, a number of at least 0, at step 3, got nan"),
        ("said", "at step 0, got '1'"),
        ("drawn", "expected the same factor for the same step, got "),
    ],
)
def test_a_schedule_that_gives_no_factor_or_not_always_the_same_is_refused(name: str, message: str):
    with pytest.raises(WorkloadError) as refused:
        notes(scheduled(name))
    assert str(refused.value).startswith(f"schedule ./user_optimizers.py:{name}: ")
    assert message in str(refused.value)


def test_a_schedule_is_described_by_its_factors_over_the_steps_after_the_warmup():
    expected = "the learning rate times 1 at step 0, 0.25 half way, 0.06855 at step 29"
    assert notes(scheduled("halving")) == (f"schedule ./user_optimizers.py:halving: {expected}",)
    within = notes(scheduled("halving", warmup_steps=10, warmup="within"))
    assert "at step 19" in within[0]


def test_gradinit_is_refused_where_it_is_not_known_whether_the_optimizer_is_adaptive():
    with pytest.raises(WorkloadError, match="gradinit needs to know whether the optimizer is adaptive"):
        notes(
            request(
                "Lion",
                initialisation="gradinit",
                initialisation_steps=2,
                initialisation_learning_rate=0.01,
                initialisation_momentum=0.9,
            )
        )
