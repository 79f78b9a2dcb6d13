"""The values of an example, whatever holds them: arrays, numbers and text, each with the place where it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray[Any, np.dtype[Any]]
Leaf = Array | str

ITEM = "item"
"""The name of an example, at which the places of its parts begin: item[0]."""


class UnreadableExampleError(Exception):
    """A value that is neither numbers nor text: its place and its type."""


@dataclass(frozen=True, slots=True)
class Example:
    """An example in parts, by their places: its inputs, its labels (whole numbers), its other targets (numbers)."""

    inputs: Mapping[str, Leaf]
    labels: Mapping[str, int]
    targets: Mapping[str, Array]


def example(item: Any) -> Example:
    """The parts of an example; raises UnreadableExampleError.

    Arrays and text are inputs; a single whole number is a label, another single number a target. Where there are
    numbers alone, the last of several is the label or target, and the others are inputs.
    """
    leaves = dict(_leaves(item, ITEM))
    single = {place: leaf for place, leaf in leaves.items() if not isinstance(leaf, str) and leaf.size == 1}
    inputs = {place: leaf for place, leaf in leaves.items() if place not in single}
    if not inputs:
        *others, last = single
        inputs = {place: np.reshape(single[place], 1) for place in (others or [last])}
        single = {last: single[last]} if others else {}
    labels = {place: int(leaf.reshape(())) for place, leaf in single.items() if leaf.dtype.kind in "biu"}
    targets = {place: leaf for place, leaf in single.items() if place not in labels}
    return Example(inputs, labels, targets)


def _leaves(item: Any, place: str) -> Iterator[tuple[str, Leaf]]:
    array = _array(item)
    if array is not None:
        yield place, array
    elif isinstance(item, (str, bytes)):
        yield place, item if isinstance(item, str) else item.decode("latin-1")
    elif isinstance(item, Mapping):
        for key, value in item.items():
            yield from _leaves(value, f"{place}[{key!r}]")
    elif isinstance(item, (list, tuple)):
        if place != ITEM and item and all(isinstance(value, (bool, int, float)) for value in item):
            yield place, np.asarray(item)
            return
        for number, value in enumerate(item):
            yield from _leaves(value, f"{place}[{number}]")
    elif dataclasses.is_dataclass(item) and not isinstance(item, type):
        for field in dataclasses.fields(item):
            yield from _leaves(getattr(item, field.name, None), f"{place}.{field.name}")
    elif item is not None:
        raise UnreadableExampleError(f"{place} is a {type(item).__name__}")


def _array(item: Any) -> Array | None:
    """Numbers as an array, None for anything else."""
    if isinstance(item, Tensor):
        tensor = item.detach().cpu()
        if tensor.layout is not torch.strided:
            tensor = tensor.to_dense()
        return (tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor).numpy()
    if isinstance(item, (bool, int, float, np.generic)) or hasattr(item, "__array_interface__"):
        found = np.asarray(item)
        return found if found.dtype.kind in "biuf" else None
    return None
