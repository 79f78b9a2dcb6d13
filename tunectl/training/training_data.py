"""What batches of training are made of: the examples of `train`, their order, and their collation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from tunectl.training.collation import Collate, batch_tensors, collate_of
from tunectl.training.data_order import DataOrder, Order, SampledOrder
from tunectl.training.seeds import Purpose
from tunectl.workloads.workload import ExampleSampler, Workload


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The examples of `train`, how a batch is made of them, and the sampler that orders them, None for a permutation
    in each epoch.
    """

    dataset: Dataset[Any]
    collate: Collate = default_collate
    sampler: ExampleSampler | None = None

    @classmethod
    def of(cls, workload: Workload) -> TrainingData:
        """That of a workload."""
        return cls(workload.data["train"], collate_of(workload, "train"), workload.sampler)

    def order(
        self, seed: int, batch_size: int, purpose: Purpose = Purpose.ORDER, epochs: dict[int, str] | None = None
    ) -> Order:
        """The examples of each update; `epochs` gets digests of what a sampler gives (see SampledOrder)."""
        if self.sampler is not None:
            return SampledOrder(self.sampler, self.dataset, seed, batch_size, purpose, epochs)
        return DataOrder(seed, len(self.dataset), batch_size, purpose)  # type: ignore[arg-type]

    def tensors(self) -> tuple[Tensor, ...] | None:
        """The tensors of which batches can be taken without single examples; None where there are none."""
        return batch_tensors(self.dataset, self.collate)


def with_data(workload: Workload, data: Mapping[str, Dataset[Any]]) -> Workload:
    """The workload with these data sets in place of those of the same name, whose examples they have; its sampler still
    gets the data set that it knows.
    """
    sampler = workload.sampler
    if sampler is not None and not isinstance(sampler, (Iterable, _SamplerOf)):
        sampler = _SamplerOf(sampler, workload.data["train"])
    return replace(workload, data={**workload.data, **data}, sampler=sampler)


@dataclass(frozen=True, slots=True)
class _SamplerOf:
    """A sampler that is a function, with its own data set."""

    sampler: Callable[[Any, int, np.random.Generator], Any]
    dataset: Dataset[Any]

    def __call__(self, _dataset: Any, epoch: int, generator: np.random.Generator) -> Any:
        """The order of an epoch."""
        return self.sampler(self.dataset, epoch, generator)
