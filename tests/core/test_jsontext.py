"""JSON as it is written and read back: exact numbers, non-finite ones, torn and damaged lines."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunectl.core.jsontext import encode, number, read_lines

scalars = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)


@settings(max_examples=80, deadline=None)
@given(values)
def test_what_is_written_is_read_back_exactly_and_stands_on_one_line(value):
    line = encode(value)
    assert "\n" not in line
    assert json.loads(line) == value


@settings(max_examples=150, deadline=None)
@given(st.floats())
def test_every_float_comes_back_with_every_bit_also_nan_and_the_infinities(value):
    back = number(json.loads(encode({"loss": value}))["loss"])
    assert back is not None
    if math.isnan(value):
        assert math.isnan(back)
    else:
        assert (back, math.copysign(1, back)) == (value, math.copysign(1, value))


@pytest.mark.parametrize(("value", "text"), [(math.nan, '"nan"'), (math.inf, '"inf"'), (-math.inf, '"-inf"')])
def test_a_non_finite_number_is_text_however_deep_it_stands(value, text):
    assert encode({"a": [{"b": (1.5, value)}]}) == '{"a": [{"b": [1.5, ' + text + "]}]}"


def test_names_keep_their_letters():
    assert encode({"größe": "µ"}) == '{"größe": "µ"}'


@pytest.mark.parametrize("value", [True, False, None, "0.5", "NaN", "Infinity", "", [], {}, 10**400])
def test_what_is_no_number_reads_as_none(value):
    assert number(value) is None


def test_a_file_that_is_not_there_has_no_lines(tmp_path):
    assert list(read_lines(tmp_path / "none.jsonl")) == []


def test_a_file_torn_at_any_byte_gives_the_whole_lines_before_the_tear(tmp_path):
    lines = [{"step": 0, "loss": "nan"}, {"step": 100, "name": "größe, 中"}, {"step": 200, "text": "a\nb"}]
    whole = "".join(encode(line) + "\n" for line in lines).encode()
    path = tmp_path / "measurements.jsonl"
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        assert list(read_lines(path)) == lines[: whole[:length].count(b"\n")]


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"   ",
        b"{",
        b"\x00" * 40,
        b"\xff\xfe{}",
        b"[1, 2]",
        b"3",
        b"null",
        b'"text"',
        b'{"step": }',
        b'{"step": 1}{"step": 2}',
        b'{"step": 1',
        b"[" * 200_000,
        b"1" * 5_000,
    ],
)
def test_a_damaged_line_is_left_out_and_the_others_are_read(tmp_path, damage):
    path = tmp_path / "measurements.jsonl"
    path.write_bytes(b'{"step": 0}\n' + damage + b'\n{"step": 100}\n')
    assert list(read_lines(path)) == [{"step": 0}, {"step": 100}]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=30).filter(lambda line: b"\n" not in line), max_size=6), st.binary(max_size=30))
def test_no_bytes_whatever_make_reading_fail(tmp_path_factory, lines, tail):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines) + tail)
    assert all(isinstance(line, dict) for line in read_lines(path))
