"""JSON as it is written and read: exact numbers, non-finite ones as text."""

from __future__ import annotations

import json
import math
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunectl.core.jsontext import encodable, encode, number, one_line

scalars = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)


@settings(max_examples=80, deadline=None)
@given(values)
def test_a_value_is_written_on_one_line_and_read_back_exactly(value):
    line = encode(value)
    assert "\n" not in line
    assert json.loads(line) == value


@settings(max_examples=150, deadline=None)
@given(st.floats())
def test_every_float_is_read_back_bit_for_bit_also_nan_and_the_infinities(value):
    back = number(json.loads(encode({"loss": value}))["loss"])
    assert back is not None
    if math.isnan(value):
        assert math.isnan(back)
    else:
        assert (back, math.copysign(1, back)) == (value, math.copysign(1, value))


@pytest.mark.parametrize(("value", "text"), [(math.nan, '"nan"'), (math.inf, '"inf"'), (-math.inf, '"-inf"')])
def test_a_non_finite_number_is_text_at_every_depth(value, text):
    assert encode({"a": [{"b": (1.5, value)}]}) == '{"a": [{"b": [1.5, ' + text + "]}]}"


def test_names_keep_their_letters():
    assert encode({"größe": "µ"}) == '{"größe": "µ"}'


@pytest.mark.parametrize("value", [True, False, None, "0.5", "NaN", "Infinity", "", [], {}, 10**400])
def test_a_value_that_is_not_a_number_is_none(value):
    assert number(value) is None


@settings(max_examples=80, deadline=None)
@given(st.text(st.characters(codec="utf-8")))
def test_text_that_utf_8_can_encode_is_unchanged(text):
    assert encodable(text) == text


def test_half_a_surrogate_pair_becomes_its_escape():
    assert encodable("\udcffé\ud800") == "\\udcffé\\ud800"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("nan_loss", "nan_loss"),
        ("", ""),
        (" a \n\tb\r\n\u2028 c\x85", "a b c"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\ud800 µ\u202e", "\\ud800 µ\\u202e"),
        (3.5, "3.5"),
    ],
)
def test_a_text_for_people_is_one_line_without_control_characters(text, line):
    assert one_line(text) == line
    assert line.isprintable()


@pytest.mark.parametrize("indent", [None, 2])
def test_a_file_name_that_is_not_utf_8_is_written_as_json_and_read_back(indent):
    value = {"path\udce9": [os.fsdecode(b"/caf\xe9"), "é → 学", math.inf]}
    text = encode(value, indent=indent)
    assert json.loads(text.encode("utf-8")) == {"path\udce9": ["/caf\udce9", "é → 学", "inf"]}
    assert "é → 学" in text
