"""A scrambled Halton sequence that never changes.

Every digit position of every coordinate has a permutation of its own, made from a hash of (seed, coordinate, position):
the points depend neither on a library's version, nor on the order of completion, nor on the number of points. Source:
A. B. Owen, "A randomized Halton algorithm in R" (arXiv:1706.02808), of which `scipy.stats.qmc.Halton` is another
implementation (with permutations from numpy's generator).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_BITS = 52  # the finest cell is wider than the spacing of floats in [0.5, 1), so that no other cell has its centre


def first_primes(count: int) -> list[int]:
    """The first `count` primes: 2, 3, 5, ..."""
    primes: list[int] = []
    candidate = 2
    while len(primes) < count:
        if all(candidate % prime for prime in primes if prime * prime <= candidate):
            primes.append(candidate)
        candidate += 1
    return primes


def hashed_words(*key: int | str) -> Iterator[int]:
    """An endless stream of uniform 64-bit integers, a function of `key` alone (SHA-256 in counter mode)."""
    prefix = "/".join(str(part) for part in key).encode()
    block = 0
    while True:
        digest = hashlib.sha256(prefix + b"#%d" % block).digest()
        for start in range(0, len(digest), 8):
            yield int.from_bytes(digest[start : start + 8], "big")
        block += 1


def digit_permutation(seed: int, coordinate: int, position: int, base: int) -> list[int]:
    """A uniform permutation of 0..base-1 for one digit position; position 0 is the point's most significant digit."""
    words = hashed_words("halton", seed, coordinate, position)
    permutation = list(range(base))
    for last in range(base - 1, 0, -1):
        choices = last + 1
        fair = (1 << 64) - (1 << 64) % choices  # larger words would favour small indices
        word = next(word for word in words if word < fair)
        other = word % choices
        permutation[last], permutation[other] = permutation[other], permutation[last]
    return permutation


def halton_coordinate(seed: int, coordinate: int, base: int, first: int, count: int) -> NDArray[np.float64]:
    """Points first, ..., first + count - 1 of one coordinate, shape [count], in (0, 1).

    A point is the centre of its finest cell: never 0, never 1, never on the border of a cell of any base**k.
    """
    positions = int(_BITS / math.log2(base))
    remaining = np.arange(first, first + count, dtype=np.int64)
    numerators = np.zeros(count, dtype=np.int64)
    for position in range(positions):
        permutation = np.asarray(digit_permutation(seed, coordinate, position, base), dtype=np.int64)
        numerators = numerators * base + permutation[remaining % base]
        remaining //= base
    return (numerators.astype(np.float64) + 0.5) / float(base**positions)


def halton_points(seed: int, dimensions: int, first: int, count: int) -> NDArray[np.float64]:
    """Points first, ..., first + count - 1 over the first `dimensions` primes, shape [count, dimensions], in (0, 1)."""
    columns = [
        halton_coordinate(seed, index, base, first, count) for index, base in enumerate(first_primes(dimensions))
    ]
    return np.stack(columns, axis=1) if columns else np.empty((count, 0))


def random_points(seed: int, dimensions: int, first: int, count: int) -> NDArray[np.float64]:
    """Independent uniform points in (0, 1), shape [count, dimensions], each from (seed, coordinate, index) alone."""
    words = [
        [next(hashed_words("random", seed, coordinate, index)) for coordinate in range(dimensions)]
        for index in range(first, first + count)
    ]
    top = np.asarray(words, dtype=np.uint64).reshape(count, dimensions) >> np.uint64(64 - _BITS)
    return (top.astype(np.float64) + 0.5) / float(1 << _BITS)
