from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from each_case import each_case

from tunectl.core.curvature_settings import CurvatureSettings
from tunectl.core.final_training import FoldedData
from tunectl.core.objective import Objective
from tunectl.core.records import PlannedTrial, TrialRequest, WorkloadReference
from tunectl.language.configuration import TrainingConfiguration
from tunectl.session.last_training import LastTraining
from tunectl.session.plan_agreement import disagreement
from tunectl.store.plan_file import append_plan, read_plan
from tunectl.training.schedules import learning_rate

DATA = FoldedData({"train": 800, "valid": 200, "test": 50}, "alike")
STEPS = 100


def last(updates: int, *, same_epochs: bool = False, metric: str = "valid/error", **values: Any) -> LastTraining:
    hyperparameters = {"optimizer": "momentum", "learning_rate": 0.1, **values}
    configuration = TrainingConfiguration.from_hyperparameters(hyperparameters)
    asked = TrialRequest(
        study="s",
        trial=7,
        seed=11,
        workload=WorkloadReference("m:f", "f", module="m"),
        arguments={"width": 3},
        configuration=configuration.to_json(),
        objective=Objective(metric, "minimize", steps_to=0.2),
        max_train_steps=STEPS,
        eval_every=10,
        keep_checkpoints=3,
        curvature=CurvatureSettings(),
    )
    plan = PlannedTrial(7, 1, 4, 0, (0.5,), {"width": 3, **hyperparameters}, 11)
    return LastTraining(plan, asked, updates, same_epochs)


def rates(request: TrialRequest) -> list[float]:
    configuration = TrainingConfiguration(**request.configuration)
    updates = configuration.total_steps(request.trained_steps)
    return [learning_rate(configuration, request.max_train_steps, update) for update in range(updates)]


def test_a_promoted_trial_is_trained_with_the_schedule_of_its_own_stage() -> None:
    found = last(100, schedule="linear", decay_steps=40, post_warmup_steps=60)
    short: dict[str, Any] = {"width": 3, "optimizer": "momentum", "learning_rate": 0.1, "schedule": "linear"}
    carried = {"max_train_steps": STEPS, "decay_steps": 40, "post_warmup_steps": 60}
    promoted = replace(found, plan=replace(found.plan, hyperparameters=short, training=carried, stage=1))
    trained = {**short, "decay_steps": 40, "post_warmup_steps": 60}
    assert promoted.trial("final", DATA).hyperparameters == trained == promoted.hyperparameters(DATA)
    longer = replace(promoted, same_epochs=True).hyperparameters(DATA)
    assert (longer["decay_steps"], longer["post_warmup_steps"]) == (50, 75)


SCHEDULES: list[dict[str, Any]] = [
    {},
    {"schedule": "linear", "decay_steps": 60, "end_learning_rate_factor": 0.1},
    {"schedule": "cosine", "warmup_steps": 20},
    {"schedule": "cosine", "warmup_steps": 20, "warmup": "within", "post_warmup_steps": 12},
    {"schedule": "step", "warmup_steps": 20, "post_warmup_steps": 8},
    {"schedule": "inverse_sqrt", "warmup_steps": 20},
]


@each_case("values", SCHEDULES)
@each_case("updates", [1, 10, 20, 21, 70, 100])
def test_every_update_has_the_learning_rate_that_it_had_in_the_study(values: dict[str, Any], updates: int) -> None:
    training = last(updates, **values)
    configuration = TrainingConfiguration(**training.asked.configuration)
    before = [learning_rate(configuration, STEPS, update) for update in range(updates)]
    assert rates(training.request(DATA)) == before
    assert training.trained_updates(DATA) == updates


@pytest.mark.parametrize("values", SCHEDULES)
def test_the_whole_training_is_not_cut_off(values: dict[str, Any]) -> None:
    whole = TrainingConfiguration.from_hyperparameters({"optimizer": "sgd", "learning_rate": 1, **values})
    request = last(whole.total_steps(STEPS), **values).request(DATA)
    assert request.stop_after is None
    assert (request.max_train_steps, request.configuration["warmup_steps"]) == (STEPS, values.get("warmup_steps", 0))


@each_case("values", SCHEDULES)
@each_case("updates", [10, 20, 40, 80, 100])
def test_with_the_same_epochs_every_epoch_has_the_learning_rates_that_it_had(
    values: dict[str, Any], updates: int
) -> None:
    # The training set grows by a quarter: every fourth update of the study is every fifth one now.
    training = last(updates, same_epochs=True, **values)
    now = rates(training.request(DATA))
    assert len(now) == updates * 5 // 4 == training.trained_updates(DATA)
    configuration = TrainingConfiguration(**training.asked.configuration)
    before = [learning_rate(configuration, STEPS, update) for update in range(updates)]
    pairs = [(before[4 * part], now[5 * part]) for part in range(updates // 4)]
    if values.get("schedule") == "step":  # the drops of a third of 80 and of 100 updates are at other parts of them
        pairs = [pair for pair in pairs if pair[0] == pair[1] or pair[0] < 0.1]
        assert len(pairs) >= min(5, updates // 4)
    assert [one for one, _ in pairs] == pytest.approx([other for _, other in pairs])


def test_the_last_state_counts_and_is_measured_on_train_as_no_split_is_left_to_select_by() -> None:
    request = last(50).request(DATA)
    assert request.objective == Objective("train/error", "minimize", checkpoint="final")
    assert (request.keep_checkpoints, request.train_examples, request.curvature) == (1, 200, None)
    assert last(50, metric="other/error").request(DATA).objective.metric == "other/error"
    assert last(50).request(None).train_examples is None


@pytest.mark.parametrize("same_epochs", [False, True])
def test_its_trials_are_kept_in_the_plan_and_agree_with_their_requests(tmp_path: Any, same_epochs: bool) -> None:
    training = last(10, same_epochs=same_epochs, warmup_steps=20, warmup="prepend", schedule="cosine")
    trials = [training.trial("data", None), training.trial("final", DATA), training.trial("test", DATA)]
    append_plan(tmp_path / "plan.jsonl", trials)
    assert read_plan(tmp_path / "plan.jsonl") == trials
    assert [trial.trial_kind for trial in trials] == ["data", "final", "test"]
    for trial in trials:
        assert TrialRequest.from_json(trial.training["request"]).seed == 11 == trial.seed
        assert disagreement({**trial.training["request"], "trial": trial.trial}, trial) == ""
