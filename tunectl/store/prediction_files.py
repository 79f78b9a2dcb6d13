"""predictions.jsonl: what a trial's model predicted for chosen examples, and correct predictions by class."""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunectl.core import jsontext, regular_files
from tunectl.core.example_predictions import (
    ClassCounts,
    KeptArray,
    KeptImage,
    KeptText,
    KeptValue,
    PredictedExample,
    StepPredictions,
)
from tunectl.core.folders import TrialFolder
from tunectl.core.path_errors import path_error
from tunectl.core.typed_fields import is_count
from tunectl.store import json_lines
from tunectl.store.trial_files import left_out_in_words

LARGEST_SIDE = 4096
"""The largest side of an image that is read: a file may say more than it has."""

_PNG_HEAD = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"


@dataclass(frozen=True, slots=True)
class TrialPredictions:
    """The predictions of a trial by step, and its correct predictions by class, None where they were not counted."""

    steps: tuple[StepPredictions, ...] = ()
    classes: ClassCounts | None = None


def read_predictions(folder: TrialFolder) -> TrialPredictions:
    """The predictions in the order of the file, each step once, without damaged lines, which `predictions_damage`
    reports; none without a file.

    Raises FolderError where the file cannot be read.
    """
    steps: dict[int, StepPredictions] = {}
    classes = None
    try:
        for line in _lines(folder):
            read = None if line is None else _line(line)
            if isinstance(read, ClassCounts):
                classes = read
            elif read is not None:
                steps[read.step] = read
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return TrialPredictions()
    except OSError as error:
        raise path_error(folder.predictions, "read", error) from error
    return TrialPredictions(tuple(steps[step] for step in sorted(steps)), classes)


def predictions_damage(folder: TrialFolder, evaluated: Sequence[int]) -> str:
    """The damage of predictions.jsonl in words, "" where there is none; `evaluated` are the steps that it must have.

    A torn last line is no damage: its writer was killed, or is writing now. Raises FolderError where the file cannot be
    read.
    """
    found: set[int] = set()
    damaged: list[int] = []
    try:
        for number, line in enumerate(_lines(folder), start=1):
            read = None if line is None else _line(line)
            if read is None:
                damaged.append(number)
            elif isinstance(read, StepPredictions):
                found.add(read.step)
    except (FileNotFoundError, NotADirectoryError):
        return f"{folder.predictions}: is missing" if evaluated else ""
    except IsADirectoryError:
        return f"{folder.predictions}: is a folder, not a file"
    except OSError as error:
        raise path_error(folder.predictions, "read", error) from error
    if damaged:
        return f"{folder.predictions}: {left_out_in_words(damaged)}"
    missing = [step for step in evaluated if step not in found]
    if missing:
        return f"{folder.predictions}: has no predictions of step {missing[0]}" + (
            f" and of {len(missing) - 1} other evaluations" if len(missing) > 1 else ""
        )
    return ""


def _lines(folder: TrialFolder) -> Iterator[dict[str, Any] | None]:
    """The content of each complete line, None for a damaged one; some lines at a time."""
    content = regular_files.content(folder.predictions, largest=regular_files.LARGEST_LINES_BYTES)
    for part in json_lines.parts(content):
        yield from json_lines.parse_quickly(part)


def _line(line: Mapping[str, Any]) -> StepPredictions | ClassCounts | None:
    if not is_count(line.get("step")):
        return None
    if "classes" in line:
        return _class_counts(line)
    if not isinstance(line.get("examples"), list):
        return None
    examples = [_example(item) for item in line["examples"]]
    whole = [item for item in examples if item is not None]
    return StepPredictions(line["step"], tuple(whole)) if len(whole) == len(examples) else None


def _class_counts(line: Mapping[str, Any]) -> ClassCounts | None:
    names = ("total", "correct", "predicted")
    classes, split = line["classes"], line.get("split")
    counts = [line.get(name) for name in names]
    if not isinstance(split, str) or not isinstance(classes, list):
        return None
    if not all(isinstance(item, (bool, int, float, str)) for item in classes):
        return None
    if not all(isinstance(each, list) and len(each) == len(classes) and all(map(is_count, each)) for each in counts):
        return None
    total, correct, predicted = (tuple(each or ()) for each in counts)
    return ClassCounts(line["step"], jsontext.encodable(split), tuple(classes), total, correct, predicted)


def _example(item: Any) -> PredictedExample | None:
    if not isinstance(item, dict) or not is_count(item.get("example")) or not isinstance(item.get("values"), dict):
        return None
    values = {name: _value(value) for name, value in item["values"].items()}
    whole = {jsontext.encodable(name): value for name, value in values.items() if value is not None}
    return PredictedExample(item["example"], whole) if len(whole) == len(values) else None


def _value(value: Any) -> KeptValue | None:
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return jsontext.encodable(value)
    if not isinstance(value, dict):
        return None
    if "text" in value:
        text, length = value["text"], value.get("length")
        if not isinstance(text, str) or not isinstance(length, int) or not is_count(length):
            return None
        return KeptText(jsontext.encodable(text), length)
    return _image(value) if "image" in value else _array(value)


def _array(value: Mapping[str, Any]) -> KeptArray | None:
    shape, values = value.get("array"), value.get("values")
    if not isinstance(shape, list) or not all(map(is_count, shape)) or not isinstance(values, list):
        return None
    numbers = [float(item) if isinstance(item, bool) else jsontext.number(item) for item in values]
    whole = [number for number in numbers if number is not None]
    if len(whole) < len(numbers) or len(whole) > math.prod(shape):
        return None
    return KeptArray(tuple(shape), tuple(whole))


def _image(value: Mapping[str, Any]) -> KeptImage | None:
    size, full, content, limits = _size(value["image"]), _size(value.get("of")), value.get("png"), value.get("range")
    if size is None or full is None or not isinstance(content, str) or max(size) > LARGEST_SIDE:
        return None
    try:
        head = base64.b64decode(content, validate=True)[: len(_PNG_HEAD) + 8]
    except (binascii.Error, ValueError):
        return None
    # What the file says of its size is what a browser makes room for.
    if head != _PNG_HEAD + struct.pack(">II", *size):
        return None
    if limits is None:
        return KeptImage(*size, content, *full)
    low, high = map(jsontext.number, limits) if isinstance(limits, list) and len(limits) == 2 else (None, None)
    return None if low is None or high is None else KeptImage(*size, content, *full, low, high)


def _size(value: Any) -> tuple[int, int] | None:
    """The width and the height of an image in pixels."""
    if not isinstance(value, list) or len(value) != 2 or not all(is_count(item, 1) for item in value):
        return None
    return value[0], value[1]
