"""predictions.jsonl: what is read of it, and what is said of one that is damaged."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunectl.core.example_predictions import ClassCounts, KeptArray, KeptImage, KeptText
from tunectl.core.folders import TrialFolder
from tunectl.store import json_lines
from tunectl.store.prediction_files import predictions_damage, read_predictions

HEAD = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
PNG = base64.b64encode(HEAD + struct.pack(">II", 3, 2) + b"rest").decode()
VALUES: dict[str, Any] = {
    "input": {"image": [3, 2], "of": [6, 4], "range": [-1.0, 2.5], "png": PNG},
    "target": 4,
    "right": True,
    "score": 0.25,
    "lost": "nan",
    "long": {"text": "abc", "length": 3000},
    "signal": {"array": [2, 2], "values": [1, 2.5, "nan"]},
}
COUNTS = {
    "step": 20,
    "split": "valid",
    "classes": [0, 1],
    "total": [5, 6],
    "correct": [4, 0],
    "predicted": [9, 2],
}


def line(step: int, values: dict[str, Any] = VALUES) -> dict[str, Any]:
    return {"step": step, "examples": [{"example": 7, "values": values}]}


@pytest.fixture
def folder(tmp_path: Path) -> TrialFolder:
    home = TrialFolder(tmp_path / "trials" / "00000")
    home.path.mkdir(parents=True)
    json_lines.append(home.predictions, [line(0), line(10), line(20), COUNTS])
    return home


def harm(folder: TrialFolder, change: Callable[[list[bytes]], list[bytes]]) -> None:
    folder.predictions.write_bytes(b"".join(change(folder.predictions.read_bytes().splitlines(keepends=True))))


def steps(folder: TrialFolder) -> list[int]:
    return [item.step for item in read_predictions(folder).steps]


def test_every_kind_of_value_is_read_as_it_was_kept(folder: TrialFolder) -> None:
    found = read_predictions(folder)
    (example,) = found.steps[0].examples
    assert example.example == 7
    image = example.values["input"]
    assert image == KeptImage(3, 2, PNG, 6, 4, -1.0, 2.5)
    assert {name: example.values[name] for name in ("target", "right", "score", "lost", "long")} == {
        "target": 4,
        "right": True,
        "score": 0.25,
        "lost": "nan",
        "long": KeptText("abc", 3000),
    }
    signal = example.values["signal"]
    assert isinstance(signal, KeptArray)
    assert (signal.shape, signal.values[:2], str(signal.values[2])) == ((2, 2), (1.0, 2.5), "nan")
    assert found.classes == ClassCounts(20, "valid", (0, 1), (5, 6), (4, 0), (9, 2))
    assert predictions_damage(folder, [0, 10, 20]) == ""


def test_a_trial_without_the_file_has_no_predictions_and_needs_none_before_an_evaluation(tmp_path: Path) -> None:
    empty = TrialFolder(tmp_path / "trials" / "00001")
    assert read_predictions(empty).steps == ()
    assert predictions_damage(empty, []) == ""
    assert predictions_damage(empty, [0]) == f"{empty.predictions}: is missing"


def test_a_torn_last_line_is_dropped_in_silence_but_a_missing_evaluation_is_said(folder: TrialFolder) -> None:
    harm(folder, lambda lines: [*lines[:2], lines[2][:40]])
    assert steps(folder) == [0, 10]
    assert predictions_damage(folder, [0, 10]) == ""
    assert "has no predictions of step 20" in predictions_damage(folder, [0, 10, 20])
    assert "of step 20 and of 2 other evaluations" in predictions_damage(folder, [0, 10, 20, 30, 40])


def test_of_two_lines_of_a_step_the_last_one_counts(folder: TrialFolder) -> None:
    json_lines.append(folder.predictions, [line(10, {"target": 5})])
    assert steps(folder) == [0, 10, 20]
    assert read_predictions(folder).steps[1].examples[0].values == {"target": 5}


def test_a_line_that_was_changed_is_left_out_and_said(folder: TrialFolder) -> None:
    harm(folder, lambda lines: [lines[0], lines[1].replace(b'"target": 4', b'"target": 9'), *lines[2:]])
    assert steps(folder) == [0, 20]
    assert "1 damaged line left out (line 2)" in predictions_damage(folder, [0, 20])


def huge_png() -> str:
    return base64.b64encode(HEAD + struct.pack(">II", 60_000, 60_000) + zlib.compress(b"")).decode()


@pytest.mark.parametrize(
    "value",
    [
        None,
        [1],
        {},
        {"text": 3, "length": 4},
        {"text": "a", "length": -1},
        {"array": [2], "values": [1, 2, 3]},
        {"array": ["2"], "values": []},
        {"array": [2], "values": [{}]},
        {"image": [3, 2], "of": [3, 2], "png": "no base64!"},
        {"image": [3, 2], "of": [3, 2], "png": base64.b64encode(b"<svg onload='alert(1)'/>").decode()},
        {"image": [3, 3], "of": [3, 2], "png": PNG},
        {"image": [3, 2], "of": [3], "png": PNG},
        {"image": [3, 2], "of": [3, 2], "png": PNG, "range": [1]},
        {"image": [3, 2], "of": [3, 2], "png": PNG, "range": ["a", "b"]},
        {"image": [60_000, 60_000], "of": [3, 2], "png": huge_png()},
        {"image": [3, 2], "of": [3, 2], "png": f'{PNG}" onerror="alert(1)'},
    ],
)
def test_a_value_that_no_trial_keeps_is_damage(folder: TrialFolder, value: Any) -> None:
    json_lines.append(folder.predictions, [line(30, {"odd": value})])
    assert steps(folder) == [0, 10, 20]
    assert "1 damaged line left out (line 5)" in predictions_damage(folder, [])


@pytest.mark.parametrize(
    "change",
    [
        {"step": -1},
        {"split": 3},
        {"classes": [0]},
        {"classes": [[], {}]},
        {"total": [1, -1]},
        {"correct": "no"},
        {"predicted": None},
    ],
)
def test_counts_by_class_that_do_not_fit_are_damage(folder: TrialFolder, change: dict[str, Any]) -> None:
    harm(folder, lambda lines: lines[:3])
    with folder.predictions.open("ab") as file:
        file.write(json.dumps({**COUNTS, **change}).encode() + b"\n")
    assert read_predictions(folder).classes is None
    assert "1 damaged line left out (line 4)" in predictions_damage(folder, [0, 10, 20])
