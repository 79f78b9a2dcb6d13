from __future__ import annotations

import math
from typing import Any

import pytest
from torch import Tensor, nn
from training_builders import (
    Augmented,
    StopAt,
    comparable,
    cross_entropy,
    error_rate,
    labelled,
    make_request,
    parabola,
    train_trial,
)
from trial_records import ended, lines_in

from tunectl.analysis.results.runs import joined
from tunectl.analysis.results.selection import select
from tunectl.core.folders import TrialFolder
from tunectl.core.objective import Objective
from tunectl.core.records import Recovery, TrialRequest
from tunectl.store.step_files import read_updates
from tunectl.store.trial_files import read_trial
from tunectl.workloads.workload import Workload

LOSS = Objective("valid/loss", "minimize")


def unstable(**changes: Any) -> TrialRequest:
    """At a rate of 1.6 it grows by 2.2 an update, and is infinite after about 56; at half of it, it converges."""
    own = {"optimizer": "sgd", "learning_rate": 1.6, "objective": LOSS, "recovery": Recovery(0.5, 3)}
    return make_request(**{**own, "max_train_steps": 120, "eval_every": 100, **changes})


def recoveries(folder: TrialFolder) -> list[dict[str, Any]]:
    return lines_in(folder.recoveries)


def other(tmp_path: Any, name: str = "other") -> TrialFolder:
    folder = TrialFolder(tmp_path / name)
    folder.path.mkdir()
    return folder


def test_without_recovery_the_trial_is_lost(folder):
    result = ended(train_trial(unstable(recovery=None), folder, parabola))
    assert (result.state, result.reason) == ("infeasible", "nan_loss")
    assert not folder.recoveries.exists()


def test_at_a_nan_the_trial_goes_back_and_trains_as_if_the_rate_had_been_the_smaller_one(folder, tmp_path):
    result = ended(train_trial(unstable(), folder, parabola))
    smaller = other(tmp_path)
    assert ended(train_trial(unstable(learning_rate=0.8, recovery=None), smaller, parabola)).state == "completed"
    assert folder.steps.read_bytes() == smaller.steps.read_bytes()
    assert comparable(folder)["measurements"] == comparable(smaller)["measurements"]
    assert (result.state, result.reason, result.final_step) == ("infeasible", "recovered", 120)
    assert result.infeasible_step is not None
    assert 50 < result.infeasible_step < 62
    assert "it went back to a good state once and ended with 0.5 times its learning rate" in result.message
    (line,) = recoveries(folder)
    assert (line["recovery"], line["reason"], line["returned_to"]) == (1, "nan_loss", 0)
    assert (line["update"], line["learning_rate_factor"]) == (result.infeasible_step, 0.5)
    assert line["steps"][0]["learning_rate"] == [1.6] * (line["update"] + 1), "the abandoned stretch"


def test_a_recovered_trial_has_its_best_value_and_whole_series_in_what_the_tables_are_made_of(folder):
    result = ended(train_trial(unstable(eval_every=10), folder, parabola))
    files, updates = read_trial(folder), joined(read_updates(folder))
    assert result.reason == "recovered"
    assert [item.step for item in files.measurements] == list(range(0, 121, 10))
    best = select(files.measurements, LOSS).best_value
    assert best is not None
    assert best < 1e-6
    assert len(updates) == 120
    back = [line["returned_to"] for line in recoveries(folder)]
    assert updates.learning_rate.tolist() == [1.6] * back[-1] + [0.8] * (120 - back[-1])


@pytest.mark.parametrize(("eval_every", "back"), [(5, 0), (10, 0), (20, 0)])
def test_at_an_evaluation_that_finds_the_rule_of_diverged_the_trial_goes_back(folder, eval_every, back):
    result = ended(train_trial(unstable(eval_every=eval_every), folder, parabola))
    (line,) = recoveries(folder)
    assert (line["reason"], line["returned_to"]) == ("diverged", back)
    assert result.infeasible_step == line["update"] == max(10, eval_every) - 1, "judged by 10 updates at least"
    assert [found["step"] for found in line["measurements"]] == list(
        range(back + eval_every, line["update"] + 2, eval_every)
    )


def test_a_loss_that_is_infinite_at_the_last_evaluation_is_recovered_from_too(folder):
    request = unstable(learning_rate=1e25, recovery=Recovery(1e-25, 1), max_train_steps=1)
    result = ended(train_trial(request, folder, parabola))
    assert (result.reason, result.infeasible_step) == ("recovered", 0)
    assert recoveries(folder)[0]["value"] in ("inf", "nan")


def test_when_all_recoveries_are_spent_the_trial_ends_as_one_that_has_none(folder):
    result = ended(train_trial(unstable(learning_rate=100.0, recovery=Recovery(0.9, 2)), folder, parabola))
    assert (result.state, result.reason) == ("infeasible", "nan_loss")
    assert [line["learning_rate_factor"] for line in recoveries(folder)] == pytest.approx([0.9, 0.81])
    assert "it went back to a good state 2 times and ended with 0.81 times its learning rate" in result.message
    updates = joined(read_updates(folder))
    assert updates.learning_rate[0] == pytest.approx(81.0)
    assert math.isinf(updates.loss[-1])
    assert result.infeasible_step == len(updates) - 1


def test_a_trial_that_is_never_good_has_nothing_to_go_back_to(folder):
    def broken() -> Workload:
        workload = parabola()
        nn.init.constant_(workload.model.get_parameter("w"), math.nan)
        return workload

    result = ended(train_trial(unstable(), folder, broken))
    assert (result.reason, result.infeasible_step) == ("nan_loss", 0)
    assert recoveries(folder) == []


def stochastic_unstable() -> Workload:
    """Dropout, batch statistics and noise, with an output that a large rate makes infinite."""

    class Growing(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            return values * values.abs().mean().exp()

    model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.3), nn.Linear(12, 3), Growing())
    data = {"train": Augmented(labelled(50)), "valid": Augmented(labelled(20, seed=1))}
    return Workload(model, data, cross_entropy, error_rate, baseline_loss=1.0986)


@pytest.mark.parametrize(
    ("changes", "stop", "every"),
    [
        ({}, 3, 0.0),
        ({}, 4, 1e9),
        ({"data_workers": 1}, 15, 1e9),
        ({"polyak_decay": 0.8, "accumulate_steps": 2, "no_progress": False}, 5, 1e9),
        ({"precision": "float16"}, 7, 0.0),
    ],
)
def test_a_recovering_trial_that_is_stopped_again_and_again_is_the_same_trial(folder, tmp_path, changes, stop, every):
    request = make_request(learning_rate=2.0, recovery=Recovery(0.1, 4), keep_checkpoints=2, **changes)
    whole = other(tmp_path)
    expected = ended(train_trial(request, whole, stochastic_unstable, save_every_seconds=1e9))
    assert expected.reason == "recovered"
    attempts = 1
    while (
        result := train_trial(request, folder, stochastic_unstable, stop=StopAt(stop), save_every_seconds=every)
    ) is None:
        attempts += 1
        assert attempts < 100
    assert attempts > 30 // stop
    assert (result.reason, result.infeasible_step, result.message) == (
        expected.reason,
        expected.infeasible_step,
        expected.message,
    )
    assert comparable(folder) == comparable(whole)
    assert without_times(recoveries(folder)) == without_times(recoveries(whole))


def without_times(lines: list[Any]) -> list[Any]:
    for line in lines:
        for found in line["measurements"]:
            del found["elapsed_seconds"]
    return lines
