"""The batches of training. The batch of update t is a function of the trial's seed and t, whatever makes it."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader, Dataset, TensorDataset, default_collate

from tunectl.core.errors import Infeasible, WorkloadError
from tunectl.core.records import PREFETCHED
from tunectl.training.data_loaders import EndWithTrial, fetching
from tunectl.training.seeds import Purpose, host_randomness, sequence

_BLOCK_BYTES = 2**25
_BLOCK_UPDATES = 256

RESIDENT_PART = 0.05
"""A data set of tensors is kept on the GPU during a trial where it takes at most this part of the memory.

Gathering the batches of a small convolutional network on the host took as long as the updates themselves. Where trials
share a GPU, each has its own copy.
"""


class Batches(Protocol):
    """The source of the loop's batches. Updates are taken in order, beginning with the one it was made for."""

    def take(self, update: int) -> Any:
        """The batch of an update on the trial's device; where it is divided, the list of its micro-batches."""

    def close(self) -> None:
        """End the processes that the source started."""


class DataOrder:
    """An endless stream of examples: a permutation of the data set for each epoch.

    The permutation of epoch e is a function of (seed, purpose, e). Update t takes the stream's positions t * B to
    t * B + B - 1, so batches are always full: across the end of an epoch, and where one is larger than the data set.
    """

    def __init__(self, seed: int, size: int, batch_size: int, purpose: Purpose = Purpose.ORDER) -> None:
        if size < 1:
            raise WorkloadError("the split 'train': expected at least one example, got none")
        self._seed, self._size, self._batch_size, self._purpose = seed, size, batch_size, purpose
        self._epoch = -1
        self._permutation = np.empty(0, np.int64)

    def _epoch_order(self, epoch: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        if epoch != self._epoch:
            generator = np.random.Generator(np.random.PCG64(sequence(self._seed, self._purpose, epoch)))
            self._permutation, self._epoch = generator.permutation(self._size), epoch
        return self._permutation

    def examples(self, update: int, updates: int = 1) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The examples of `updates` updates from `update` on, in their order; shape [updates * batch_size]."""
        first, last = update * self._batch_size, (update + updates) * self._batch_size
        parts = []
        while first < last:
            epoch, offset = divmod(first, self._size)
            part = self._epoch_order(epoch)[offset : offset + last - first]
            parts.append(part)
            first += len(part)
        return np.concatenate(parts)


def moved(batch: Any, device: torch.device) -> Any:
    """The batch on a device: tensors in mappings, lists and (named) tuples are moved, other values stay as they are."""
    if device.type == "cpu":
        return batch

    def move(tensor: Tensor) -> Tensor:
        pinned = tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor
        return pinned.to(device, non_blocking=True)

    return mapped_tensors(batch, move)


def copied(batch: Any) -> Any:
    """The batch with its own memory: tensors and the mappings, lists and tuples around them are copied, other values
    are shared.
    """
    return mapped_tensors(batch, Tensor.clone)


def in_double(batch: Any) -> Any:
    """The batch with its floating-point tensors in float64."""
    return mapped_tensors(batch, lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)


def mapped_tensors(batch: Any, change: Callable[[Tensor], Any]) -> Any:
    """The batch with `change(tensor)` for each tensor in it, in the same mappings, lists and tuples."""
    if isinstance(batch, Tensor):
        return change(batch)
    if isinstance(batch, Mapping):
        items = {key: mapped_tensors(item, change) for key, item in batch.items()}
        return items if type(batch) is dict else type(batch)(items)  # type: ignore[call-arg]
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(mapped_tensors(item, change) for item in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(mapped_tensors(item, change) for item in batch)
    return batch


def tensors_in(batch: Any) -> Iterator[Tensor]:
    """The tensors in a batch: in mappings, lists and tuples."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, (Mapping, list, tuple)):
        for item in batch.values() if isinstance(batch, Mapping) else batch:
            yield from tensors_in(item)


@contextmanager
def unwritten(batch: Any, what: str) -> Iterator[None]:
    """Raise WorkloadError where the block writes into a tensor of the batch; `what` is the call in the message.

    Torch counts the writes of its own operations, but not those through numpy or `.data`.
    """
    # Inference tensors do not count writes.
    watched = [(tensor, tensor._version) for tensor in tensors_in(batch) if not tensor.is_inference()]
    yield
    if any(tensor._version != version for tensor, version in watched):
        raise WorkloadError(f"{what} writes into its batch; work on a copy")


class MicroBatches:
    """Collates the examples of an update into micro-batches: a list of batches of these sizes.

    The examples are drawn as for the whole batch, so that the micro-batches together are the same batch.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = list(sizes)

    def __call__(self, examples: list[Any]) -> list[Any]:
        """The micro-batches of the examples, each collated by itself."""
        ends = itertools.accumulate(self._sizes)
        return [default_collate(examples[end - size : end]) for size, end in zip(self._sizes, ends, strict=True)]


Collate = Callable[[Any], Any]


def drawn(
    dataset: Dataset[Any], examples: Sequence[int], seeds: np.random.SeedSequence, collate: Collate = default_collate
) -> Any:
    """The batch of these examples, drawn with these seeds; the global generators are as before afterwards."""
    with host_randomness(seeds):
        return collate(fetched(dataset, examples))


def fetched(dataset: Dataset[Any], examples: Sequence[int]) -> Any:
    """These examples, in one call where the data set can give several."""
    fetch_all = getattr(dataset, "__getitems__", None)
    return fetch_all(list(examples)) if fetch_all else [dataset[index] for index in examples]


def plain_tensors(dataset: Dataset[Any]) -> tuple[Tensor, ...] | None:
    """The tensors of a plain TensorDataset, whose batches can be taken without single examples; else None."""
    if type(dataset) is not TensorDataset:
        return None
    tensors: tuple[Tensor, ...] = dataset.tensors
    return tensors if all(tensor.layout is torch.strided for tensor in tensors) else None


def resident(tensors: Sequence[Tensor], device: torch.device, memory_bytes: int) -> tuple[Tensor, ...]:
    """The tensors on the device where they take at most `RESIDENT_PART` of its memory, else as they are."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if device.type == "cpu" or size > RESIDENT_PART * memory_bytes:
        return tuple(tensors)
    return tuple(tensor.detach().to(device) for tensor in tensors)


def _memory_bytes(device: torch.device) -> int:
    """The total memory of a GPU, which unlike the free memory is the same for every trial."""
    return int(torch.cuda.get_device_properties(device).total_memory) if device.type == "cuda" else 0


class TensorBatches:
    """Batches of a plain TensorDataset: the examples of many updates are gathered together; each batch is a view of
    them, and each micro-batch a view of the batch.
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        order: DataOrder,
        batch_size: int,
        device: torch.device,
        sizes: Sequence[int] = (),
    ) -> None:
        self._tensors, self._order, self._batch_size, self._device = tensors, order, batch_size, device
        self._sizes = list(sizes)
        bytes_an_example = max(1, sum(tensor[:1].numel() * tensor.element_size() for tensor in tensors))
        self._updates = max(1, min(_BLOCK_UPDATES, _BLOCK_BYTES // (bytes_an_example * batch_size)))
        self._block = -1
        self._views: list[list[Tensor]] = []

    def take(self, update: int) -> list[Any]:
        """The batch of an update: a list of tensors, as default collation gives it; or its micro-batches."""
        # Blocks begin at fixed updates, also in a resumed trial: the last bit of a matrix product can depend on the
        # offset of the batch in memory.
        block, place = divmod(update, self._updates)
        if block != self._block:
            self._gather(block)
        batch = self._views[place]
        if not self._sizes:
            return batch
        parts = [torch.split(tensor, self._sizes) for tensor in batch]
        return [list(part) for part in zip(*parts, strict=True)]

    def _gather(self, block: int) -> None:
        # The last block is released first, so that the memory never holds two.
        self._views = []
        examples = torch.from_numpy(self._order.examples(block * self._updates, self._updates))
        with torch.no_grad():
            gathered = [tensor.index_select(0, moved(examples, tensor.device)) for tensor in self._tensors]
        columns = [moved(tensor, self._device).split(self._batch_size) for tensor in gathered]
        self._views = [list(batch) for batch in zip(*columns, strict=True)]
        self._block = block

    def close(self) -> None:
        """Does nothing: no process was started."""


class DrawnBatches:
    """Batches of any map-style data set, drawn in this process."""

    def __init__(
        self,
        dataset: Dataset[Any],
        order: DataOrder,
        seed: int,
        device: torch.device,
        collate: Collate = default_collate,
        purpose: Purpose = Purpose.EXAMPLES,
    ) -> None:
        self._dataset, self._order, self._seed, self._device = dataset, order, seed, device
        self._collate, self._purpose = collate, purpose

    def take(self, update: int) -> Any:
        """The batch of an update, as it is collated."""
        examples, seeds = self._order.examples(update).tolist(), sequence(self._seed, self._purpose, update)
        return moved(drawn(self._dataset, examples, seeds, self._collate), self._device)

    def close(self) -> None:
        """Does nothing: no process was started."""


class _DrawnByKey(Dataset[Any]):
    """In a loader process: maps a key (number of the batch, examples) to its batch."""

    def __init__(self, dataset: Dataset[Any], seed: int, purpose: Purpose, collate: Collate) -> None:
        self._dataset, self._seed, self._purpose, self._collate = dataset, seed, purpose, collate

    def __getitem__(self, key: tuple[int, Sequence[int]]) -> Any:
        number, examples = key
        try:
            return drawn(self._dataset, examples, sequence(self._seed, self._purpose, number), self._collate)
        except Infeasible as reason:
            # Raised in this process, it would arrive with the loader's traceback as its reason.
            return reason
        except Exception:
            raise
        except BaseException:
            # It would end this process without a message; torch raises it again in the trial's process.
            return ExceptionWrapper(where="in a data-loader process")  # type: ignore[no-untyped-call]


def _unchanged(batch: Any) -> Any:
    return batch


class LoadedBatches:
    """Batches drawn by loader processes, in the order of their keys, equal to those drawn in this process.

    `keys` gives (number of the batch, examples) for every batch that will be taken. Each process makes `prefetch`
    batches in advance.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        keys: Iterator[tuple[int, list[int]]],
        seed: int,
        purpose: Purpose,
        device: torch.device,
        workers: int,
        collate: Collate = default_collate,
        prefetch: int = PREFETCHED,
    ) -> None:
        loader: DataLoader[Any] = DataLoader(
            _DrawnByKey(dataset, seed, purpose, collate),
            sampler=keys,
            batch_size=None,
            collate_fn=_unchanged,
            num_workers=workers,
            prefetch_factor=prefetch,
            pin_memory=device.type == "cuda",
            # With its own generator: otherwise making the iterator would draw from the global one.
            generator=torch.Generator(),
            worker_init_fn=EndWithTrial(os.getpid()),
            multiprocessing_context="fork" if sys.platform == "linux" else None,
        )
        self._device = device
        self._batches: Any = iter(loader)

    def take(self, update: int) -> Any:  # noqa: ARG002  (the keys were given in order)
        """The next batch."""
        with fetching():
            batch = next(self._batches)
        if isinstance(batch, Infeasible):
            raise batch
        return moved(batch, self._device)

    def close(self) -> None:
        """End the loader processes and wait for them."""
        batches, self._batches = self._batches, iter(())
        # Without this they would live as long as a traceback that refers to the iterator.
        shutdown = getattr(batches, "_shutdown_workers", None)
        if shutdown is not None:
            shutdown()


def training_batches(
    dataset: Dataset[Any],
    *,
    seed: int,
    batch_size: int,
    first_update: int,
    total_updates: int,
    device: torch.device,
    data_workers: int,
    prefetch: int = PREFETCHED,
    micro_batch_sizes: Sequence[int] = (),
) -> Batches:
    """The batches of updates `first_update` to `total_updates` - 1, in the fastest way for the data set.

    With `micro_batch_sizes`, which sum to `batch_size`, each comes divided into a list of micro-batches.
    """
    order = DataOrder(seed, len(dataset), batch_size)  # type: ignore[arg-type]
    tensors = plain_tensors(dataset)
    if tensors is not None:
        tensors = resident(tensors, device, _memory_bytes(device))
        return TensorBatches(tensors, order, batch_size, device, micro_batch_sizes)
    collate: Collate = MicroBatches(micro_batch_sizes) if micro_batch_sizes else default_collate
    if data_workers == 0 or first_update >= total_updates:
        return DrawnBatches(dataset, order, seed, device, collate)
    keys = ((update, order.examples(update).tolist()) for update in range(first_update, total_updates))
    return LoadedBatches(dataset, keys, seed, Purpose.EXAMPLES, device, data_workers, collate, prefetch)
