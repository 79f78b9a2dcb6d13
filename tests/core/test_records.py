"""What the rooms hand to each other survives a way through JSON text."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunectl.core.jsontext import encode
from tunectl.core.measurements import Measurement
from tunectl.core.objective import Objective
from tunectl.core.records import AttemptEnd, PlannedTrial, Recovery, TrialRequest, TrialResult, WorkloadReference

finite = st.floats(allow_nan=False, allow_infinity=False)
hyperparameters = st.dictionaries(
    st.text(min_size=1, max_size=8),
    st.booleans() | st.integers(-(2**53), 2**53) | finite | st.text(max_size=8),
    max_size=5,
)
REQUEST = TrialRequest(
    study="a",
    trial=3,
    seed=7,
    workload=WorkloadReference("./w.py:make", "make", file="/s/w.py", search_path=("/s", "/here")),
    arguments={"width": 64, "bias": True},
    configuration={"learning_rate": 0.1, "grad_clip_norm": None},
    objective=Objective("valid/loss", "minimize", "final"),
    max_train_steps=100,
    eval_every=10,
    keep_checkpoints=2,
)


def through_json(content):
    return json.loads(encode(content))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.lists(finite, max_size=4), hyperparameters, st.integers(0, 2**32 - 1))
def test_a_planned_trial_comes_back_with_its_types_and_the_order_of_its_hyperparameters(trial, point, values, seed):
    planned = PlannedTrial(trial, 1, 2, 0, tuple(point), values, seed)
    back = PlannedTrial.from_json(through_json(planned.to_json()))
    assert back == planned
    assert list(back.hyperparameters) == list(values)
    assert [type(value) for value in back.hyperparameters.values()] == [type(value) for value in values.values()]


@pytest.mark.parametrize("line", [{}, {"trial": 1}, {"coordinates": None, "hyperparameters": {}}])
def test_a_line_that_is_no_planned_trial_is_an_error(line):
    with pytest.raises((KeyError, TypeError)):
        PlannedTrial.from_json(line)


def test_a_request_comes_back_whole():
    content = through_json(REQUEST.to_json())
    assert list(content)[:2] == ["format", "kind"]
    assert TrialRequest.from_json(content) == REQUEST


@pytest.mark.parametrize("found", [0, 2, "1", None])
def test_a_request_of_another_format_is_refused(found):
    with pytest.raises(ValueError, match="format"):
        TrialRequest.from_json({**REQUEST.to_json(), "format": found})


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**9), st.dictionaries(st.text(min_size=1), st.floats()), st.none() | st.floats())
def test_a_measurement_comes_back_also_with_nan_and_the_infinities(step, metrics, norm):
    measured = Measurement(step, metrics, learning_rate=0.1, gradient_norm=norm, checkpoint="step-00000100.pt")
    back = Measurement.from_json(through_json(measured.to_json()))
    assert back is not None
    assert repr(back) == repr(measured)  # repr: NaN is not equal to itself


@pytest.mark.parametrize(
    "line",
    [
        {},
        {"step": 1},
        {"step": -1, "metrics": {}},
        {"step": True, "metrics": {}},
        {"step": 1.0, "metrics": {}},
        {"step": "1", "metrics": {}},
        {"step": 1, "metrics": []},
        {"metrics": {}},
    ],
)
def test_a_line_that_is_no_measurement_is_none(line):
    assert Measurement.from_json(line) is None


def test_a_metric_that_is_no_number_is_left_out_of_a_measurement():
    line = {"step": 1, "metrics": {"a": 1, "b": "x", "c": None, "d": True, "e": "nan", "f": 10**400}, "checkpoint": 5}
    measured = Measurement.from_json(line)
    assert measured is not None
    assert set(measured.metrics) == {"a", "e"}
    assert math.isnan(measured.metrics["e"])
    assert measured.checkpoint is None


def test_a_result_comes_back_and_keys_of_a_later_version_are_left_out():
    result = TrialResult(3, "infeasible", "nan_loss", "loss was NaN", infeasible_step=17, train_seconds=1.5)
    assert TrialResult.from_json({**through_json(result.to_json()), "new_key": 1}) == result


def test_an_attempt_is_written_as_its_fields():
    assert AttemptEnd(1, "released", reached=7).to_json()["reached"] == 7
    assert AttemptEnd(1, "crashed", "SIGKILL").to_json() == {
        "attempt": 1,
        "reason": "crashed",
        "message": "SIGKILL",
        "final": False,
        "device": "",
    }


def test_a_request_s_recovery_comes_back_and_an_older_request_has_none():
    request = replace(REQUEST, recovery=Recovery(0.1, 2))
    assert TrialRequest.from_json(through_json(request.to_json())) == request
    older = through_json(REQUEST.to_json())
    del older["recovery"]
    assert TrialRequest.from_json(older) == REQUEST


def test_a_request_without_a_target_is_written_as_before_and_one_with_it_comes_back():
    assert set(through_json(REQUEST.to_json())["objective"]) == {"metric", "direction", "checkpoint"}
    request = replace(REQUEST, objective=Objective("valid/loss", "minimize", steps_to=0.25))
    content = through_json(request.to_json())
    assert content["objective"]["steps_to"] == 0.25
    assert TrialRequest.from_json(content) == request
    assert TrialRequest.from_json(through_json(REQUEST.to_json())) == REQUEST
