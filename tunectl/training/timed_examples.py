"""A data set that notes how long each process reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset, get_worker_info

from tunectl.training.batches import fetched


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
