"""A batch that the user's own code gives, to be measured."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from tunectl.training.batch_values import copied, has_batch_objects, mapped_tensors, tensors_in


class GivenBatch:
    """One batch of `count` examples; has what `MeasuredExamples` has.

    It can be divided where each tensor in it has an entry for each example. It is never halved: what is measured is
    what was given. `count` is 1 where the loss gives the mean of the batch; `length` is the number of entries that all
    its tensors have, None where they differ.
    """

    has_final_size = True

    def __init__(self, batch: Any, count: int, device: torch.device) -> None:
        self._batch, self.count, self.device, self.chunks = batch, count, device, 1
        sizes = {len(tensor) if tensor.ndim else 0 for tensor in tensors_in(batch)}
        # What the tensors of a batch object mean is known to it alone.
        self.is_divisible = sizes == {count} and not has_batch_objects(batch)
        self.length = next(iter(sizes)) if len(sizes) == 1 and 0 not in sizes else None

    def state(self) -> dict[str, Any]:
        """In how many chunks the batch is divided."""
        return {"chunks": self.chunks}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` gave."""
        self.chunks = min(self.count, state["chunks"])

    def beginning(self, examples: int) -> GivenBatch:
        """The first examples, at most this number, where it can be divided; else the whole batch."""
        if not self.is_divisible or examples >= self.count:
            return self
        return GivenBatch(next(self.batches_of(examples)), examples, self.device)

    def sizes(self) -> list[int]:
        """The number of examples in each chunk."""
        ends = [self.count * number // self.chunks for number in range(self.chunks + 1)]
        return [last - first for first, last in itertools.pairwise(ends)]

    def batch(self, chunk: int) -> Any:
        """A copy of a chunk: a loss may write into it."""
        return next(itertools.islice(self.batches_of(*self.sizes()), chunk, None))

    def batches_of(self, *sizes: int) -> Iterator[Any]:
        """Copies of the first examples in batches of these sizes."""
        first = 0
        for size in sizes:
            last = first + size
            yield copied(self._batch if size == self.count else mapped_tensors(self._batch, _part(first, last)))
            first = last

    def divide(self, times: int = 2) -> bool:
        """Make `times` as many chunks; False where each chunk has one example already."""
        if self.chunks >= self.count:
            return False
        self.chunks = min(self.count, self.chunks * times)
        return True

    def halve(self) -> bool:
        """False: all of the batch is measured, or nothing."""
        return False


def _part(first: int, last: int) -> Any:
    def part(tensor: Tensor) -> Tensor:
        return tensor[first:last]

    return part
