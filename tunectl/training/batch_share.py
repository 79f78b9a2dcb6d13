"""The part of each update's batch that a rank of the trial trains on."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunectl.training.data_order import Indices
from tunectl.training.ranks import SINGLE, Ranks


@dataclass(frozen=True, slots=True)
class BatchShare:
    """A rank's share of a batch: of each of its micro-batches a contiguous part.

    The parts of a micro-batch differ by at most one example, and so do the shares of the whole batch: what is left of a
    micro-batch goes to the ranks after those that got what was left of the one before. In place of an empty part is the
    first example of the micro-batch, which does not count: so all ranks call the model as often as one device does, and
    what follows its calls, as a counter or spectral normalisation, stays the same.

    `batch_size` is that of all ranks. `places` are where the rank's micro-batches are in the batch. Where the batch
    `is_divided`, it comes as a list of micro-batches. `counted` says of each whether its examples count.
    """

    batch_size: int
    places: tuple[slice, ...]
    is_divided: bool
    counted: tuple[bool, ...]

    @classmethod
    def of(
        cls,
        batch_size: int,
        micro_batch_sizes: Sequence[int] = (),
        ranks: Ranks = SINGLE,
    ) -> BatchShare:
        """The share of a rank; the micro-batches, which are of all ranks, sum to the batch, and are none where the
        batch is not divided.
        """
        sizes = list(micro_batch_sizes) or [batch_size]
        firsts = [end - size for size, end in zip(sizes, itertools.accumulate(sizes), strict=True)]
        # All examples before those of a micro-batch have been dealt one to each rank in turn.
        parts = [(first, ranks.share(size, first)) for first, size in zip(firsts, sizes, strict=True)]
        counted = tuple(part.stop > part.start for _, part in parts)
        places = tuple(
            slice(first + part.start, first + part.stop) if counts else slice(first, first + 1)
            for (first, part), counts in zip(parts, counted, strict=True)
        )
        return cls(batch_size, places, bool(micro_batch_sizes) or ranks.count > 1, counted)

    @property
    def sizes(self) -> list[int]:
        """The numbers of examples in the rank's micro-batches."""
        return [place.stop - place.start for place in self.places]

    @property
    def counts(self) -> list[tuple[int, bool]]:
        """The number of examples in each of the rank's micro-batches, and whether they count."""
        return list(zip(self.sizes, self.counted, strict=True))

    @property
    def examples(self) -> int:
        """The number of the rank's examples that count."""
        return sum(size for size, counts in zip(self.sizes, self.counted, strict=True) if counts)

    @property
    def own_places(self) -> list[slice]:
        """Where the micro-batches are among the rank's own examples."""
        return [slice(end - size, end) for size, end in zip(self.sizes, itertools.accumulate(self.sizes), strict=True)]

    def own(self, examples: Indices) -> Indices:
        """The rank's examples among those of some updates, [updates * batch_size], one update after the other."""
        if sum(self.sizes) == self.batch_size:
            return examples
        of_updates = examples.reshape(-1, self.batch_size)
        return np.concatenate([of_updates[:, place] for place in self.places], axis=1).reshape(-1)

    def parts(self, batch: Any) -> Sequence[Any]:
        """The micro-batches of a batch as it was taken."""
        return batch if self.is_divided else (batch,)
