"""What `predict(model, batch)` gives, checked, and as the JSON of predictions.jsonl: numbers, texts, arrays, images."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tunectl.core.errors import WorkloadError
from tunectl.training.png import png, shades

MOST_VALUES = 20
"""The largest number of values that `predict` may give for an example."""

KEPT_CHARACTERS = 2000
KEPT_NUMBERS = 1000
KEPT_SIDE = 128
"""Of a longer text or array only the beginning is kept, of a larger image every n-th pixel."""

DIGITS = 7
"""Significant digits of a kept number that is not whole: about those of single precision."""

_CHANNELS = (1, 3)
_PREDICT = "predict(model, batch)"


def checked_values(given: Any, examples: int) -> dict[str, Sequence[Any] | Tensor]:
    """What `predict` gave for a batch of this many examples: a list of texts or a tensor on the CPU by name.

    Raises WorkloadError where it is not as `Workload` requires.
    """
    if not isinstance(given, Mapping):
        raise WorkloadError(f"{_PREDICT}: expected a dict of values by name, got {type(given).__name__}")
    if not 1 <= len(given) <= MOST_VALUES:
        raise WorkloadError(f"{_PREDICT}: expected 1 to {MOST_VALUES} values, got {len(given)}")
    return {_name(name): _checked(name, values, examples) for name, values in given.items()}


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name or len(name) > 100:
        raise WorkloadError(f"{_PREDICT}: expected names as text of 1 to 100 characters, got {name!r}")
    return name


def _checked(name: str, values: Any, examples: int) -> Sequence[Any] | Tensor:
    what = f"{_PREDICT}, {name!r}"
    if isinstance(values, str):
        raise WorkloadError(f"{what}: expected one text per example, in a list of {examples}, got one text")
    if isinstance(values, (list, tuple)) and any(isinstance(item, str) for item in values):
        wrong = next((item for item in values if not isinstance(item, str)), None)
        if wrong is not None:
            raise WorkloadError(f"{what}: expected only texts in a list with texts, got a {type(wrong).__name__} too")
        if len(values) != examples:
            raise WorkloadError(f"{what}: expected one text per example, {examples} in this batch, got {len(values)}")
        return values
    try:
        numbers = values if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise WorkloadError(f"{what}: expected a tensor or a list of texts, got a {type(values).__name__}") from error
    if numbers.is_complex() or numbers.layout is not torch.strided or numbers.is_quantized:
        raise WorkloadError(f"{what}: expected a dense tensor of real numbers, got {numbers.dtype}")
    if numbers.ndim == 0 or len(numbers) != examples:
        raise WorkloadError(
            f"{what}: expected one entry per example, shape [{examples}, ...] for this batch, got {list(numbers.shape)}"
        )
    return numbers.detach().to("cpu")


def kept_values(values: Mapping[str, Sequence[Any] | Tensor], example: int) -> dict[str, Any]:
    """The values of one example of a checked batch as JSON; what is too long is cut, and its full length kept."""
    return {name: _kept(items[example]) for name, items in values.items()}


def _kept(value: Any) -> Any:
    if isinstance(value, str):
        if len(value) <= KEPT_CHARACTERS:
            return value
        return {"text": value[:KEPT_CHARACTERS], "length": len(value)}
    if value.ndim == 0:
        return plain(value)
    if is_image(value):
        return _image(value)
    first = value.flatten()[:KEPT_NUMBERS]
    return {"array": list(value.shape), "values": [plain(item) for item in first]}


def plain(value: Tensor) -> bool | int | float:
    """A tensor of one number as Python's own, with DIGITS significant digits where it is not whole."""
    number = value.item()
    return float(f"{number:.{DIGITS}g}") if isinstance(number, float) else number


def is_image(value: Tensor) -> bool:
    """Whether the entry of one example is an image: shape [C, H, W], C 1 or 3, of uint8, bool or floats."""
    return (
        value.ndim == 3
        and value.shape[0] in _CHANNELS
        and 0 not in value.shape
        and (value.dtype in (torch.uint8, torch.bool) or value.is_floating_point())
    )


def _image(value: Tensor) -> dict[str, Any]:
    """An image, shape [C, H, W], as PNG. Floats from 0 to 1 are black to white; where there are others, the smallest
    is black and the largest white. False is black and true white.
    """
    height, width = value.shape[1:]
    step = -(-max(height, width) // KEPT_SIDE)
    found = shades(value[:, ::step, ::step].permute(1, 2, 0))
    of_values = {} if found.range is None else {"range": [float(f"{end:.{DIGITS}g}") for end in found.range]}
    content = base64.b64encode(png(found.pixels)).decode("ascii")
    rows, columns, _ = found.pixels.shape
    return {"image": [columns, rows], "of": [width, height], **of_values, "png": content}
