"""Numbers as programs print them.

Their use in a trial is tested in programs/test_decimal_commas.py and programs/test_values_that_cannot_be_read.py.
"""

from __future__ import annotations

import math

import pytest

from tunectl.core.printed_numbers import number, number_around, whole_number, why_unread


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.5", 0.5),
        (" 0.5,", 0.5),
        ("12%", 12.0),
        ("1e-3", 0.001),
        ("3.", 3.0),
        ("Infinity", math.inf),
        ("-inf", -math.inf),
    ],
)
def test_numbers_as_programs_print_them(text: str, value: float) -> None:
    assert number(text) == value


@pytest.mark.parametrize("text", ["", "x", "1_0", "1,500", "0x10", "1,5,5", None, True, [1]])
def test_values_that_are_not_numbers(text: object) -> None:
    assert number(text) is None


def test_steps_are_whole_and_not_negative() -> None:
    assert [whole_number(value) for value in ("10", 10, "10.0", "1e3", "0")] == [10, 10, 10, 1000, 0]
    assert [whole_number(value) for value in ("-1", "0.5", "nan", "inf", "", "1e300", None)] == [None] * 7


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("np.float64(0.8)", 0.8),
        ("tensor(0.25, device='cuda:0', grad_fn=<MeanBackward0>)", 0.25),
        ("array([0.5], dtype=float32)", 0.5),
        ("<tf.Tensor: shape=(), dtype=float32, numpy=0.125>", 0.125),
        ("Fraction(3, 4)", 0.75),
        ("1_000.5", 1000.5),
        ("1,234,567.5", 1234567.5),
        ("0,333", 0.333),
        ("\u22120.5", -0.5),
    ],
)
def test_numbers_of_libraries_and_of_other_countries(text: str, value: float) -> None:
    assert number(text) == value


def test_an_ambiguous_number_is_read_only_as_a_step_and_the_note_says_what_to_do() -> None:
    assert (number("1,234"), whole_number("1,234")) == (None, 1234)
    assert why_unread("1,234") == "may be 1.234 or 1234; print it without the comma"
    assert why_unread("high") == "is not a number"


@pytest.mark.parametrize(
    ("text", "taken", "is_step", "whole"),
    [
        ("loss 0,333", "0", False, "0,333"),
        ("loss 1'234.5", "1", False, "1'234.5"),
        ("loss 0.5 acc 1", "0.5", False, ""),
        ("loss 3,acc", "3", False, ""),
        ("0.1,0.2", "0.2", False, ""),
        ("step 1.5", "1", True, ""),
        ("step 1,500", "1", True, "1,500"),
    ],
)
def test_the_whole_number_around_a_match_is_found(text: str, taken: str, whole: str, *, is_step: bool) -> None:
    start = text.rindex(taken)
    start = text.index(taken) if taken != "0.2" else start
    assert number_around(text, start, start + len(taken), is_step=is_step) == whole
