"""Files of JSON lines: torn at any byte, damaged anywhere."""

from __future__ import annotations

import json

import pytest
from each_case import each_case
from hypothesis import given, settings
from hypothesis import strategies as st

from tunectl.core import record_checksums
from tunectl.core.jsontext import encode
from tunectl.store.json_lines import parse, parse_quickly


def test_a_file_torn_at_any_byte_gives_the_whole_lines_before_the_tear():
    lines = [{"step": 0, "loss": "nan"}, {"step": 100, "name": "größe, 中"}, {"step": 200, "text": "a\nb"}]
    whole = "".join(encode(line) + "\n" for line in lines).encode()
    for length in range(len(whole) + 1):
        assert parse(whole[:length]) == lines[: whole[:length].count(b"\n")]


DAMAGES = [
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
]


@each_case("read", [parse, parse_quickly])
@each_case("damage", DAMAGES)
def test_a_damaged_line_is_none_and_the_others_are_read(damage, read):
    assert read(b'{"step": 0}\n' + damage + b'\n{"step": 100}\n') == [{"step": 0}, None, {"step": 100}]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=30).filter(lambda line: b"\n" not in line), max_size=6), st.binary(max_size=30))
def test_no_bytes_whatever_make_reading_fail(lines, tail):
    read = parse(b"".join(line + b"\n" for line in lines) + tail)
    assert len(read) == len(lines) + tail.count(b"\n")
    assert all(line is None or isinstance(line, dict) for line in read)


SOUND = b'{"step": 7, "loss": -0.1e-3, "checkpoint": null, "kind": "\\u00e4\\n", "metrics": {"a/b": "nan", "c": true}}'
PIECES = [
    *(b"NaN", b"-Infinity", b"1e999", b"-0", b"5e-324", b"0.1", b"01", b"1.", b"0x1", b"9" * 19, b"9" * 25, b"9" * 400),
    *(
        b'"\\ud800"',
        b'"\xed\xa0\x80"',
        b'"\xff"',
        b'"\t"',
        b"\xef\xbb\xbf",
        b"\x00",
        b"\x0c",
        b"\r",
        b"[[]]",
        b'{"a": 1, "a": 2}',
        b",",
    ),
]


def with_floats(value):
    """The value with its whole numbers beyond 64 bits as floats."""
    if isinstance(value, dict):
        return {name: with_floats(item) for name, item in value.items()}
    if isinstance(value, list):
        return [with_floats(item) for item in value]
    beyond = type(value) is int and not -(2**63) <= value < 2**64
    return float(value) if beyond and abs(value) < 10**308 else value


@settings(max_examples=400, deadline=None)
@given(
    st.integers(0, len(SOUND)),
    st.integers(0, 12),
    st.one_of(st.sampled_from(PIECES), st.binary(max_size=3).filter(lambda piece: b"\n" not in piece)),
)
def test_reading_quickly_gives_the_same_values_and_finds_the_same_lines_damaged(start, length, piece):
    content = SOUND + b"\n" + SOUND[:start] + piece + SOUND[start + length :] + b"\n" + SOUND + b"\n" + SOUND[:-1]
    assert repr(parse_quickly(content)) == repr(with_floats(parse(content)))


@each_case("piece", PIECES)
def test_numbers_and_texts_that_json_alone_takes_are_read_quickly_too(piece):
    content = b'{"step": 1, "metrics": {"a": ' + piece + b"}}\n"
    assert repr(parse_quickly(content)) == repr(with_floats(parse(content)))


@pytest.mark.parametrize("read", [parse, parse_quickly])
def test_lines_that_a_formatter_wrote_anew_are_still_the_same(read):
    line = record_checksums.sealed(encode({"step": 1, "metrics": {"loss": 0.1}})) + b"\n"
    dense = json.dumps(json.loads(line), separators=(",", ":")).encode() + b"\n"
    assert dense != line
    assert read(dense + dense.replace(b"0.1", b"0.2")) == [{"step": 1, "metrics": {"loss": 0.1}}, None]
