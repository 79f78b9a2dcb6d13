"""Examples that are read once and kept in the host's memory: `resources.cache_examples`.

Only a split whose examples are the same each time is kept. One that draws random numbers for them, as for random crops,
is read again each time, as without the cache: else its augmentation would be frozen.
"""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tunectl.core.errors import WorkloadError
from tunectl.core.free_memory import free_bytes
from tunectl.core.records import TrialRequest
from tunectl.core.wording import short_number
from tunectl.training.batch_values import is_batch_object, tensors_in
from tunectl.training.batches import DrawnByKey, LoadedBatches
from tunectl.training.collation import KeptExamples, fetched, plain_tensors
from tunectl.training.evaluated_splits import is_evaluated
from tunectl.training.seeds import Purpose, host_randomness, random_state, sequence
from tunectl.training.streams import StreamedExamples
from tunectl.training.training_data import with_data
from tunectl.workloads.workload import Workload

MOST_OF_MEMORY = 0.5
"""The cache may take at most this part of the memory that is free: the model and other trials need some, too."""

TRIED = 32
"""The number of examples that are read twice before any is kept."""

_AT_ONCE = 64  # examples in one message of a loader process
_HOST = torch.device("cpu")

Why = Literal["", "in memory", "random", "in order"]
"""Why the examples of a split are not kept; "" where they can be, if they fit."""


@dataclass(frozen=True, slots=True)
class CachePlan:
    """What a cache of a split would be: why there is none, and the bytes of all its examples (0 where unknown)."""

    why: Why
    total_bytes: int = 0


class _Watched(Dataset[Any]):
    """Gives copies of the examples of another data set; each with whether random numbers were drawn for its batch."""

    def __init__(self, inner: Dataset[Any]) -> None:
        self._inner = inner

    def __len__(self) -> int:
        return len(self._inner)  # type: ignore[arg-type]

    def __getitems__(self, examples: Sequence[int]) -> list[Any]:
        before = random_state(_HOST)
        # Each is copied before the next is read: a data set may give the same buffer each time.
        found = [copy.deepcopy(item) for index in examples for item in fetched(self._inner, [index])]
        return [not equal(before, random_state(_HOST)), found]


def _as_read(read: Any) -> Any:
    return read


def equal(one: Any, other: Any) -> bool:
    """Whether two values of an example are the same: tensors, arrays, numbers, text, and what holds them."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        return torch.equal(one, other) or bool(((one == other) | ((one != one) & (other != other))).all())
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind in "fc")
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    if dataclasses.is_dataclass(one) and not isinstance(one, type):
        return all(
            equal(getattr(one, field.name, None), getattr(other, field.name, None)) for field in dataclasses.fields(one)
        )
    if is_batch_object(one):
        # Its tensors are all that is known of it.
        return equal(list(tensors_in(one)), list(tensors_in(other)))
    return bool(one == other) or (one != one and other != other)


def bytes_of(item: Any) -> int:
    """The memory that an example takes."""
    if isinstance(item, Tensor):
        return item.numel() * item.element_size() + sys.getsizeof(item)
    if isinstance(item, np.ndarray):
        return item.nbytes + sys.getsizeof(item)
    if isinstance(item, (Mapping, list, tuple)):
        return sys.getsizeof(item) + sum(map(bytes_of, item.values() if isinstance(item, Mapping) else item))
    return sys.getsizeof(item) + sum(map(bytes_of, tensors_in(item)))


def fits_in_memory(total_bytes: int, free: int | None) -> bool:
    """Whether a cache of this size may be made where `free` bytes are free (None: not known)."""
    return free is None or total_bytes <= MOST_OF_MEMORY * free


def cache_plan(dataset: Dataset[Any], seed: int) -> CachePlan:
    """Whether the examples of a split can be kept, and what they take, from reading TRIED of them twice.

    An exception of the data set passes.
    """
    if plain_tensors(dataset) is not None:
        return CachePlan("in memory")
    if isinstance(dataset, StreamedExamples):
        return CachePlan("in order")  # kept, its examples would be trained on in another order
    read = read_twice(dataset, seed)
    if read is None:
        return CachePlan("random")
    return CachePlan("", sum(map(bytes_of, read)) * len(dataset) // len(read))  # type: ignore[arg-type]


def read_twice(dataset: Dataset[Any], seed: int) -> list[Any] | None:
    """TRIED of the examples of a split, of a stream the first; None where they are not the same each time, or random
    numbers were drawn for them.

    An exception of the data set passes.
    """
    size = len(dataset)  # type: ignore[arg-type]
    last = min(size, TRIED) if isinstance(dataset, StreamedExamples) else size
    examples = sorted({int(place) for place in np.linspace(0, last - 1, min(size, TRIED))})
    readings = []
    for number in range(2):
        with host_randomness(sequence(seed, Purpose.EXAMPLES, number)):
            readings.append(_Watched(dataset).__getitems__(examples))
    (random, first), (_, again) = readings
    return None if random or not equal(first, again) else first


def cached(dataset: Dataset[Any], seed: int, workers: int) -> KeptExamples | None:
    """All examples in memory, read by this number of loader processes; None where random numbers were drawn for one."""
    items: list[Any] = []
    for random, read in _batches_read(dataset, seed, workers):
        if random:
            return None
        # From a loader process they come in memory that is shared with it, and that has a descriptor each.
        items += copy.deepcopy(read) if workers else read
    return KeptExamples(items)


def _batches_read(dataset: Dataset[Any], seed: int, workers: int) -> Iterator[tuple[bool, list[Any]]]:
    size = len(dataset)  # type: ignore[arg-type]
    parts = [list(range(first, min(first + _AT_ONCE, size))) for first in range(0, size, _AT_ONCE)]
    watched = _Watched(dataset)
    if not workers or len(parts) <= workers:
        for number, part in enumerate(parts):
            with host_randomness(sequence(seed, Purpose.EXAMPLES, number)):
                random, read = watched.__getitems__(part)
            yield random, read
        return
    make = DrawnByKey(watched, seed, Purpose.EXAMPLES, _as_read)
    source = LoadedBatches(make, iter(enumerate(parts)), _HOST, workers)
    try:
        for number in range(len(parts)):
            random, read = source.take(number)
            yield random, read
    finally:
        source.close()


def with_cached_examples(workload: Workload, request: TrialRequest) -> Workload:
    """The workload with the examples of its evaluated splits in memory, where the request asks for it.

    Raises WorkloadError where they do not fit.
    """
    kept = {
        name: cached(workload.data[name], request.seed, request.data_workers) or workload.data[name]
        for name, plan in cache_plans(workload, request).items()
        if plan.why == ""
    }
    return with_data(workload, kept) if kept else workload


def cache_plans(workload: Workload, request: TrialRequest) -> dict[str, CachePlan]:
    """What the cache of each evaluated split would be, {} where the request asks for none.

    Raises WorkloadError where all of them together do not fit into the memory.
    """
    if not request.cache_examples:
        return {}
    evaluated = {name: dataset for name, dataset in workload.data.items() if is_evaluated(name)}
    plans = {name: cache_plan(dataset, request.seed) for name, dataset in evaluated.items()}
    # The process of each device has its own.
    total, free = request.devices * sum(plan.total_bytes for plan in plans.values()), free_bytes()
    if free is not None and not fits_in_memory(total, free):
        raise WorkloadError(
            f"resources.cache_examples: the examples take {short_number(total / 2**30, 3)} GiB, and each trial may use"
            f" {MOST_OF_MEMORY:.0%} of the {short_number(free / 2**30, 3)} GiB that are free; leave it out"
        )
    return plans
