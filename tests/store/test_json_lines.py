"""Files of JSON lines: torn at any byte, damaged anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunectl.core.jsontext import encode
from tunectl.store.json_lines import parse


def test_a_file_torn_at_any_byte_gives_the_whole_lines_before_the_tear():
    lines = [{"step": 0, "loss": "nan"}, {"step": 100, "name": "größe, 中"}, {"step": 200, "text": "a\nb"}]
    whole = "".join(encode(line) + "\n" for line in lines).encode()
    for length in range(len(whole) + 1):
        assert parse(whole[:length]) == lines[: whole[:length].count(b"\n")]


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
def test_a_damaged_line_is_none_and_the_others_are_read(damage):
    assert parse(b'{"step": 0}\n' + damage + b'\n{"step": 100}\n') == [{"step": 0}, None, {"step": 100}]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=30).filter(lambda line: b"\n" not in line), max_size=6), st.binary(max_size=30))
def test_no_bytes_whatever_make_reading_fail(lines, tail):
    read = parse(b"".join(line + b"\n" for line in lines) + tail)
    assert len(read) == len(lines) + tail.count(b"\n")
    assert all(line is None or isinstance(line, dict) for line in read)
