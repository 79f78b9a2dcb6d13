"""By what examples are compared: a digest of their values, and a few numbers that rescaling does not change."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tunectl.training.data_checks.leaves import Array, Leaf

PROJECTIONS = 8
"""The number of projections of a normalised example: two examples that have nothing to do with each other have the same
cell of a grid of CELL in about one of 10^9 cases.
"""

CELL = 0.25
SHIFTS = (0.0, 1 / 3, 2 / 3)
"""Three grids: two numbers that differ by little are in one cell of at least one of them, if they differ by less than a
third of CELL."""

FEWEST_VALUES = 8
"""Of fewer values, normalising leaves too little to compare by."""

SAME = 0.01
"""Two normalised examples are the same where they differ by at most this, as a root mean square in standard deviations:
rounding to 8 bits makes 0.003 to 0.006 of a photo, one pixel in a digit of 8x8 pixels and 17 shades 0.02."""

_MOST_CHANNELS = 4


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """`exact`: a digest of all inputs. `rest`: one of those that are not rescaled, with text without case and spaces.

    `numbers` are PROJECTIONS numbers of the rescaled inputs, None where there are none, or where they are constant.
    """

    exact: bytes
    rest: bytes
    numbers: Array | None
    has_text: bool = False

    @property
    def keys(self) -> list[tuple[bytes, bytes]]:
        """Keys of which two examples share one if they may be the same after normalisation; [] where none is known."""
        if self.numbers is None:
            return [(self.rest, b"")] if self.has_text else []
        return [
            (self.rest, bytes([grid]) + np.floor(self.numbers / CELL + shift).astype(np.int16).tobytes())
            for grid, shift in enumerate(SHIFTS)
        ]


@dataclass(slots=True)
class Fingerprints:
    """Makes the fingerprints of examples, with the same random directions for all of them."""

    _directions: dict[tuple[str, int], Array] = field(default_factory=dict)

    def of(self, inputs: Mapping[str, Leaf]) -> Fingerprint:
        """The fingerprint of the inputs of an example."""
        exact, rest = hashlib.blake2b(digest_size=16), hashlib.blake2b(digest_size=16)
        numbers: Array | None = None
        total, has_text, constant = 0, False, False
        for place, leaf in inputs.items():
            if isinstance(leaf, str):
                has_text = True
                _add(exact, place, leaf.encode("utf-8", "surrogatepass"))
                _add(rest, place, " ".join(leaf.casefold().split()).encode("utf-8", "surrogatepass"))
                continue
            content = np.ascontiguousarray(leaf).tobytes()
            _add(exact, f"{place} {leaf.dtype} {leaf.shape}", content)
            if not is_rescaled(leaf):
                _add(rest, f"{place} {leaf.dtype} {leaf.shape}", content)
                continue
            _add(rest, f"{place} {leaf.shape}", b"")
            normal = normalised(leaf)
            constant = constant or normal is None
            if normal is not None:
                part = normal.ravel() @ self._of(place, leaf.size)
                numbers, total = part if numbers is None else numbers + part, total + leaf.size
        projected = None if numbers is None or constant else numbers / np.sqrt(total)
        return Fingerprint(exact.digest(), rest.digest(), projected, has_text and not constant)

    def _of(self, place: str, size: int) -> Array:
        key = (place, size)
        if key not in self._directions:
            random = np.random.default_rng([zlib.crc32(place.encode()), size])
            self._directions[key] = random.standard_normal((size, PROJECTIONS), dtype=np.float32)
        return self._directions[key]


def _add(digest: Any, place: str, content: bytes) -> None:
    digest.update(f"{place}\0{len(content)}\0".encode("utf-8", "surrogatepass"))
    digest.update(content)


def is_rescaled(leaf: Array) -> bool:
    """Whether an input is normalised: fractions, and images of whole numbers; no tokens, whose numbers are names."""
    return leaf.size >= FEWEST_VALUES and (leaf.dtype.kind == "f" or (leaf.dtype.kind in "iu" and leaf.ndim >= 2))


@np.errstate(invalid="ignore", over="ignore", divide="ignore")
def normalised(leaf: Array) -> Array | None:
    """The input with mean 0 and deviation 1, each channel of an image by itself; None where one is constant or not
    finite.
    """
    values = leaf.astype(np.float32)
    axes = _axes_of_channel(leaf)
    mean = values.mean(axis=axes, keepdims=True, dtype=np.float64)
    centred = values - mean.astype(np.float32)
    deviation = np.sqrt(np.mean(np.square(centred, dtype=np.float64), axis=axes, keepdims=True))
    if not np.isfinite(deviation).all() or (deviation <= 1e-5 * np.maximum(np.abs(mean), 1e-30)).any():
        return None
    return np.asarray(centred / deviation.astype(np.float32))


def _axes_of_channel(leaf: Array) -> tuple[int, ...]:
    """The axes over which a mean is taken: those of a channel, where the first or the last axis counts channels."""
    if leaf.ndim == 3 and min(leaf.shape) > 0:
        if leaf.shape[0] <= _MOST_CHANNELS:
            return (1, 2)
        if leaf.shape[2] <= _MOST_CHANNELS:
            return (0, 1)
    return tuple(range(leaf.ndim))


def are_the_same(one: Mapping[str, Leaf], other: Mapping[str, Leaf]) -> bool:
    """Whether the rescaled inputs of two examples, whose other inputs are equal, are the same after normalisation."""
    for place, leaf in one.items():
        if isinstance(leaf, str) or not is_rescaled(leaf):
            continue
        first, second = normalised(leaf), normalised(np.asarray(other[place]))
        if first is None or second is None or first.shape != second.shape:
            return False
        if float(np.sqrt(np.mean(np.square(first - second)))) > SAME:
            return False
    return True
