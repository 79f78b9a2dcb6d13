"""Examples of a data set, and the batches that are collated from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset, default_collate

from tunectl.training.seeds import host_randomness
from tunectl.workloads.workload import Workload

Collate = Callable[[Any], Any]
"""Makes a batch of a list of examples."""


def collate_of(workload: Workload, split: str) -> Collate:
    """The function that makes batches of a split's examples: the workload's, or torch's default."""
    given = workload.collate.get(split) if isinstance(workload.collate, Mapping) else workload.collate
    return default_collate if given is None else given


class MicroBatches:
    """Collates examples of an update into micro-batches: a list of batches, each of the examples at these places.

    The examples are drawn as for the whole batch, so that the micro-batches together are the same batch.
    """

    def __init__(self, places: Sequence[slice], collate: Collate = default_collate) -> None:
        self._places, self._collate = list(places), collate

    def __call__(self, examples: list[Any]) -> list[Any]:
        """The micro-batches of the examples, each collated by itself."""
        return [self._collate(examples[place]) for place in self._places]


def drawn(dataset: Dataset[Any], examples: Sequence[int], seeds: np.random.SeedSequence, collate: Collate) -> Any:
    """The batch of these examples, drawn with these seeds; the global generators are as before afterwards."""
    with host_randomness(seeds):
        return collate(fetched(dataset, examples))


def fetched(dataset: Dataset[Any], examples: Sequence[int]) -> Any:
    """These examples, in one call where the data set can give several."""
    fetch_all = getattr(dataset, "__getitems__", None)
    return fetch_all(list(examples)) if fetch_all and len(examples) else [dataset[index] for index in examples]


class KeptExamples(Dataset[Any]):
    """A map-style data set whose examples are in memory."""

    def __init__(self, items: Sequence[Any]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Any:
        return self._items[index]


def plain_tensors(dataset: Dataset[Any]) -> tuple[Tensor, ...] | None:
    """The tensors of a plain TensorDataset; else None."""
    if type(dataset) is not TensorDataset:
        return None
    tensors: tuple[Tensor, ...] = dataset.tensors
    return tensors if all(tensor.layout is torch.strided for tensor in tensors) else None


def batch_tensors(dataset: Dataset[Any], collate: Collate) -> tuple[Tensor, ...] | None:
    """The tensors of which batches can be taken without single examples: plain ones, collated by default; else None."""
    return plain_tensors(dataset) if collate is default_collate else None
