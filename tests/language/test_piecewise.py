"""The points of a piecewise schedule. Tests piecewise.py, training_field_checks.py."""

from __future__ import annotations

import numpy as np
import pytest
from builders import problems_of, study

from tunectl.language.configuration import TrainingConfiguration
from tunectl.language.piecewise import EXPECTED, Point, factor_at, read_points, stretched


def test_points_are_shares_or_numbers_of_updates():
    assert read_points("50%: 0.1,75.5 % : 1e-2") == (Point(0.5, True, 0.1), Point(0.755, True, 0.01))
    assert read_points(" 0: 2, 3000: 0 ") == (Point(0, False, 2.0), Point(3000, False, 0.0))


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "0.1",
            "50%",
            "50%: x",
            "50%: -1",
            "50%: nan",
            "50%: inf",
            "101%: 1",
            "-1: 1",
            "2.5: 1",
            "3: 1,",
            "3: 1 2",
        ),
        *("3: 1, 50%: 1", "50%: 1, 50%: 0", "9: 1, 8: 1", "3; 1", "3: 1_0 0"),
    ],
)
def test_a_text_that_is_not_such_points_is_refused(text: str):
    with pytest.raises(ValueError):
        read_points(text)


@pytest.mark.parametrize("linear", [True, False])
def test_the_factor_is_that_of_numpy_s_interpolation(linear: bool):
    points = read_points("4: 0.5, 10: 0.25, 16: 1")
    at, factors = np.array([0, 4, 10, 16]), np.array([1, 0.5, 0.25, 1])
    for update in np.linspace(0, 25, 101):
        expected = np.interp(update, at, factors) if linear else factors[np.searchsorted(at, update, "right") - 1]
        assert factor_at(points, float(update), 99, linear=linear) == pytest.approx(float(expected))


def test_stretched_points_keep_their_order_and_shares_stay():
    assert stretched("50%: 0.1", 3.0) == "50%: 0.1"
    assert stretched("10: 0.1, 40: 0.01", 2.5) == "25: 0.1, 100: 0.01"
    assert stretched("10: 0.1, 11: 0.2, 12: 0.3", 0.1) == "1: 0.1, 2: 0.2, 3: 0.3"


RATE = {"learning_rate": "0.1", "optimizer": "sgd"}


def test_a_piecewise_schedule_needs_points_wherever_it_is_chosen():
    missing = f"hyperparameters.schedule: the schedule is piecewise, and has no piecewise_points; add {EXPECTED}"
    assert problems_of({**RATE, "schedule": "piecewise"}) == [missing]
    either = "{role: scientific, values: [constant, piecewise]}"
    points = "{value: '50%: 0.1', when: {schedule: piecewise}}"
    assert problems_of({**RATE, "schedule": either}, search="{trials: 1}") == [missing]
    assert study({**RATE, "schedule": either, "piecewise_points": points}, search="{trials: 1}")


def test_the_fields_of_an_earlier_version_s_requests_are_the_same():
    plain = TrainingConfiguration("sgd", 0.1).to_json()
    later = {"adamw_learning_rate", "muon_scale", "cooldown_share", "piecewise_points", "grad_clip", "update_clip_rms"}
    assert not later & plain.keys()
    wsd = TrainingConfiguration("muon", 0.1, schedule="wsd", grad_clip="update").to_json()
    assert later - wsd.keys() == {"piecewise_points"}
    assert TrainingConfiguration(**wsd) == TrainingConfiguration("muon", 0.1, schedule="wsd", grad_clip="update")


def test_a_model_is_not_compiled_with_activation_checkpointing_or_where_own_code_trains():
    training = "{max_train_steps: 100, eval_every: 10, compile: true}"
    blocks = {**RATE, "activation_checkpointing": "{role: scientific, values: [none, blocks]}"}
    assert problems_of(blocks, training=training, search="{trials: 1}") == [
        "hyperparameters.activation_checkpointing: expected none with training.compile, got blocks: torch.compile "
        "cannot compile such blocks"
    ]
    assert study({**RATE, "activation_checkpointing": "none"}, training=training).training.compile
    own = problems_of(None, training=training, workload="{command: [python, train.py]}")
    assert any(line.startswith("training.compile: only tunectl's own training loop compiles the model") for line in own)
