"""A trial's file of JSON lines: appended to, cut back, and each line with its checksum."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest

from tunectl.core.line_file import LineFile, holds


@pytest.fixture
def path(tmp_path: Path) -> Path:
    home = tmp_path / "s" / "trials" / "00000"
    home.mkdir(parents=True)
    return home / "measurements.jsonl"


def test_lines_are_in_the_file_at_once_and_each_has_its_checksum(path: Path) -> None:
    file = LineFile(path)
    file.append({"step": 1})
    file.extend([{"step": 2}, {"step": 3, "loss": "nan"}])
    lines = path.read_bytes().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
    assert json.loads(lines[0])["crc32"] == zlib.crc32(b'{"step": 1')
    assert file.offset == path.stat().st_size
    file.close()


def test_a_file_is_cut_back_when_it_is_opened_and_when_it_is_asked_to(path: Path) -> None:
    file = LineFile(path)
    file.append({"step": 1})
    first = file.offset
    file.append({"step": 2})
    assert file.beyond(first) == [{"step": 2}]
    assert file.offset == path.stat().st_size, "reading does not move the end"
    file.close()
    file = LineFile(path, first)
    assert path.stat().st_size == first
    file.append({"step": 3})
    file.cut(first)
    file.append({"step": 4})
    file.close()
    assert [json.loads(line)["step"] for line in path.read_bytes().splitlines()] == [1, 4]


def test_a_file_holds_what_ends_with_a_complete_line(path: Path) -> None:
    assert holds(path, 0)
    assert not holds(path, 3)
    path.write_bytes(b"{}\n{")
    assert [holds(path, offset) for offset in range(6)] == [True, False, False, True, False, False]
