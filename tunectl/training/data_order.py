"""The order in which updates take the examples of `train`: a function of the trial's seed and the update."""

from __future__ import annotations

import bisect
import hashlib
import itertools
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from tunectl.core.errors import WorkloadError
from tunectl.training.seeds import Purpose, host_randomness, sequence
from tunectl.workloads.workload import ExampleSampler

Indices = np.ndarray[Any, np.dtype[np.int64]]

_MOST_OF_AN_EPOCH = 10_000_000
_MOST_TIMES = 100
"""A sampler may give that many examples for an epoch, or that many times the data set, whichever is more."""


class Order(Protocol):
    """The examples of updates."""

    def examples(self, update: int, updates: int = 1) -> Indices:
        """The examples of `updates` updates from `update` on, in their order; shape [updates * batch_size]."""


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

    def _epoch_order(self, epoch: int) -> Indices:
        if epoch != self._epoch:
            generator = np.random.Generator(np.random.PCG64(sequence(self._seed, self._purpose, epoch)))
            self._permutation, self._epoch = generator.permutation(self._size), epoch
        return self._permutation

    def examples(self, update: int, updates: int = 1) -> Indices:
        """The examples of `updates` updates from `update` on, in their order; shape [updates * batch_size]."""
        first, last = update * self._batch_size, (update + updates) * self._batch_size
        parts = []
        while first < last:
            epoch, offset = divmod(first, self._size)
            part = self._epoch_order(epoch)[offset : offset + last - first]
            parts.append(part)
            first += len(part)
        return np.concatenate(parts)


class SampledOrder:
    """An endless stream of examples: the epochs of the workload's sampler, one after the other, of any lengths.

    The examples of epoch e are a function of (seed, purpose, e), if the sampler draws all that is random from what it
    is given. Update t takes the stream's positions t * B to t * B + B - 1. `epochs` gets a digest of each epoch that is
    made.
    """

    def __init__(
        self,
        sampler: ExampleSampler,
        dataset: Dataset[Any],
        seed: int,
        batch_size: int,
        purpose: Purpose = Purpose.ORDER,
        epochs: dict[int, str] | None = None,
    ) -> None:
        self._sampler, self._dataset, self._batch_size = sampler, dataset, batch_size
        self._seed, self._purpose, self._epochs = seed, purpose, epochs
        self._ends: list[int] = []  # of the epochs so far, in the stream
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def examples(self, update: int, updates: int = 1) -> Indices:
        """The examples of `updates` updates from `update` on, in their order; shape [updates * batch_size]."""
        first, last = update * self._batch_size, (update + updates) * self._batch_size
        parts = []
        while first < last:
            epoch = bisect.bisect_right(self._ends, first)
            order = self._of_epoch(epoch)
            begin = self._ends[epoch - 1] if epoch else 0
            if epoch == len(self._ends):
                # The lengths of epochs may differ, so that all of them are made in turn.
                self._ends.append(begin + len(order))
            part = order[first - begin : last - begin] if first < self._ends[epoch] else order[:0]
            parts.append(part)
            first += len(part)
        return np.concatenate(parts)

    def _of_epoch(self, epoch: int) -> Indices:
        if epoch != self._epoch:
            self._order = sampled_epoch(self._sampler, self._dataset, self._seed, epoch, self._purpose)
            self._epoch = epoch
            if self._epochs is not None:
                self._epochs[epoch] = order_digest(self._order)
        return self._order


def order_digest(order: Indices) -> str:
    """A digest of the examples of an epoch, in their order."""
    return hashlib.blake2b(order.data, digest_size=16).hexdigest()


def sampled_epoch(
    sampler: ExampleSampler, dataset: Dataset[Any], seed: int, epoch: int, purpose: Purpose = Purpose.ORDER
) -> Indices:
    """The examples of an epoch as the sampler gives them; raises WorkloadError where they are no examples of `train`.

    An iterable is read with the generators of torch, numpy and random, and its own one, seeded for the epoch. The
    generators are as before afterwards, except its own.
    """
    size = len(dataset)  # type: ignore[arg-type]
    seeds = sequence(seed, purpose, epoch)
    with host_randomness(seeds):
        if isinstance(sampler, Iterable):
            _prepare(sampler, seeds, epoch)
            given: Any = sampler
        else:
            given = sampler(dataset, epoch, np.random.Generator(np.random.PCG64(seeds)))
        return _checked(given, size)


def _prepare(sampler: Any, seeds: np.random.SeedSequence, epoch: int) -> None:
    """Give a sampler of torch the number of the epoch, and seed its generator."""
    set_epoch = getattr(sampler, "set_epoch", None)
    if callable(set_epoch):
        set_epoch(epoch)
    generator = getattr(sampler, "generator", None)
    if isinstance(generator, torch.Generator):
        generator.manual_seed(int(seeds.generate_state(1, np.uint64)[0] >> np.uint64(1)))


def _checked(given: Any, size: int) -> Indices:
    if isinstance(given, torch.Tensor):
        given = given.numpy()
    if isinstance(given, np.ndarray):
        found = given if given.dtype.kind in "iu" and given.ndim == 1 else None
        if found is None:
            raise WorkloadError(
                f"sampler: expected whole numbers, shape [examples], got {given.dtype}, shape {list(given.shape)}"
            )
    else:
        found = _counted(given, max(_MOST_OF_AN_EPOCH, _MOST_TIMES * size))
    if not len(found):
        raise WorkloadError("sampler: expected at least one example for an epoch, got none")
    wrong = found[(found < 0) | (found >= size)]
    if len(wrong):
        raise WorkloadError(
            f"sampler: expected places of examples of 'train', from 0 to {size - 1}, got {int(wrong[0])}"
        )
    return found.astype(np.int64)


def _counted(given: Any, most: int) -> Indices:
    """The whole numbers of an iterable, at most this number of them."""
    if not isinstance(given, Iterable):
        raise WorkloadError(f"sampler: expected the places of examples, got {_kind(given)}")
    found = np.fromiter((_whole(item) for item in itertools.islice(given, most + 1)), np.int64)
    if len(found) > most:
        raise WorkloadError(f"sampler: expected at most {most:,} examples for an epoch; it must end")
    return found


def _whole(item: Any) -> int:
    if isinstance(item, (list, tuple)):
        raise WorkloadError(
            f"sampler: expected whole numbers, got {_kind(item)}; it gives the order of examples, of which batch_size"
            " makes batches"
        )
    index: Callable[[], int] | None = getattr(item, "__index__", None)
    if index is None or isinstance(item, bool):
        raise WorkloadError(f"sampler: expected whole numbers, got {item!r}")
    return index()


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
