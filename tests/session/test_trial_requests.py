from __future__ import annotations

from dataclasses import replace

import pytest
from builders import study

from tunectl.core.own_code_request import CommandRequest
from tunectl.core.records import FactorySignature, PlannedTrial, TrialKind, TrialRequest, WorkloadReference
from tunectl.session.trial_requests import total_steps, trial_request

REFERENCE = WorkloadReference("tunectl.workloads.digits:mlp", "mlp", module="tunectl.workloads.digits")
SIGNATURE = FactorySignature(parameters=("width",))
SPEC = study({"width": "32"}, training="{max_train_steps: 200, eval_every: 50, recovery: {}}")
TRIAL = PlannedTrial(3, 0, 3, 0, (), {"optimizer": "sgd", "learning_rate": 0.5, "width": 32}, 7)
COMMAND = study(
    {"optimizer": None, "learning_rate": "0.1"},
    workload='{command: ["true", "{learning_rate}"]}',
    training="{max_train_steps: 200}",
)


def request_of(trial: PlannedTrial) -> TrialRequest:
    found = trial_request(SPEC, REFERENCE, SIGNATURE, trial)
    assert isinstance(found, TrialRequest)
    return found


def test_a_request_has_the_defaults_of_the_configuration_written_out() -> None:
    found = request_of(TRIAL)
    assert (found.trial, found.seed, found.max_train_steps, found.eval_every) == (3, 7, 200, 50)
    assert (found.configuration["learning_rate"], found.configuration["batch_size"]) == (0.5, 64)
    assert found.configuration["schedule"] == "constant"
    assert found.arguments == {"width": 32}


def test_the_training_of_a_planned_trial_replaces_that_of_the_study() -> None:
    found = request_of(replace(TRIAL, training={"max_train_steps": 20, "eval_every": 5}))
    assert (found.max_train_steps, found.eval_every, found.keep_checkpoints) == (20, 5, SPEC.training.keep_checkpoints)


@pytest.mark.parametrize(("trial_kind", "recovers"), [("search", True), ("retrain", True), ("sweep", False)])
def test_a_trial_of_a_sweep_does_not_recover_from_an_instability(trial_kind: TrialKind, recovers: bool) -> None:
    found = request_of(replace(TRIAL, trial_kind=trial_kind))
    assert (found.recovery is not None) == recovers


def test_a_command_gets_its_hyperparameters_and_no_configuration() -> None:
    found = trial_request(
        COMMAND, WorkloadReference("true"), SIGNATURE, replace(TRIAL, hyperparameters={"learning_rate": 0.1})
    )
    assert isinstance(found, CommandRequest)
    assert found.hyperparameters == {"learning_rate": 0.1}
    assert found.max_train_steps == 200


def test_a_prepended_warmup_makes_a_trial_longer_and_one_of_own_code_has_the_steps_of_the_study() -> None:
    warmed = replace(TRIAL, hyperparameters={**TRIAL.hyperparameters, "warmup_steps": 50})
    assert [total_steps(SPEC, item) for item in (TRIAL, warmed)] == [200, 250]
    assert total_steps(SPEC, replace(warmed, training={"stop_after": 30})) == 80
    assert total_steps(COMMAND, warmed) == 200
