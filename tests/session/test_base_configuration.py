"""The base configuration of a procedure, from what the study fixes and what the user gives."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import NUISANCE_RATE, study

from tunectl.core.errors import UsageError
from tunectl.core.wording import as_text
from tunectl.session.base_configuration import base_configuration, values_at, values_of_trial
from tunectl.space.trial_plan import plan_trials

RATE = frozenset({"learning_rate"})
CONDITIONAL = {
    "optimizer": "{role: scientific, values: [adam, momentum]}",
    "learning_rate": NUISANCE_RATE,
    "momentum": "{role: nuisance, when: {optimizer: momentum}, range: [0.8, 0.99]}",
    "beta1": "{role: nuisance, when: {optimizer: adam}, range: [0.8, 0.99]}",
    "width": "64",
}
SEARCH = "{trials: 4}"


def test_a_study_that_is_fixed_is_settled_and_what_is_swept_may_vary():
    spec = study({"learning_rate": NUISANCE_RATE, "width": "64"}, search=SEARCH)
    assert base_configuration(spec, RATE, {}, "lr-sweep") == {"optimizer": "sgd", "width": 64}
    fixed = study({"learning_rate": "0.2"})
    assert base_configuration(fixed, RATE, {}, "lr-sweep") == {"optimizer": "sgd", "learning_rate": 0.2}


def test_what_varies_is_refused_all_at_once_with_its_values():
    spec = study({**CONDITIONAL, "width": "{role: nuisance, values: [32, 64]}"}, search=SEARCH)
    with pytest.raises(UsageError) as caught:
        base_configuration(spec, RATE, {}, "lr-sweep")
    said = str(caught.value)
    assert "optimizer: adam, momentum" in said
    assert "width: 32, 64" in said
    assert "--values-from DIR/TRIAL" in said
    assert "learning_rate" not in said


def test_given_values_settle_and_decide_which_conditions_hold():
    spec = study(CONDITIONAL, search=SEARCH)
    found = base_configuration(spec, RATE, {"optimizer": "momentum", "momentum": 0.9}, "lr-sweep")
    assert found == {"optimizer": "momentum", "momentum": 0.9, "width": 64}
    with pytest.raises(UsageError, match=r"beta1: \[0.8, 0.99\]"):
        base_configuration(spec, RATE, {"optimizer": "adam", "momentum": 0.9}, "lr-sweep")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"optimzer": "adam"}, "no such hyperparameter; did you mean optimizer"),
        ({"optimizer": "sgd", "momentum": 0.9}, "expected one of adam, momentum for optimizer, got sgd"),
        ({"optimizer": "momentum", "momentum": 1.5}, "momentum is a number of at least 0 and below 1"),
        ({"optimizer": "momentum", "momentum": "high"}, "momentum"),
        ({"width": 32}, "the study fixes width at 64"),
    ],
)
def test_a_value_that_the_study_cannot_take_is_refused(given, said):
    with pytest.raises(UsageError, match=said):
        base_configuration(study(CONDITIONAL, search=SEARCH), RATE, given, "lr-sweep")


def test_values_are_read_like_those_of_a_study_file():
    found = values_at(["a=1e-3", "b = 64", "c=true", "d=no", "e=x=y"])
    assert found == {"a": 0.001, "b": 64, "c": True, "d": "no", "e": "x=y"}
    for text in ("a", "=1", "a=", "a=~"):
        with pytest.raises(UsageError, match="NAME=VALUE"):
            values_at([text])


def test_a_trial_is_named_by_its_study_folder_and_its_id(tmp_path: Path):
    with pytest.raises(UsageError, match="DIR/TRIAL"):
        values_of_trial(tmp_path)
    with pytest.raises(UsageError, match="is not a study folder"):
        values_of_trial(tmp_path / "3")


@pytest.mark.parametrize("flag", [True, 1, 1.0])
def test_true_and_1_settle_different_alternatives_as_in_the_plan(flag):
    """`flag: values [true, 1]` with a width for each: the width that is swept is the one that the plan trains."""
    spec = study(
        {
            "learning_rate": NUISANCE_RATE,
            "flag": "{role: scientific, values: [1, true]}",
            "width": "[{value: 8, when: {flag: 1}}, {value: 64, when: {flag: true}}]",
            "depth": "{role: nuisance, values: [2, 3], when: {width: 64}}",
        },
        search=SEARCH,
    )
    planned = {repr(trial.hyperparameters["flag"]): trial.hyperparameters["width"] for trial in plan_trials(spec)}
    assert planned == {"1": 8, "True": 64}
    given = {"flag": flag} | ({"depth": 2} if flag is True else {})
    found = base_configuration(spec, RATE, given, "lr-sweep")
    assert found["width"] == (64 if flag is True else 8)
    assert ("depth" in found) is (flag is True)
    asked = values_at([f"flag={as_text(flag)}", *(["depth=2"] if flag is True else [])])
    assert repr(base_configuration(spec, RATE, asked, "lr-sweep")) == repr(found)
