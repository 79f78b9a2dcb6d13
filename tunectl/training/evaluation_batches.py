"""The batches in which a split is evaluated: the same on any number of devices, each of which takes some of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.data import Dataset

from tunectl.core.records import PREFETCHED
from tunectl.language.configuration import Precision
from tunectl.training.batch_values import moved
from tunectl.training.batches import DrawnByKey, LoadedBatches
from tunectl.training.collation import batch_tensors, collate_of
from tunectl.training.ranks import SINGLE, Ranks
from tunectl.training.seeds import Purpose
from tunectl.training.streams import StreamedExamples
from tunectl.workloads.workload import Workload


@dataclass(frozen=True, slots=True)
class Evaluator:
    """What is evaluated, and how: the splits with their data, the batch size, the seed, the precision of loss and
    metrics (averages are always float64), and the ranks that do it together.

    `undivided` are the splits of which it was found that rank 0 alone must evaluate all batches, one after the other,
    and why. `rescued` are those that it evaluated once without the exception that another rank raised.
    """

    workload: Workload
    splits: Mapping[str, Dataset[Any]]
    batch_size: int
    seed: int
    device: torch.device
    data_workers: int = 0
    precision: Precision = "float32"
    prefetch: int = PREFETCHED
    ranks: Ranks = SINGLE
    undivided: dict[str, str] = field(default_factory=dict, compare=False)
    rescued: dict[str, str] = field(default_factory=dict, compare=False)

    def own_batches(self, split: str) -> range:
        """The numbers of the batches of a split that this rank evaluates."""
        return self.all_batches(split)[self.ranks.rank :: self.ranks.count]

    def all_batches(self, split: str) -> range:
        """The numbers of all batches of a split."""
        return range(-(-len(self.splits[split]) // self.batch_size))  # type: ignore[arg-type]


def batches_of_split(evaluator: Evaluator, split: str, numbers: range) -> Iterator[tuple[int, Any, int]]:
    """The batches of a split with these numbers, each with its number before it and its number of examples after it.

    An example is drawn with the same random numbers whichever batches are asked for.
    """
    dataset, collate = evaluator.splits[split], collate_of(evaluator.workload, split)
    tensors, device = batch_tensors(dataset, collate), evaluator.device
    places = {number: _places(evaluator, split, number) for number in evaluator.all_batches(split)}
    if tensors is not None:
        for number in numbers:
            part = places[number]
            # A copy, so that a loss that writes into its batch does not change the data.
            copies = [tensor[part.start : part.stop].detach().clone() for tensor in tensors]
            yield number, [moved(tensor, device) for tensor in copies], len(part)
        return
    make = DrawnByKey(dataset, evaluator.seed, Purpose.EVALUATION, collate)
    # A stream is read in its order, also where others take the batches: its random numbers are drawn one by one.
    is_stream = isinstance(dataset, StreamedExamples)
    read = evaluator.all_batches(split) if is_stream else numbers
    keys = ((number, list(places[number])) for number in read)
    # A stream is read by one process. For a batch or two, processes would take more time than they save.
    workers = min(evaluator.data_workers, 1) if is_stream else evaluator.data_workers
    if 0 < workers < len(read):
        source = LoadedBatches(make, keys, device, workers, evaluator.prefetch)
        try:
            for number in read:
                batch = source.take(number)
                if number in numbers:
                    yield number, batch, len(places[number])
        finally:
            source.close()
        return
    for key in keys:
        drawn = make(key)
        if key[0] in numbers:
            yield key[0], moved(drawn, device), len(key[1])


def _places(evaluator: Evaluator, split: str, number: int) -> range:
    """The places of the examples of a batch."""
    size, step = len(evaluator.splits[split]), evaluator.batch_size  # type: ignore[arg-type]
    return range(number * step, min(size, (number + 1) * step))
