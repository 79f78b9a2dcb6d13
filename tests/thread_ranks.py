"""Ranks that are threads of the tests' process: for what uses no global state, such as a layer's two passes."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tunectl.training.ranks import share_of_rank


class ThreadRanks:
    """One of `count` ranks, which exchange through a list that all of them have."""

    def __init__(self, rank: int, count: int, given: list[Any], barrier: threading.Barrier) -> None:
        self.rank, self.count = rank, count
        self._given, self._barrier = given, barrier

    def share(self, size: int, dealt: int = 0) -> slice:
        return share_of_rank(self.rank, self.count, size, dealt)

    def gathered(self, item: Any) -> list[Any]:
        self._given[self.rank] = item
        self._barrier.wait(timeout=60)
        found = list(self._given)
        self._barrier.wait(timeout=60)
        return found

    @torch.no_grad()
    def sum_(self, tensors: Sequence[Tensor]) -> None:
        every = self.gathered([tensor.detach().clone() for tensor in tensors])
        for place, tensor in enumerate(tensors):
            tensor.copy_(sum(of_rank[place] for of_rank in every))

    def sums(self, values: Sequence[float]) -> list[float]:
        return [sum(numbers) for numbers in zip(*self.gathered(list(values)), strict=True)]

    @torch.no_grad()
    def broadcast_(self, tensors: Sequence[Tensor]) -> None:
        first = self.gathered([tensor.detach().clone() for tensor in tensors])[0]
        for tensor, given in zip(tensors, first, strict=True):
            tensor.copy_(given)

    def agreed(self, flag: bool) -> bool:
        return any(self.gathered(flag))

    def finish(self) -> None:
        self.gathered(None)


def on_threads(count: int, call: Callable[[ThreadRanks], Any]) -> list[Any]:
    """What the call gives at each rank, in rank order; raises the first exception of one of them."""
    given, barrier = [None] * count, threading.Barrier(count)
    found, errors = [None] * count, list[BaseException]()

    def run(rank: int) -> None:
        try:
            found[rank] = call(ThreadRanks(rank, count, given, barrier))
        except BaseException as error:
            if not isinstance(error, threading.BrokenBarrierError):
                errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return found
