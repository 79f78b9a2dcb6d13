"""Takes apart the DataLoaders of a workload: tunectl makes the batches itself, of the size that the study says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    default_collate,
)

from tunectl.core.errors import WorkloadError
from tunectl.training.streams import is_stream
from tunectl.workloads.workload import Workload


def with_loaders_taken_apart(workload: Workload) -> Workload:
    """The workload with the data set, the collate_fn and, of `train`, the order of each of its loaders.

    Raises WorkloadError where a loader has parts that cannot be used, and where one is given twice.
    """
    if not isinstance(workload.loaders, Mapping):
        raise WorkloadError(f"loaders: expected a dict of DataLoaders by split, got a {_kind(workload.loaders)}")
    if not workload.loaders or not isinstance(workload.data, Mapping):
        return workload
    data, sampler = dict(workload.data), workload.sampler
    collate = dict(workload.collate) if isinstance(workload.collate, Mapping) else {}
    for split, loader in workload.loaders.items():
        what = f"loaders, split {split!r}"
        if split in data:
            raise WorkloadError(f"{what}: it is in data, too; give it once")
        if not isinstance(loader, DataLoader):
            raise WorkloadError(
                f"{what}: expected a torch.utils.data.DataLoader, got a {_kind(loader)}; other loaders can be the"
                " IterableDataset of a split in data, which gives single examples"
            )
        if loader.worker_init_fn is not None:
            raise WorkloadError(
                f"{what}: it has a worker_init_fn, which would not be called; leave it out: random generators are"
                " seeded, and what a process needs can be made when the first example is read"
            )
        data[split] = loader.dataset
        own = _collate(loader, what)
        if own is not None and workload.collate is not None:
            raise WorkloadError(f"{what}: it has a collate_fn, and the workload a collate; give one of them")
        if own is not None:
            collate[split] = own
        order = None if is_stream(loader.dataset) else _order(loader, split, what)
        if order is not None and sampler is not None:
            raise WorkloadError(f"{what}: it has an order of its own, and the workload a sampler; give one of them")
        sampler = sampler if order is None else order
    return replace(workload, data=data, collate=collate or workload.collate, sampler=sampler, loaders={})


def _collate(loader: DataLoader[Any], what: str) -> Any:
    """The function that collates examples; None for torch's default."""
    if loader.batch_size is None and loader.batch_sampler is None:
        raise WorkloadError(
            f"{what}: it has batch_size=None, so that its data set gives whole batches; expected a data set of single"
            " examples, of which the study's batch_size makes batches"
        )
    return None if loader.collate_fn is default_collate else loader.collate_fn


def _order(loader: DataLoader[Any], split: str, what: str) -> Any:
    """The sampler of `train`, None for a permutation in each epoch; of other splits the order does not matter."""
    if type(loader.batch_sampler) is not BatchSampler:
        raise WorkloadError(
            f"{what}: it has a batch_sampler of its own ({_kind(loader.batch_sampler)}), and the study's batch_size"
            " says how large batches are; give the order of examples as a sampler"
        )
    sampler: Any = loader.sampler
    is_shuffled = type(sampler) is RandomSampler and not sampler.replacement and len(sampler) == len(loader.dataset)  # type: ignore[arg-type]
    if is_shuffled:
        return None
    if split == "train":
        return sampler
    if type(sampler) is not SequentialSampler:
        raise WorkloadError(
            f"{what}: it has a sampler ({_kind(sampler)}), and all examples of its data set are evaluated; give the"
            " examples that are meant as a torch.utils.data.Subset"
        )
    return None


def _kind(value: Any) -> str:
    return type(value).__name__
