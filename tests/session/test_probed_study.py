from __future__ import annotations

from tunectl.core.records import FactorySignature, PlannedTrial, Scalar
from tunectl.session.probed_study import arguments_in_common, trials_to_probe


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
