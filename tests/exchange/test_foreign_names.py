"""Names and values of other tools as a study may have them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tunectl.exchange.foreign_names import (
    changed_choices,
    domain_of,
    legal_names,
    metric_name,
    shortened,
    study_name,
    value_in,
)
from tunectl.exchange.foreign_study import ForeignParameter
from tunectl.space.domains import FixedValue, Range, ValueSet


def test_names_become_identifiers_that_no_table_has_as_a_column_each_its_own():
    found = legal_names(["lr", "layer 0/units", "layer_0_units", "seed", "max_train_steps", "2x", "ü", "é!", "é?", ""])
    assert found == {
        "lr": "lr",
        "layer 0/units": "layer_0_units_2",
        "layer_0_units": "layer_0_units",
        "seed": "seed_",
        "max_train_steps": "max_train_steps_",
        "2x": "_2x",
        "ü": "ü",
        "é!": "é",
        "é?": "é_2",
        "": "parameter",
    }
    assert all(name.isidentifier() for name in found.values())


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("", "valid/value"),
        ("accuracy", "valid/accuracy"),
        ("valid/error_rate", "valid/error_rate"),
        ("top 5 accuracy", "valid/top_5_accuracy"),
        ("test/loss", "valid/test_loss"),
    ],
)
def test_a_metric_is_named_split_and_name(name, metric):
    assert metric_name(name) == metric


def test_a_study_is_called_what_a_folder_may_be():
    assert study_name("my study (v2)") == "my-study-v2"
    assert study_name("…") == "imported"
    assert len(study_name("x" * 300)) == 100


@pytest.mark.parametrize(
    ("parameter", "domain"),
    [
        (ForeignParameter("x", 1e-5, 1e-1, log=True), Range(1e-5, 1e-1, "log")),
        (ForeignParameter("x", 1, 8, log=True, integer=True), Range(1, 8, "log", integer=True)),
        (ForeignParameter("x", 8, 32, integer=True, step=8), ValueSet((8, 16, 24, 32))),
        (ForeignParameter("x", 0.0, 0.5, step=0.25), ValueSet((0.0, 0.25, 0.5))),
        (ForeignParameter("x", 0, 1_000_000, integer=True, step=2), Range(0, 1_000_000, "linear", integer=True)),
        (ForeignParameter("x", 3, 3, integer=True), FixedValue(3)),
        (ForeignParameter("x", choices=("a", 1.5, True)), ValueSet(("a", 1.5, True))),
        (ForeignParameter("x", choices=("only",)), FixedValue("only")),
        (ForeignParameter("x", choices=(None, "None")), ValueSet(("None", "None (1)"))),
        (ForeignParameter("x", choices=(1, "2")), ValueSet(("1", "2"))),
        (ForeignParameter("x", choices=(math.inf, 1.0)), ValueSet(("inf", 1.0))),
        (ForeignParameter("x", choices=("a\nb", "c")), ValueSet(("a b", "c"))),
        (ForeignParameter("x", choices=((1, 2), (3,))), ValueSet(("(1, 2)", "(3,)"))),
    ],
)
def test_what_a_parameter_may_take_becomes_a_range_a_set_or_one_value(parameter, domain):
    assert repr(domain_of(parameter)) == repr(domain)


@pytest.mark.parametrize(
    ("parameter", "value", "expected"),
    [
        (ForeignParameter("x", choices=(None, "None")), None, "None"),
        (ForeignParameter("x", choices=(None, "None")), "None", "None (1)"),
        (ForeignParameter("x", choices=(True, 2)), True, True),
        (ForeignParameter("x", choices=(math.nan, 1.0)), math.nan, "nan"),
        (ForeignParameter("x", 0.0, 0.3, step=0.1), 0.3, 3 * 0.1),
        (ForeignParameter("x", 1, 8, integer=True), 4, 4),
        (ForeignParameter("x", 0.0, 8.0), 4, 4.0),
    ],
)
def test_a_value_becomes_one_of_its_domain(parameter, value, expected):
    found = value_in(parameter, domain_of(parameter), value)
    assert repr(found) == repr(expected)


@pytest.mark.parametrize(
    ("choices", "listed"),
    [
        (["a", "b", 3, 0.5, True], []),
        ([None, "sgd"], ["None is the text 'None'"]),
        ([1, "1"], ["1 is the text '1'", "'1' is the text '1 (1)'"]),
        (["a\nb", "c"], ["'a\\nb' is the text 'a b'"]),
        ([(1, 2)], ["(1, 2) is the text '(1, 2)'"]),
    ],
)
def test_what_became_of_choices_that_a_study_cannot_hold_is_said(choices: list[Any], listed: list[str]) -> None:
    assert changed_choices(choices) == listed


def test_of_many_changed_choices_the_first_are_listed() -> None:
    assert changed_choices([(number,) for number in range(9)])[-1] == "and 4 more"


def test_long_names_are_shortened_and_stay_apart() -> None:
    names = [f"valid/{'x' * 300}{end}" for end in ("a", "b")]
    assert [len(shortened(name, 250)) for name in names] == [250, 250]
    assert shortened(names[0], 250) != shortened(names[1], 250)
    assert shortened("valid/loss", 250) == "valid/loss"
