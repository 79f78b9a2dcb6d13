from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tunectl.core.errors import StudyError, WorkloadError
from tunectl.core.probe_errors import NO_BATCH_NORM
from tunectl.core.probed_trial import ProbedTrial
from tunectl.core.records import BatchNormStatistics, FactorySignature, PlannedTrial, Scalar
from tunectl.execution.devices import CPU
from tunectl.execution.slots import make_slots
from tunectl.session.checked_study import check_study
from tunectl.session.probed_study import arguments_in_common, probe_workload, trials_to_probe
from tunectl.space.trial_plan import plan_trials


def planned(trial: int, setting: int, **hyperparameters: Scalar) -> PlannedTrial:
    return PlannedTrial(trial, setting, trial, 0, (), hyperparameters, 0)


def test_every_setting_and_every_value_of_a_set_is_tried_once_and_floats_are_not() -> None:
    trials = [
        planned(0, 0, activation="relu", learning_rate=0.1),
        planned(1, 1, activation="relu", learning_rate=0.2),
        planned(2, 0, activation="relu", learning_rate=0.3),
        planned(3, 1, activation="gelu", learning_rate=0.4),
        planned(4, 0, activation="gelu", learning_rate=0.5),
    ]
    assert [trial.trial for trial in trials_to_probe(trials)] == [0, 1, 3]


def test_a_thousand_values_are_not_all_tried() -> None:
    assert len(trials_to_probe([planned(number, 0, width=number) for number in range(1000)])) == 50


def test_what_all_trials_have_in_common_is_what_is_preloaded() -> None:
    signature = FactorySignature(parameters=("data", "width", "depth"))
    trials = [
        planned(0, 0, data="cifar", width=4, learning_rate=0.1),
        planned(1, 1, data="cifar", width=8, learning_rate=0.1, depth=2),
    ]
    assert arguments_in_common(signature, trials) == {"data": "cifar"}
    assert arguments_in_common(signature, trials[:1]) == {"data": "cifar", "width": 4}
    assert arguments_in_common(signature, []) == {}
    assert arguments_in_common(signature, trials, own_code=True) == {"data": "cifar"}


STUDY = """
workload: ./nets.py:net
objective: {{metric: valid/loss, direction: minimize}}
training: {{max_train_steps: 2, eval_every: 1, batch_norm_statistics: {{batches: 2}}}}
hyperparameters: {{optimizer: sgd, learning_rate: 0.1, normalization: {normalization}}}
search: {{sampler: grid}}
"""


class Probing:
    """A backend whose probes say that a model has no batch normalisation where its `normalization` is none."""

    def load(self, reference: Any, *_: Any) -> None:
        pass

    def wait_ready(self, _stop: Any) -> Any:
        return SimpleNamespace(signature=None, messages=())

    def probe(self, request: Any, _slot: Any, _stop: Any) -> ProbedTrial:
        assert request.batch_norm_statistics == BatchNormStatistics(2)
        if request.arguments["normalization"] == "none":
            raise WorkloadError(f"the workload does not work: {NO_BATCH_NORM}")
        return ProbedTrial(100)


@pytest.mark.parametrize(
    ("normalization", "is_refused"),
    [
        ("{role: scientific, values: [none, batch]}", False),
        ("none", True),
    ],
)
def test_a_model_without_batch_normalisation_is_an_error_where_no_model_of_the_study_has_it(
    tmp_path: Path, normalization: str, is_refused: bool
) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(STUDY.format(normalization=normalization))
    (tmp_path / "nets.py").write_text("def net(*, normalization): ...\n")
    checked = check_study(study, tmp_path)
    backend: Any = Probing()
    trials, slots = plan_trials(checked.spec), make_slots([CPU], count=1)
    if not is_refused:
        assert probe_workload(backend, checked, trials, slots, lambda: 0).checkpoint_bytes == 100
        return
    with pytest.raises(StudyError) as error:
        probe_workload(backend, checked, trials, slots, lambda: 0)
    (problem,) = error.value.problems
    assert (problem.line, problem.path) == (4, "training.batch_norm_statistics")
    assert problem.message.startswith("the model has no layer of torch's batch normalisation")
