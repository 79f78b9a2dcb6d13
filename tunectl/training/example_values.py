"""The values of an example, whatever holds them, to compare it with that of another process: numbers and text.

Other objects are left out: they may be files, or have an address in their text.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tunectl.training.batch_values import is_batch_object, tensors_in

_SAMPLED = 512
"""The number of values of an array by which two examples are compared that differ."""

_CLOSE = 1e-3
"""Floating-point numbers that differ by less, in the size of the largest of them, differ by rounding: they may have
been computed on different GPUs."""

Leaf = np.ndarray[Any, np.dtype[Any]] | str | bytes


@dataclass(frozen=True, slots=True)
class Values:
    """The numbers and texts of an example, by where they are in it."""

    leaves: Mapping[str, Leaf]

    def sample(self) -> Values:
        """At most some of the values of each array, with its mean and deviation; a digest of what is no array of
        floating-point numbers, as text where it is one. So it can be sent to other processes.
        """
        return Values({place: _sample(leaf) for place, leaf in self.leaves.items()})


def example_values(example: Any) -> Values | None:
    """The values of an example; None where it has neither numbers nor text."""
    found = dict(_leaves(example, ""))
    return Values(found) if found else None


@dataclass(frozen=True, slots=True)
class Digests:
    """Of all values of an example, with their places, shapes and types; and of those that are no texts."""

    whole: bytes
    numbers: bytes


def digests(values: Values) -> Digests:
    """The digests of the values of an example."""
    leaves = {place: _digest(leaf) for place, leaf in values.leaves.items()}
    numbers = {place: found for place, found in leaves.items() if not _is_text(values.leaves[place])}
    return Digests(_joined(leaves), _joined(numbers))


def _joined(leaves: Mapping[str, bytes]) -> bytes:
    found = hashlib.blake2b(digest_size=16)
    for place, of_leaf in leaves.items():
        found.update(place.encode("utf-8", "surrogatepass") + b"\0" + of_leaf)
    return found.digest()


def differ_by_numbers(examples: Sequence[Digests | None]) -> bool:
    """Whether the numbers of an example, without its texts, are those of no other one."""
    numbers = [None if found is None else found.numbers for found in examples]
    return len(numbers) > 1 and None not in numbers and len(set(numbers)) == len(numbers)


def are_close(one: Values, other: Values) -> bool:
    """Whether two samples of values are the same but for rounding."""
    if one.leaves.keys() != other.leaves.keys():
        return False
    return all(_is_close(leaf, other.leaves[place]) for place, leaf in one.leaves.items())


def texts_alone_differ(one: Values, other: Values) -> bool:
    """Whether the numbers of two samples are the same but for rounding, and there are some: texts may name files."""
    places = [place for place, leaf in one.leaves.items() if not isinstance(leaf, str)]
    return (
        bool(places)
        and one.leaves.keys() == other.leaves.keys()
        and all(_is_close(one.leaves[place], other.leaves[place]) for place in places)
    )


def _is_close(one: Leaf, other: Leaf) -> bool:
    if not isinstance(one, np.ndarray) or not isinstance(other, np.ndarray):
        return one is other or (type(one) is type(other) and bool(one == other))
    if one.shape != other.shape:
        return False
    finite = np.abs(other[np.isfinite(other)])
    return np.allclose(one, other, rtol=0.0, atol=_CLOSE * float(finite.max(initial=0.0)), equal_nan=True)


def _sample(leaf: Leaf) -> Leaf:
    if not isinstance(leaf, np.ndarray) or leaf.dtype.kind != "f" or not leaf.size:
        found = _digest(leaf)
        return found.hex() if _is_text(leaf) else found
    flat = leaf.reshape(-1).astype(np.float64)
    some = flat[:: max(1, flat.size // _SAMPLED)]
    return np.concatenate([some, [flat.mean(), flat.std()]])


def _is_text(leaf: Leaf) -> bool:
    return isinstance(leaf, str) or (isinstance(leaf, np.ndarray) and leaf.dtype.kind in "SU")


def _digest(leaf: Leaf) -> bytes:
    """A digest of a leaf with its shape and type; the values of an array are not copied where they lie in order."""
    if isinstance(leaf, np.ndarray):
        found = hashlib.blake2b(f"{leaf.dtype.str} {leaf.shape}\0".encode(), digest_size=16)
        if leaf.nbytes:
            found.update(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data)
        return found.digest()
    content = leaf.encode("utf-8", "surrogatepass") if isinstance(leaf, str) else leaf
    return hashlib.blake2b(type(leaf).__name__.encode() + b"\0" + content, digest_size=16).digest()


def _leaves(item: Any, place: str) -> Iterator[tuple[str, Leaf]]:
    if isinstance(item, Tensor):
        yield place, _array(item)
    elif isinstance(item, (str, bytes)):
        yield place, item
    elif isinstance(item, Mapping):
        for number, (key, value) in enumerate(item.items()):
            # The text of another object may have its address.
            at = key if isinstance(key, (str, bytes, int, float)) else number
            yield from _leaves(value, f"{place}[{at!r}]")
    elif isinstance(item, (list, tuple)):
        for number, value in enumerate(item):
            yield from _leaves(value, f"{place}[{number}]")
    elif dataclasses.is_dataclass(item) and not isinstance(item, type):
        for field in dataclasses.fields(item):
            yield from _leaves(getattr(item, field.name, None), f"{place}.{field.name}")
    elif is_batch_object(item):
        for number, tensor in enumerate(tensors_in(item)):
            yield f"{place}.{number}", _array(tensor)
    elif isinstance(item, (bool, int, float, complex, np.generic)) or hasattr(item, "__array_interface__"):
        array = np.asarray(item)
        if array.dtype.kind in "biufcSU":
            yield place, array
        elif array.ndim:
            yield from _leaves(array.tolist(), place)


def _array(tensor: Tensor) -> np.ndarray[Any, np.dtype[Any]]:
    tensor = tensor.detach().cpu()
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    return tensor.resolve_conj().resolve_neg().numpy()
