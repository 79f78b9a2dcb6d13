"""The batches of training. The batch of update t is a function of the trial's seed and t, whatever makes it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader, Dataset

from tunectl.core.errors import Infeasible, WorkloadError
from tunectl.core.records import PREFETCHED, TrialRequest
from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.batch_share import BatchShare
from tunectl.training.batch_values import moved
from tunectl.training.collation import Collate, MicroBatches, drawn
from tunectl.training.data_loaders import EndWithTrial, fetching
from tunectl.training.data_order import Order
from tunectl.training.ranks import SINGLE, Ranks
from tunectl.training.seeds import Purpose, sequence
from tunectl.training.streams import StreamBatches, StreamedExamples
from tunectl.training.training_data import TrainingData
from tunectl.workloads.workload import Workload

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
        """The batch of an update on the trial's device; where it is divided, the list of its micro-batches. Of a trial
        on several devices only the share of this one (see BatchShare).
        """

    def close(self) -> None:
        """End the processes that the source started."""


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
        order: Order,
        share: BatchShare,
        device: torch.device,
        *,
        total_updates: int | None = None,
    ) -> None:
        # A sampler may know nothing of the epochs after the last update.
        self._total = total_updates
        self._tensors, self._order, self._share, self._device = tensors, order, share, device
        self._sizes, self._size = share.sizes, sum(share.sizes)
        bytes_an_example = max(1, sum(tensor[:1].numel() * tensor.element_size() for tensor in tensors))
        self._updates = max(1, min(_BLOCK_UPDATES, _BLOCK_BYTES // (bytes_an_example * self._size)))
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
        if not self._share.is_divided:
            return batch
        parts = [torch.split(tensor, self._sizes) for tensor in batch]
        return [list(part) for part in zip(*parts, strict=True)]

    def _gather(self, block: int) -> None:
        # The last block is released first, so that the memory never holds two.
        self._views = []
        first, count = block * self._updates, self._updates
        if self._total is not None:
            count = min(count, self._total - first)
        examples = torch.from_numpy(self._share.own(self._order.examples(first, count)))
        with torch.no_grad():
            gathered = [tensor.index_select(0, moved(examples, tensor.device)) for tensor in self._tensors]
        columns = [moved(tensor, self._device).split(self._size) for tensor in gathered]
        self._views = [list(batch) for batch in zip(*columns, strict=True)]
        self._block = block

    def close(self) -> None:
        """Does nothing: no process was started."""


class DrawnBatches:
    """Batches that are made in this process, each by `make(update)`, on the host."""

    def __init__(self, make: Callable[[int], Any], device: torch.device) -> None:
        self._make, self._device = make, device

    def take(self, update: int) -> Any:
        """The batch of an update, as it is collated."""
        return moved(self._make(update), self._device)

    def close(self) -> None:
        """Does nothing: no process was started."""


class _ByKey(Dataset[Any]):
    """In a loader process: maps a key to its batch."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make

    def __getitem__(self, key: Any) -> Any:
        try:
            return self._make(key)
        except (Infeasible, WorkloadError) as reason:
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
    """Batches made by loader processes, in the order of their keys, equal to those made in this process.

    `make(key)` gives a batch on the host; `keys` has that of every batch that will be taken. Each process makes
    `prefetch` batches in advance.
    """

    def __init__(
        self,
        make: Callable[[Any], Any],
        keys: Iterator[Any],
        device: torch.device,
        workers: int,
        prefetch: int = PREFETCHED,
    ) -> None:
        loader: DataLoader[Any] = DataLoader(
            _ByKey(make),
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
        if isinstance(batch, (Infeasible, WorkloadError)):
            raise batch
        return moved(batch, self._device)

    def close(self) -> None:
        """End the loader processes and wait for them."""
        batches, self._batches = self._batches, iter(())
        # Without this they would live as long as a traceback that refers to the iterator.
        shutdown = getattr(batches, "_shutdown_workers", None)
        if shutdown is not None:
            shutdown()


@dataclass(frozen=True, slots=True)
class DrawnByKey:
    """Makes the batch of a key (number of the batch, examples), whose examples it draws with seeds of the number, and
    of the rank where that is not 0.
    """

    dataset: Dataset[Any]
    seed: int
    purpose: Purpose
    collate: Collate
    rank: int = 0

    def __call__(self, key: tuple[int, Sequence[int]]) -> Any:
        """The batch on the host."""
        number, examples = key
        indices = (number, self.rank) if self.rank else (number,)
        return drawn(self.dataset, examples, sequence(self.seed, self.purpose, *indices), self.collate)


def training_batches(
    data: TrainingData,
    *,
    seed: int,
    batch_size: int,
    first_update: int,
    total_updates: int,
    device: torch.device,
    data_workers: int,
    prefetch: int = PREFETCHED,
    micro_batch_sizes: Sequence[int] = (),
    of_statistics: bool = False,
    ranks: Ranks = SINGLE,
    epochs: dict[int, str] | None = None,
) -> Batches:
    """The batches of updates `first_update` to `total_updates` - 1, in the fastest way for the data set.

    With `micro_batch_sizes`, which sum to `batch_size`, each comes divided into a list of micro-batches. Those
    `of_statistics` are others, from which the statistics of batch normalisation are gathered. On several ranks each has
    its share, and reads no other examples, except of data that can only be read in their order. `epochs` gets digests
    of the orders that a sampler gives.
    """
    share = BatchShare.of(batch_size, micro_batch_sizes, ranks)
    purpose = Purpose.STATISTICS if of_statistics else Purpose.EXAMPLES
    workers = 0 if first_update >= total_updates else data_workers
    updates = range(first_update, total_updates)
    if isinstance(data.dataset, StreamedExamples):
        chosen = MicroBatches(share.places, data.collate) if share.is_divided else data.collate
        batches = StreamBatches(data.dataset, seed, batch_size, purpose=purpose, collate=chosen)
        # Only one process can read the examples in their order.
        return LoadedBatches(batches, iter(updates), device, 1, prefetch) if workers else DrawnBatches(batches, device)
    order = data.order(seed, batch_size, Purpose.STATISTICS if of_statistics else Purpose.ORDER, epochs)
    tensors = data.tensors()
    if tensors is not None:
        kept = tensors if of_statistics else resident(tensors, device, _memory_bytes(device))
        total = None if data.sampler is None else total_updates
        return TensorBatches(kept, order, share, device, total_updates=total)
    collate = MicroBatches(share.own_places, data.collate) if share.is_divided else data.collate
    make = DrawnByKey(data.dataset, seed, purpose, collate, ranks.rank)

    def key(update: int) -> tuple[int, list[int]]:
        return update, share.own(order.examples(update)).tolist()

    if not workers:
        return DrawnBatches(lambda update: make(key(update)), device)
    keys = map(key, updates)
    return LoadedBatches(make, keys, device, workers, prefetch)


def batches_of(
    request: TrialRequest,
    workload: Workload,
    configuration: TrainingConfiguration,
    device: torch.device,
    *,
    updates: range,
    ranks: Ranks = SINGLE,
    epochs: dict[int, str] | None = None,
) -> Batches:
    """The batches of a trial's updates, as its request and its configuration say; see `training_batches`."""
    return training_batches(
        TrainingData.of(workload),
        seed=request.seed,
        batch_size=configuration.batch_size,
        first_update=updates.start,
        total_updates=updates.stop,
        device=device,
        data_workers=request.data_workers,
        prefetch=request.prefetch_batches,
        micro_batch_sizes=configuration.micro_batch_sizes() if configuration.accumulate_steps > 1 else (),
        ranks=ranks,
        epochs=epochs,
    )
