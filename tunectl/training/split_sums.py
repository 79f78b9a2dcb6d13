"""Sums over the batches of a split, added up in the order of the batches, whichever rank evaluated which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tunectl.training.ranks import SINGLE, Ranks

Key = tuple[str, str]
"""What is summed, and of which metric."""

Scale = tuple[float, float]

_POWERS = 3


class SplitSums:
    """Sums of small vectors, by key, over the batches of a split.

    On one device they are added as they come. Of several ranks each keeps the vectors of its batches until `join`, so
    that all get the sums that one device has, bit for bit.

    Vectors about deviations d = (value - shift) / unit are in a `scale` of their key, which each rank takes from its
    own first values: they consist of triples (sum c, sum c d, sum c d^2) for some weights c.
    """

    def __init__(self, ranks: Ranks = SINGLE) -> None:
        self._ranks = ranks
        self.batch = 0
        self._sums: dict[Key, Tensor] = {}
        self._rows: list[tuple[int, Key, Tensor]] = []
        self._scales: dict[Key, tuple[Tensor, Tensor]] = {}
        self._totals: dict[Key, list[float]] | None = None
        self._units: dict[Key, float] = {}

    def known(self) -> tuple[dict[Key, list[float]], dict[Key, float]]:
        """The sums and the units, for `of`."""
        return self.totals(), self.units()

    @classmethod
    def of(cls, totals: Mapping[Key, Sequence[float]], units: Mapping[Key, float]) -> SplitSums:
        """The sums of which `known` gave this."""
        found = cls()
        found._totals = {key: list(total) for key, total in totals.items()}
        found._units = dict(units)
        return found

    def add(self, key: Key, part: Tensor) -> None:
        """Add the vector of a batch, in double precision; of several ranks, of the batch whose number is `batch`."""
        if self._ranks.count > 1:
            self._rows.append((self.batch, key, part))
        elif key in self._sums:
            self._sums[key] = self._sums[key] + part.to(self._sums[key].device)
        else:
            self._sums[key] = part

    def scale(self, key: Key, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """The shift and the unit of this key: by its first numbers, in double precision.

        Deviations from a value near the mean: a large mean would hide a small spread. In units of the numbers' size:
        the square of 1e160 is larger than a float can be.
        """
        if key not in self._scales:
            unit = numbers.abs().max() if numbers.numel() else numbers.new_ones(())
            self._scales[key] = (numbers.mean(), torch.where(unit > 0, unit, 1.0))
        shift, unit = self._scales[key]
        return shift.to(numbers.device), unit.to(numbers.device)

    def join(self) -> None:
        """Exchange the sums of all ranks; to be called by all of them, after the last batch."""
        if self._ranks.count == 1:
            return
        values = _lists([part for _, _, part in self._rows])
        rows = [(batch, key, given) for (batch, key, _), given in zip(self._rows, values, strict=True)]
        scales = {key: (float(shift), float(unit)) for key, (shift, unit) in self._scales.items()}
        everything = [
            (batch, key, given, of_rank.get(key))
            for found, of_rank in self._ranks.gathered((rows, scales))
            for batch, key, given in found
        ]
        totals: dict[Key, list[float]] = {}
        bases: dict[Key, Scale] = {}
        for _, key, given, scale in sorted(everything, key=lambda row: row[0]):
            if scale is not None:
                given = _in_scale(given, scale, bases.setdefault(key, scale))
            before = totals.get(key)
            totals[key] = given if before is None else [one + other for one, other in zip(before, given, strict=True)]
        self._totals, self._units = totals, {key: unit for key, (_, unit) in bases.items()}

    def totals(self) -> dict[Key, list[float]]:
        """The sums by key, in the order in which the keys first came; of several ranks, after `join`."""
        if self._totals is not None:
            return self._totals
        return {key: total.tolist() for key, total in self._sums.items()}

    def units(self) -> dict[Key, float]:
        """The unit of each key that has a scale."""
        return self._units or {key: float(unit) for key, (_, unit) in self._scales.items()}


def _in_scale(values: Sequence[float], own: Scale, other: Scale) -> list[float]:
    """Triples of sums about deviations in one scale, for those in another one."""
    if own == other:
        return list(values)
    # d' = p + q d
    p, q = (own[0] - other[0]) / other[1], own[1] / other[1]
    found: list[float] = []
    for first in range(0, len(values), _POWERS):
        zero, one, two = values[first : first + _POWERS]
        found += [zero, p * zero + q * one, p * p * zero + 2 * p * q * one + q * q * two]
    return found


def _lists(parts: Sequence[Tensor]) -> list[list[float]]:
    """The numbers of vectors, read from their device at once."""
    if not parts:
        return []
    numbers = torch.cat([part.reshape(-1).to(parts[0].device) for part in parts]).tolist()
    found, first = [], 0
    for part in parts:
        found.append(numbers[first : first + part.numel()])
        first += part.numel()
    return found
