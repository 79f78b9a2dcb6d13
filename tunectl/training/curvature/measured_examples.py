"""The examples on which curvature is measured: a fixed sample of `train`, whole or in chunks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import Dataset, default_collate

from tunectl.training.batch_values import copied, moved
from tunectl.training.collation import Collate, collate_of, drawn
from tunectl.training.evaluated_splits import sample
from tunectl.training.seeds import TRAIN_SAMPLE_SEED, Purpose, sequence
from tunectl.training.streams import StreamedExamples
from tunectl.workloads.workload import Workload

_FEWEST = 2
"""Batch normalisation needs two examples."""


class MeasuredExamples:
    """A sample of a data set, drawn once with fixed seeds, so that it is the same in every trial; kept on the host.

    `count` examples are in `chunks` chunks of nearly the same size. Both can be made to fit a small memory; a trial
    that goes on from a checkpoint gets both of its first part, so that it measures the same.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        examples: int,
        device: torch.device,
        *,
        chunks: int = 1,
        collate: Collate = default_collate,
    ) -> None:
        self.count = min(examples, len(dataset))  # type: ignore[arg-type]
        # Of a stream at once: later, only the updates may read it.
        self._dataset = sample(dataset, self.count) if isinstance(dataset, StreamedExamples) else dataset
        self.device, self._collate = device, collate
        self._asked = self.count
        self.chunks = max(1, min(chunks, self.count))
        self.is_divisible, self.has_final_size = True, False
        self._batches: list[Any] = []

    @classmethod
    def of(cls, workload: Workload, examples: int, device: torch.device) -> MeasuredExamples:
        """A sample of the examples of `train`."""
        return cls(workload.data["train"], examples, device, collate=collate_of(workload, "train"))

    def beginning(self, examples: int) -> MeasuredExamples:
        """A smaller sample of the same data."""
        return MeasuredExamples(self._dataset, min(examples, self.count), self.device, collate=self._collate)

    def state(self) -> dict[str, Any]:
        """How many examples there are, and in how many chunks."""
        return {"count": self.count, "chunks": self.chunks, "has_final_size": self.has_final_size, "asked": self._asked}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` gave, unless it is of a study that asked for another number of examples."""
        if state.get("asked", self._asked) != self._asked:
            return
        self.count, self.has_final_size, self._batches = min(self.count, state["count"]), state["has_final_size"], []
        self.chunks = min(self.count, state["chunks"])

    def sizes(self) -> list[int]:
        """The number of examples in each chunk."""
        ends = [self.count * number // self.chunks for number in range(self.chunks + 1)]
        return [last - first for first, last in itertools.pairwise(ends)]

    def batch(self, chunk: int) -> Any:
        """A copy of a chunk, on the device: a loss may write into it."""
        if not self._batches:
            self._batches = self._collated(self.sizes())
        return _moved_copy(self._batches[chunk], self.device)

    def batches_of(self, *sizes: int) -> Iterator[Any]:
        """Batches of the first examples, of these sizes, on the device; less than all are drawn for them."""
        return (_moved_copy(batch, self.device) for batch in self._collated(sizes))

    def divide(self, times: int = 2) -> bool:
        """Make `times` as many chunks; False, and no change, where each chunk has one example already."""
        if self.chunks >= self.count:
            return False
        self.chunks, self._batches = min(self.count, self.chunks * times), []
        return True

    def halve(self) -> bool:
        """Measure half of the examples from now on, which are among these; False where two or fewer are left."""
        if self.count // 2 < _FEWEST:
            return False
        self.count, self._batches = self.count // 2, []
        return True

    def _collated(self, sizes: Any) -> list[Any]:
        """Batches of the first examples of the sample, of these sizes one after the other.

        The examples are drawn one by one, so that they do not depend on the division.
        """
        examples = drawn(
            sample(self._dataset, self.count),
            range(sum(sizes)),
            sequence(TRAIN_SAMPLE_SEED, Purpose.EXAMPLES),
            list,
        )
        batches, first = [], 0
        for size in sizes:
            batches.append(self._collate(examples[first : first + size]))
            first += size
        return batches


def _moved_copy(batch: Any, device: torch.device) -> Any:
    return copied(batch) if device.type == "cpu" else copied(moved(batch, device))
