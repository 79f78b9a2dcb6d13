"""Tests exchange/foreign_check.py."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from tunectl.core.errors import FolderError
from tunectl.exchange.foreign_check import checked
from tunectl.exchange.foreign_study import ForeignParameter, ForeignStudy, ForeignTrial

PARAMETERS = (
    ForeignParameter("lr", 1e-3, 1.0, log=True),
    ForeignParameter("depth", 1, 8, integer=True, step=1.0),
    ForeignParameter("how", choices=("a", None, math.nan, True, [1])),
)
TRIAL = ForeignTrial(0, "complete", {"lr": 0.1, "depth": 3, "how": [1]}, 0.5, {0: 1.0, 3: math.nan}, 2.0)
STUDY = ForeignStudy("s", "a.db", "minimize", "", PARAMETERS, (TRIAL, replace(TRIAL, number=1, params={})))


def test_a_sound_study_is_taken_as_it_is() -> None:
    assert checked(STUDY) is STUDY
    for choice in ("a", None, math.nan, True):
        assert checked(replace(STUDY, trials=(replace(TRIAL, params={"how": choice}),)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"number": -1}, "number -1"),
        ({"number": "0"}, 'number "0"'),
        ({"value": "x"}, 'its value is "x"'),
        ({"value": 10**400}, "its value is a number of more than 60 digits"),
        ({"curve": {-1: 0.5}}, "value at step -1 is 0.5"),
        ({"curve": {2**70: 0.5}}, "value at step 1180591620717411303424"),
        ({"curve": {1: None}}, "value at step 1 is null"),
        ({"seconds": -3.0}, "it took -3.0 seconds"),
        ({"infeasible_step": True}, "infeasible step is true"),
        ({"params": {"lr": math.inf}}, "lr is Infinity"),
        ({"params": {"lr": "0.1"}}, 'lr is "0.1"'),
        ({"params": {"how": 1}}, "how is 1, which is not one of its choices"),
        ({"params": {"other": 1}}, "is not a parameter"),
    ],
)
def test_a_trial_that_cannot_be_is_refused_by_what_is_wrong_with_it(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(FolderError) as caught:
        checked(replace(STUDY, trials=(replace(TRIAL, **changes),)))
    assert str(caught.value).startswith("a.db: is damaged: ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "parameter",
    [
        ForeignParameter("x", math.nan, 1.0),
        ForeignParameter("x", 0.0, math.inf),
        ForeignParameter("x", 2.0, 1.0),
        ForeignParameter("x", 0.0, 1.0, log=True),
        ForeignParameter("x", 0, 2**70, integer=True),
        ForeignParameter("x", 0.0, 1.0, step=0.0),
        ForeignParameter("x", choices=()),
    ],
)
def test_a_parameter_that_cannot_be_is_refused(parameter: ForeignParameter) -> None:
    with pytest.raises(FolderError, match="the parameter x"):
        checked(replace(STUDY, parameters=(parameter,), trials=()))


def test_two_trials_of_one_number_are_refused() -> None:
    with pytest.raises(FolderError, match="the number 0, which is not a new one"):
        checked(replace(STUDY, trials=(TRIAL, TRIAL)))
