"""Data sets that can only be read in their order, as torch's IterableDataset, with the length of a pass.

Training reads one pass after the other, so that example i of pass p is at position p * N + i of an endless stream, and
update t takes the positions t * B to t * B + B - 1. A trial that goes on from update t reads the beginning of the pass
again, with the seeds that it had, unless the data set has `iter_from`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence, Set
from typing import Any

import numpy as np
from torch.utils.data import Dataset, IterableDataset

from tunectl.core.errors import WorkloadError
from tunectl.training.collation import Collate, KeptExamples
from tunectl.training.seeds import Purpose, host_randomness, seed_host, sequence

_END = object()


def is_stream(dataset: Any) -> bool:
    """Whether a data set can only be read in its order: an IterableDataset, or another iterable without places."""
    return isinstance(dataset, IterableDataset) or (
        hasattr(type(dataset), "__iter__")
        and not hasattr(type(dataset), "__getitem__")
        and not isinstance(dataset, Set)  # in another order in each process
    )


class Pass:
    """A pass through an iterable data set of a declared size, by its number, from the example `first` on."""

    def __init__(self, dataset: Any, size: int, number: int, first: int = 0) -> None:
        set_epoch = getattr(dataset, "set_epoch", None)
        if callable(set_epoch):
            set_epoch(number)
        self._size, self._number, self.position = size, number, first
        own = type(dataset).__name__
        self._what = "an iterable data set" if own.startswith("_") else f"the iterable data set {own}"
        # An iterator may begin anew by iter().
        beyond = dataset.iter_from(first) if first else dataset
        self._items: Iterator[Any] = beyond if first and hasattr(beyond, "__next__") else iter(beyond)

    def take(self, count: int) -> list[Any]:
        """The next examples; raises WorkloadError where the pass is not as long as was declared."""
        found = []
        for _ in range(count):
            item = next(self._items, _END)
            if item is _END:
                raise self._wrong(f"ended after {self.position}")
            found.append(item)
            self.position += 1
        if self.position == self._size and next(self._items, _END) is not _END:
            raise self._wrong("gave more")
        return found

    def _wrong(self, what: str) -> WorkloadError:
        return WorkloadError(
            f"{self._what} says by its len() that a pass has {self._size} examples, and pass {self._number} {what}"
        )


class StreamedExamples(Dataset[Any]):
    """An iterable data set with places: to read them in their order costs one pass, any other more.

    It keeps its place in its data set, of which nothing else may read meanwhile.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self._size = len(dataset)
        self._pass: Pass | None = None

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, place: int) -> Any:
        return self.__getitems__([place])[0]

    def __getitems__(self, places: Sequence[int]) -> list[Any]:
        found = []
        for place in places:
            if self._pass is None or place < self._pass.position:
                self._pass = Pass(self.dataset, self._size, 0)
            found.append(self._pass.take(place + 1 - self._pass.position)[-1])
        return found

    def __iter__(self) -> Iterator[Any]:
        return iter(self.dataset)

    def first(self, count: int, seeds: np.random.SeedSequence) -> KeptExamples:
        """The first examples of a pass, read once with these seeds and kept in memory."""
        with host_randomness(seeds):
            # Each is copied before the next is read: a data set may give the same buffer each time.
            beginning = Pass(self.dataset, self._size, 0)
            return KeptExamples([copy.deepcopy(beginning.take(1)[0]) for _ in range(min(count, self._size))])


class StreamBatches:
    """Makes the batches of updates from an endless stream of passes; to be called with one update after the other.

    Random numbers that are drawn for an example come from seeds of the update, and of the pass where it begins within
    the update.
    """

    def __init__(
        self, data: StreamedExamples, seed: int, batch_size: int, *, purpose: Purpose, collate: Collate
    ) -> None:
        self._dataset: Any = data.dataset
        self._size, self._seed, self._batch_size = len(data), seed, batch_size
        self._purpose, self._collate = purpose, collate
        self._pass: Pass | None = None
        self._next = -1

    def __call__(self, update: int) -> Any:
        """The batch of an update on the host, as it is collated."""
        if update != self._next:
            self._go_to(update)
        with host_randomness(self._seeds(update)):
            examples = self._read(update, update * self._batch_size, (update + 1) * self._batch_size)
            self._next = update + 1
            return self._collate(examples)

    def _seeds(self, *indices: int) -> np.random.SeedSequence:
        return sequence(self._seed, self._purpose, *indices)

    def _read(self, update: int, first: int, last: int) -> list[Any]:
        """The examples from the position `first` of the stream to before `last`, which belong to this update."""
        found: list[Any] = []
        while first < last:
            number, offset = divmod(first, self._size)
            if offset == 0:
                seed_host(self._seeds(update, number))
                self._pass = Pass(self._dataset, self._size, number)
            assert self._pass is not None
            count = min(last - first, self._size - offset)
            found += self._pass.take(count)
            first += count
        return found

    def _go_to(self, update: int) -> None:
        """Go to the first example of an update, in its pass."""
        first = update * self._batch_size
        number, offset = divmod(first, self._size)
        if offset == 0:
            return
        if callable(getattr(self._dataset, "iter_from", None)):
            self._pass = Pass(self._dataset, self._size, number, offset)
            return
        begins = first - offset
        for earlier in range(begins // self._batch_size, update):
            with host_randomness(self._seeds(earlier)):
                self._read(earlier, max(begins, earlier * self._batch_size), (earlier + 1) * self._batch_size)
