"""How values and mistakes are put into words."""

from __future__ import annotations

import math

import pytest

from tunectl.core.wording import as_text, counted, got, listed, nearest, printable, quoted, short_number, short_text
from tunectl.language.configuration import FIELDS


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("lr", "learning_rate"),
        ("wd", "weight_decay"),
        ("beta_1", "beta1"),
        ("beta_2", "beta2"),
        ("eps", "epsilon"),
        ("bs", "batch_size"),
        ("learnin_rate", "learning_rate"),
    ],
)
def test_what_others_call_a_field_is_known(name, meant):
    assert nearest(name, FIELDS) == f"; did you mean {meant}?"


def test_at_most_eight_known_names_are_listed():
    names = [f"name{index}" for index in range(9)]
    assert nearest("zzz", names[:8]).endswith("name6, name7")
    assert nearest("zzz", names).endswith("name6, name7, …")
    assert nearest("lr", ["width"]) == "; known here: width"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        ("1", "'1'"),
        (True, "true"),
        ("true", "'true'"),
        ("null", "'null'"),
        ("", "''"),
        ("a", "a"),
        ("a=b", "'a=b'"),
    ],
)
def test_text_that_could_be_taken_for_something_else_is_quoted(value, text):
    assert quoted(value) == text


def test_counts_are_singular_or_plural_with_their_thousands_apart():
    assert [counted(number, "trial") for number in (0, 1, 2, 12000)] == [
        "0 trials",
        "1 trial",
        "2 trials",
        "12,000 trials",
    ]


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (9517.0, 4, "9517"),
        (12345.6, 4, "12346"),
        (0.016666, 4, "0.01667"),
        (973.2, 2, "973"),
        (-8544.2, 3, "-8544"),
        (2.5e8, 4, "2.5e+08"),
        (0.0, 4, "0"),
        (math.inf, 4, "inf"),
        (math.nan, 2, "nan"),
    ],
)
def test_a_measured_value_is_short_and_whole_where_it_is_large(value, digits, text):
    assert short_number(value, digits) == text


@pytest.mark.parametrize(
    ("value", "exact", "short"),
    [
        (True, "true", "true"),
        (1, "1", "1"),
        (12345678, "12345678", "12345678"),
        (0.1, "0.1", "0.1"),
        (0.123456789, "0.123456789", "0.1235"),
        (1234.56, "1234.56", "1235"),
        (1e-7, "1e-07", "1e-07"),
        (123456789.0, "123456789.0", "1.235e+08"),
        (math.inf, "inf", "inf"),
        (math.nan, "nan", "nan"),
        ("adam", "adam", "adam"),
        ("True", "True", "True"),
    ],
)
def test_a_value_is_exact_or_short_and_true_as_in_a_study_file(value, exact, short):
    assert as_text(value) == exact
    assert short_text(value) == short


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "got nothing"),
        (True, "got true"),
        (0.5, "got 0.5"),
        ("a", "got 'a'"),
        ("5", "got '5' (text); write 5 without quotes"),
        ([], "got an empty list"),
        ([1], "got a list"),
        ({}, "got an empty mapping"),
        ({"a": 1}, "got a mapping"),
        ("x" * 99, f"got '{'x' * 59}…"),
    ],
)
def test_what_an_error_is_about_is_short_and_says_its_kind(value, text):
    assert got(value) == text


def test_what_does_not_print_is_an_escape():
    assert printable("a\tb\n\x1b[31m\ud800é") == "a\\tb\\n\\x1b[31m\\ud800é"


def test_names_are_listed_as_in_a_sentence():
    assert [listed(list(names)) for names in ("", "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]
