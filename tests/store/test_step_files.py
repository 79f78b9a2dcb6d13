"""The series of a trial's updates: what is read of steps.jsonl, and what is said of one that is damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tunectl.core.folders import TrialFolder
from tunectl.store import json_lines
from tunectl.store.step_files import read_updates, updates_damage

UPDATES = 10  # in each of three blocks


@pytest.fixture
def folder(tmp_path: Path) -> TrialFolder:
    home = TrialFolder(tmp_path / "trials" / "00000")
    home.path.mkdir(parents=True)
    json_lines.append(home.steps, [block(first) for first in (0, 10, 20)])
    return home


def block(first: int) -> dict[str, object]:
    losses = [1.0 / (1 + first + n) for n in range(UPDATES)]
    return {
        "first": first,
        "loss": losses,
        "gradient_norm": ["nan", *losses[1:]],
        "clipped": [False] * UPDATES,
        "learning_rate": losses,
    }


def firsts(folder: TrialFolder) -> list[int]:
    return [item.first for item in read_updates(folder)]


def harm(folder: TrialFolder, change: Callable[[list[bytes]], list[bytes]]) -> None:
    folder.steps.write_bytes(b"".join(change(folder.steps.read_bytes().splitlines(keepends=True))))


def test_a_sound_series_is_read_whole_and_nothing_is_said(folder: TrialFolder) -> None:
    assert firsts(folder) == [0, 10, 20]
    assert read_updates(folder)[1].loss == block(10)["loss"]
    assert updates_damage(folder) == updates_damage(folder, 30) == ""


def test_a_torn_last_line_is_dropped_in_silence(folder: TrialFolder) -> None:
    harm(folder, lambda lines: [*lines[:2], lines[2][:40]])
    assert firsts(folder) == [0, 10]
    assert updates_damage(folder) == ""


@pytest.mark.parametrize("junk", [b"junk\n", b"{}\n", b'{"first": 10, "loss": [1.0], "clipped": [false]}\n'])
def test_a_damaged_line_is_left_out_and_said_and_what_follows_is_read(folder: TrialFolder, junk: bytes) -> None:
    harm(folder, lambda lines: [lines[0], junk, lines[2]])
    assert firsts(folder) == [0, 20]
    damage = f"{folder.steps}: 1 damaged line left out (line 2)"
    assert updates_damage(folder, 30) == f"{damage}; of its 30 updates the first 10 are used"
    assert updates_damage(folder) == f"{damage}; of its updates the first 10 are used"


def test_lines_without_a_checksum_or_laid_out_anew_are_read_as_they_are(folder: TrialFolder) -> None:
    def again(line: bytes) -> bytes:
        content = json.loads(line)
        seal = {"crc32": content.pop("crc32")}
        return json.dumps(content if content["first"] else {**content, **seal}, separators=(",", ":")).encode() + b"\n"

    harm(folder, lambda lines: [again(line) for line in lines])
    assert firsts(folder) == [0, 10, 20]
    assert updates_damage(folder, 30) == ""


def test_a_digit_that_was_changed_is_damage(folder: TrialFolder) -> None:
    harm(folder, lambda lines: [lines[0], lines[1].replace(b"0.0", b"0.9", 1), lines[2]])
    assert "1 damaged line left out (line 2)" in updates_damage(folder)


@pytest.mark.parametrize("left", [slice(0, 2), slice(1, 3), slice(0, 3, 2), slice(0, 0)], ids=str)
def test_lines_that_are_missing_are_said(folder: TrialFolder, left: slice) -> None:
    harm(folder, lambda lines: lines[left])
    used = {(0, 2): "of its 30 updates the first 20 are used", (0, 3): "of its 30 updates the first 10 are used"}
    nothing = "none of its 30 updates is used"
    said = f"{folder.steps}: lines are missing; {used.get((left.start, left.stop), nothing)}"
    assert updates_damage(folder, 30) == said


def test_a_file_that_is_missing_is_said_where_there_must_be_one(folder: TrialFolder) -> None:
    folder.steps.unlink()
    assert (firsts(folder), updates_damage(folder), updates_damage(folder, 0)) == ([], "", "")
    assert updates_damage(folder, 30) == f"{folder.steps}: is missing"
    folder.steps.mkdir()
    assert firsts(folder) == []
    assert updates_damage(folder) == f"{folder.steps}: is a folder, not a file"
