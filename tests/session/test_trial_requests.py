from __future__ import annotations

from dataclasses import replace

import pytest
from builders import study

from tunectl.core import typed_fields
from tunectl.core.curvature_settings import CurvatureSettings
from tunectl.core.own_code_request import CommandRequest, FunctionRequest
from tunectl.core.own_code_request import request_of as read_request
from tunectl.core.records import FactorySignature, PlannedTrial, TrialKind, TrialRequest, WorkloadReference
from tunectl.session.plan_agreement import disagreement
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


def test_a_request_without_initialisation_is_that_of_an_earlier_version_which_had_no_such_fields() -> None:
    assert not [name for name in request_of(TRIAL).configuration if name.startswith("initialisation")]
    none = replace(TRIAL, hyperparameters={**TRIAL.hyperparameters, "initialisation": "none"})
    assert request_of(none).configuration == request_of(TRIAL).configuration


@pytest.mark.parametrize(("method", "defaults"), [("metainit", (500, 0.1, 0.9)), ("gradinit", (780, 3e-3, 0.9))])
def test_a_request_with_one_has_the_defaults_of_its_paper(method: str, defaults: tuple[float, ...]) -> None:
    names = [f"initialisation_{name}" for name in ("steps", "learning_rate", "momentum")]
    for given in ({}, {names[0]: 7}):
        found = request_of(replace(TRIAL, hyperparameters={**TRIAL.hyperparameters, "initialisation": method, **given}))
        assert [found.configuration[name] for name in names] == [given.get(names[0], defaults[0]), *defaults[1:]]


def test_the_training_of_a_planned_trial_replaces_that_of_the_study() -> None:
    found = request_of(replace(TRIAL, training={"max_train_steps": 20, "eval_every": 5}))
    assert (found.max_train_steps, found.eval_every, found.keep_checkpoints) == (20, 5, SPEC.training.keep_checkpoints)


def test_a_promoted_trial_has_its_schedule_from_the_plan_and_its_values_from_the_study() -> None:
    values = {**TRIAL.hyperparameters, "schedule": "cosine", "decay_steps": 150}
    training = {"max_train_steps": 2000, "decay_steps": 1500}
    promoted = replace(TRIAL, hyperparameters=values, training=training, stage=1)
    found = request_of(promoted)
    assert (found.max_train_steps, found.configuration["decay_steps"]) == (2000, 1500)
    assert disagreement(found.to_json(), promoted) == ""
    assert "decay_steps is 1400 in the plan, 1500 in the request" in disagreement(
        found.to_json(), replace(promoted, training={**training, "decay_steps": 1400})
    )
    assert "max_train_steps is 3000 in the plan" in disagreement(
        found.to_json(), replace(promoted, training={**training, "max_train_steps": 3000})
    )


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


MEASURED = study({"width": "32"}, training="{max_train_steps: 200, eval_every: 50, curvature: {every: 20, mode: eval}}")
SETTINGS = CurvatureSettings(every=20, mode="eval")
PLANNED = CurvatureSettings(at=(0, 5), measures=("lambda_1",))


@pytest.mark.parametrize(
    ("trial_kind", "planned", "measured"),
    [
        ("search", None, SETTINGS),
        ("retrain", None, SETTINGS),
        ("sweep", None, None),
        ("throughput", None, None),
        ("sweep", PLANNED, PLANNED),
        ("search", PLANNED, PLANNED),
    ],
)
def test_curvature_is_measured_as_the_plan_or_else_the_study_says_and_in_a_procedure_as_the_plan_alone(
    trial_kind: TrialKind, planned: CurvatureSettings | None, measured: CurvatureSettings | None
) -> None:
    training = {} if planned is None else {"curvature": typed_fields.untyped(planned)}
    trial = replace(TRIAL, trial_kind=trial_kind, training=training)
    found = trial_request(MEASURED, REFERENCE, SIGNATURE, trial)
    assert isinstance(found, TrialRequest)
    assert found.curvature == measured
    assert read_request(found.to_json()) == found, "request.json holds it"


def test_a_study_without_the_section_measures_nothing() -> None:
    assert trial_request(SPEC, REFERENCE, SIGNATURE, TRIAL).to_json()["curvature"] is None


@pytest.mark.parametrize("trial_kind", ["search", "sweep"])
@pytest.mark.parametrize(
    ("section", "settings"), [(", curvature: {mode: eval}", CurvatureSettings(mode="eval")), ("", None)]
)
def test_a_function_gets_the_settings_in_every_trial_since_it_measures_where_it_asks(
    trial_kind: TrialKind, section: str, settings: CurvatureSettings | None
) -> None:
    spec = study({"optimizer": None}, workload="{function: ./a.py:f}", training=f"{{max_train_steps: 200{section}}}")
    trial = replace(TRIAL, hyperparameters={"learning_rate": 0.1}, trial_kind=trial_kind)
    found = trial_request(spec, REFERENCE, SIGNATURE, trial)
    assert isinstance(found, FunctionRequest)
    assert found.curvature == settings
    assert read_request(found.to_json()) == found


def test_a_request_of_an_earlier_version_has_no_curvature() -> None:
    content = trial_request(MEASURED, REFERENCE, SIGNATURE, TRIAL).to_json()
    del content["curvature"]
    earlier = read_request(content)
    assert isinstance(earlier, TrialRequest)
    assert earlier.curvature is None
