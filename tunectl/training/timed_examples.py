"""Data sets that note how long each process reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from tunectl.training.collation import fetched


class TimedExamples(Dataset[Any]):
    """Another data set; adds up the seconds of reading its examples, for each process that reads them.

    `busy` is in memory that the loader processes share: shape [processes], the process of the trial itself where there
    are none.
    """

    def __init__(self, inner: Dataset[Any], workers: int, now: Callable[[], float]) -> None:
        self._inner, self._now = inner, now
        self.busy = torch.zeros(max(1, workers), dtype=torch.float64)
        self.busy.share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self._inner)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, examples: Sequence[int]) -> Any:
        began, worker = self._now(), get_worker_info()
        found = fetched(self._inner, examples)
        self.busy[0 if worker is None else worker.id] += self._now() - began
        return found


class TimedStream(IterableDataset[Any]):
    """Another iterable data set; adds up the seconds of reading its examples in `busy`, shape [1], as TimedExamples."""

    def __init__(self, inner: Any, now: Callable[[], float]) -> None:
        self._inner, self._now = inner, now
        self.busy = torch.zeros(1, dtype=torch.float64)
        self.busy.share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self._inner)

    def __getattr__(self, name: str) -> Any:
        # `set_epoch`, where the data set has it. With `iter_from` alone its place would not be timed.
        if name != "set_epoch":
            raise AttributeError(name)
        return getattr(self._inner, name)

    def __iter__(self) -> Iterator[Any]:
        items = iter(self._inner)
        while True:
            began = self._now()
            try:
                item = next(items)
            except StopIteration:
                return
            self.busy[0] += self._now() - began
            yield item
