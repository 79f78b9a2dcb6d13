"""Plain scalars by the core schema of YAML 1.2.2, where PyYAML alone follows YAML 1.1.

Source: https://yaml.org/spec/1.2.2/#1032-tag-resolution
"""

from __future__ import annotations

import math
import re

import pytest
from each_case import each_case
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tunectl.core.scalars import scalar
from tunectl.language.document import parse_document

TABLE = [
    # null
    ("null", None),
    ("Null", None),
    ("NULL", None),
    ("~", None),
    ("", None),
    ("nULL", "nULL"),
    ("None", "None"),
    ("none", "none"),
    # bool: YAML 1.1's yes, no, on, off are text
    ("true", True),
    ("True", True),
    ("TRUE", True),
    ("false", False),
    ("False", False),
    ("FALSE", False),
    ("tRUE", "tRUE"),
    ("yes", "yes"),
    ("no", "no"),
    ("No", "No"),
    ("on", "on"),
    ("off", "off"),
    ("y", "y"),
    # int
    ("0", 0),
    ("-0", 0),
    ("+12", 12),
    ("-19", -19),
    ("010", 10),
    ("0008", 8),
    ("-010", -10),
    ("0o10", 8),
    ("0o7", 7),
    ("0o8", "0o8"),
    ("-0o7", "-0o7"),
    ("0O7", "0O7"),
    ("0x1F", 31),
    ("0xdeadBEEF", 0xDEADBEEF),
    ("0X1F", "0X1F"),
    ("+0x1F", "+0x1F"),
    ("0x", "0x"),
    ("0b101", "0b101"),
    ("1_000", "1_000"),
    ("12:30", "12:30"),
    ("190:20:30", "190:20:30"),
    # float
    ("1e-3", 1e-3),
    ("1E4", 1e4),
    ("1e4", 1e4),
    ("1.0e4", 1e4),
    ("1.0e+4", 1e4),
    ("+1e-3", 1e-3),
    ("-1E-3", -1e-3),
    (".5", 0.5),
    ("-.5", -0.5),
    ("5.", 5.0),
    ("5.e1", 50.0),
    ("0.", 0.0),
    ("-0.0", -0.0),
    ("012e3", 12000.0),
    (".inf", math.inf),
    ("+.inf", math.inf),
    ("-.Inf", -math.inf),
    (".INF", math.inf),
    (".nan", math.nan),
    (".NaN", math.nan),
    (".NAN", math.nan),
    ("-.nan", "-.nan"),
    (".iNF", ".iNF"),
    ("inf", "inf"),
    ("nan", "nan"),
    ("Infinity", "Infinity"),
    (".", "."),
    ("e3", "e3"),
    ("1e", "1e"),
    ("1e+", "1e+"),
    (".e3", ".e3"),
    ("1.2.3", "1.2.3"),
    ("--1", "--1"),
    ("1 000", "1 000"),
    ("1e-3x", "1e-3x"),
    ("٣", "٣"),  # a digit, but not an ASCII one
    ("2026-01-01", "2026-01-01"),
    ("=", "="),
    ("<<", "<<"),
]


def same_value_and_type(left, right):
    if isinstance(left, float) and isinstance(right, float):
        return (math.isnan(left) and math.isnan(right)) or (left, math.copysign(1, left)) == (
            right,
            math.copysign(1, right),
        )
    return type(left) is type(right) and left == right


@each_case(("text", "value"), TABLE)
def test_a_plain_scalar_is_what_the_core_schema_says(text, value):
    assert same_value_and_type(scalar(text), value)


@each_case(("text", "value"), TABLE)
def test_a_scalar_in_a_study_is_the_same_and_its_quoted_form_stays_text(text, value):
    content = parse_document(f"- {text}\n- '{text}'\n- \"{text}\"\n", "s.yaml").content
    assert same_value_and_type(content[0], value)
    assert content[1:] == [text, text]


# Written from the table of section 10.3.2, apart from the code.
_CORE = {
    type(None): r"(null|Null|NULL|~|)",
    bool: r"(true|True|TRUE|false|False|FALSE)",
    int: r"([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)",
    float: r"([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?(\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN)",
}


@settings(max_examples=400, deadline=None)
@given(st.text("0123456789+-.eExXoOabfFINnulUL~_:tTrRsS", max_size=9))
@example("1\n")
def test_the_type_of_any_plain_scalar_follows_the_first_rule_of_the_schema_that_fits(text):
    expected = next((kind for kind, rule in _CORE.items() if re.fullmatch(rule, text)), str)
    assert type(scalar(text)) is expected
    if expected is str:
        assert scalar(text) == text


@pytest.mark.parametrize("text", ["9" * 5_000, "-" + "9" * 5_000])
def test_digits_without_end_neither_fail_nor_hang(text):
    assert scalar(text) == math.copysign(math.inf, -1 if text[0] == "-" else 1)


def test_the_longest_whole_numbers_are_exact():
    assert scalar("1" * 400) == int("1" * 400)
    assert scalar("0x" + "f" * 300) == 16**300 - 1


def test_hexadecimal_digits_without_end_stay_text():
    assert isinstance(scalar("0x" + "f" * 5_000), str)
