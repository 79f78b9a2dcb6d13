"""The flat space of a study: configurations as numbers, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from builders import study

from tunectl.space.flat_space import flat_space
from tunectl.space.trial_plan import typical_trials

EVERY_KIND = {
    "optimizer": "momentum",
    "learning_rate": "{role: nuisance, range: [1e-4, 1], scale: log}",
    "momentum": "{role: nuisance, range: [0.8, 0.995], scale: one_minus_log}",
    "num_layers": "{role: nuisance, range: [1, 9], type: int, scale: log}",
    "width": "{role: nuisance, values: [128, 32, 64]}",
    "activation": "{role: nuisance, values: [tanh, relu]}",
    "batch_size": "64",
}
BAYESIAN = "{sampler: bayesian, after: runs/x, trials: 40}"


def test_every_sampled_configuration_has_a_place_and_comes_back_from_it() -> None:
    spec = study(EVERY_KIND, search=BAYESIAN)
    space = flat_space(spec)
    for trial in typical_trials(spec):
        place = space.place(trial.hyperparameters)
        assert not isinstance(place, str)
        cube, values = space.configuration(place)
        assert list(values) == list(trial.hyperparameters)
        for name, value in trial.hyperparameters.items():
            assert values[name] == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value)
        assert space.configuration(place) == (cube, values)


def test_a_place_is_on_the_scale_of_its_hyperparameter() -> None:
    space = flat_space(study(EVERY_KIND, search=BAYESIAN))
    assert [item.name for item in space.items] == ["learning_rate", "momentum", "num_layers", "width", "activation"]
    _, middle = space.configuration((0.5, 0.5, 3, 2, 0))
    assert middle["learning_rate"] == pytest.approx(1e-2)
    assert middle["momentum"] == pytest.approx(1 - np.sqrt(0.2 * 0.005))
    assert (middle["num_layers"], middle["width"], middle["activation"]) == (3, 128, "tanh")  # numbers in their order


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"learning_rate": 2.0}, "learning_rate is outside its range here"),
        ({"width": 256}, "width is outside its values here"),
        ({"batch_size": 32}, "batch_size is 64 here"),
        ({"batch_size": None}, "batch_size is given here alone"),
        ({"epsilon": 1e-8}, "epsilon is given there alone"),
        ({"momentum": None}, "momentum is outside its range here"),
        ({"width": 64.0, "num_layers": 2.0}, ""),
    ],
)
def test_a_configuration_of_another_space_has_no_place_for_a_reason(changes: dict[str, Any], reason: str) -> None:
    spec = study(EVERY_KIND, search=BAYESIAN)
    values = {**typical_trials(spec)[0].hyperparameters, **changes}
    place = flat_space(spec).place({name: value for name, value in values.items() if value is not None})
    assert (place if isinstance(place, str) else "") == reason


def test_a_space_without_a_range_of_floats_has_a_size() -> None:
    few = {"num_layers": EVERY_KIND["num_layers"], "width": EVERY_KIND["width"]}
    assert flat_space(study(few, search=BAYESIAN)).size == 27
    assert flat_space(study(EVERY_KIND, search=BAYESIAN)).size is None


def test_computed_values_are_no_axis_and_belong_to_a_configuration() -> None:
    spec = study(
        {
            "effective_rate": "{role: nuisance, range: [0.1, 10], scale: log}",
            "momentum": EVERY_KIND["momentum"],
            "learning_rate": "{formula: effective_rate * (1 - momentum)}",
        },
        search=BAYESIAN,
    )
    space = flat_space(spec)
    assert [item.name for item in space.items] == ["effective_rate", "momentum"]
    assert "learning_rate" not in space.fixed
    for trial in typical_trials(spec)[:4]:
        values = dict(trial.hyperparameters)
        place = space.place(values)
        assert not isinstance(place, str)
        assert space.configuration(place)[1]["learning_rate"] == pytest.approx(
            float(values["effective_rate"]) * (1 - float(values["momentum"]))
        )
        assert (
            space.place({**values, "learning_rate": 0.9})
            == "learning_rate is " + str(values["learning_rate"]) + " here"
        )


def test_a_formula_without_a_value_in_the_middle_of_the_space_is_no_obstacle() -> None:
    spec = study(
        {
            "scale": "{role: nuisance, range: [-1.0, 1.0]}",
            "learning_rate": "{formula: 0.01 / abs_scale}",
            "abs_scale": '{formula: "max(scale, -scale)"}',
        },
        search=BAYESIAN,
    )
    space = flat_space(spec)
    assert space.size is None
    assert space.configuration((0.75,))[1]["learning_rate"] == pytest.approx(0.02)
    assert "has no value there" in str(space.place({"scale": 0.0, "learning_rate": 1.0, "abs_scale": 0.0}))
