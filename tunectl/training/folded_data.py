"""The validation examples of a workload are added to its training examples, for the last training."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, TensorDataset

from tunectl.core.errors import WorkloadError
from tunectl.core.final_training import VALID_FOR_TRAINING, Fold, FoldedData
from tunectl.training.batch_values import tensors_in
from tunectl.training.collation import Collate, collate_of, drawn, plain_tensors
from tunectl.training.data_order import sampled_epoch
from tunectl.training.seeds import Purpose, sequence
from tunectl.training.streams import StreamedExamples, is_stream
from tunectl.workloads.workload import Workload

_DIGEST_EXAMPLES = 64
_DIGEST_SEED = 0
_MOST_EPOCHS = 100
_SURELY = 30.0  # none comes by chance once in e^30 cases
_END = object()


def folded(workload: Workload) -> Workload:
    """The workload whose `train` also has the examples of `valid`; further splits but `test` stay as they are.

    They come after those of `train`, as `data["valid_for_training"]` gives them where it is there. Then there is no
    `valid` any more: it would be measured on examples that were trained on.
    """
    own = {"train", "valid", VALID_FOR_TRAINING}
    others = {name: dataset for name, dataset in workload.data.items() if name not in own}
    added = workload.data.get(VALID_FOR_TRAINING, workload.data["valid"])
    whole = joined(workload.data["train"], added)
    _refuse_sampler(workload, whole)
    return replace(workload, data={"train": whole, **others})


def _refuse_sampler(workload: Workload, whole: Dataset[Any]) -> None:
    """Raise WorkloadError where the sampler knows nothing of the examples that were added to `train`.

    A function is tried until some of them were to be expected, if it took each example as often as any other.
    """
    sampler = workload.sampler
    if sampler is None:
        return
    if isinstance(sampler, Iterable):
        raise WorkloadError(
            f"sampler: a {type(sampler).__name__} has the places of the examples of 'train' alone, to which those of"
            " 'valid' are added now; give a function sampler(dataset, epoch, generator), which gets them all"
        )
    own, size = len(workload.data["train"]), len(whole)  # type: ignore[arg-type]
    expected = 0.0
    for epoch in range(_MOST_EPOCHS):
        try:
            order = sampled_epoch(sampler, whole, _DIGEST_SEED, epoch)
        except Exception:  # of the user's code, which may have fewer epochs; the training reports it
            return
        expected += len(order) * (size - own) / size
        if (order >= own).any():
            return
        if expected >= _SURELY:
            raise WorkloadError(
                f"sampler: expected examples of 'valid', too, whose places now follow the {own} of 'train'; take the"
                " places from the data set that it gets"
            )


def joined(first: Dataset[Any], second: Dataset[Any]) -> Dataset[Any]:
    """The examples of both data sets, in their order.

    Plain tensors stay plain tensors, which are the fastest. A data set with a `+` of its own, which may know more than
    single examples, is added by it.
    """
    if isinstance(first, StreamedExamples) or isinstance(second, StreamedExamples):
        return StreamedExamples(_Interleaved(first, second))
    ours, theirs = plain_tensors(first), plain_tensors(second)
    if ours is None or theirs is None or len(ours) != len(theirs):
        return _added(first, second)
    columns = list(zip(ours, theirs, strict=True))
    if any((one.shape[1:], one.dtype, one.device) != (two.shape[1:], two.dtype, two.device) for one, two in columns):
        return ConcatDataset([first, second])
    return TensorDataset(*(torch.cat([one.detach(), two.detach()]) for one, two in columns))


class _Interleaved(IterableDataset[Any]):
    """A pass through two data sets, the examples of the smaller one spread evenly between those of the larger one."""

    def __init__(self, first: Dataset[Any], second: Dataset[Any]) -> None:
        self._parts: list[Any] = [
            item.dataset if isinstance(item, StreamedExamples) else item for item in (first, second)
        ]
        self._sizes = [len(part) for part in self._parts]

    def __len__(self) -> int:
        return sum(self._sizes)

    def set_epoch(self, epoch: int) -> None:
        """Give both the number of the pass."""
        for part in self._parts:
            if callable(getattr(part, "set_epoch", None)):
                part.set_epoch(epoch)

    def __iter__(self) -> Iterator[Any]:
        ours, theirs = (
            iter(part) if is_stream(part) else (part[place] for place in range(len(part))) for part in self._parts
        )
        whole, second = len(self), self._sizes[1]
        for place in range(whole):
            # After k examples of the whole, k * second / whole of them are those of the second.
            is_second = (place + 1) * second // whole > place * second // whole
            yield next(theirs if is_second else ours)
        # Each has ended, unless it is longer than it says. (iter() of one might begin anew.)
        for part in (ours, theirs):
            while (item := next(part, _END)) is not _END:
                yield item


def _added(first: Dataset[Any], second: Dataset[Any]) -> Dataset[Any]:
    if isinstance(first, Dataset) and type(first).__add__ is not Dataset.__add__:
        return first + second
    return ConcatDataset([first, second])


def folded_data(workload: Workload) -> FoldedData:
    """The sizes of the workload's splits, how its `valid` is folded into `train`, and a hash of its `test`."""
    folded(workload)  # refuses what cannot be
    data: Mapping[str, Any] = workload.data
    sizes = {name: len(dataset) for name, dataset in data.items() if name != VALID_FOR_TRAINING}
    return FoldedData(sizes, _fold(data), _digest(data["test"], collate_of(workload, "test")) if "test" in data else "")


def _fold(data: Mapping[str, Any]) -> Fold:
    if VALID_FOR_TRAINING in data:
        return "given"
    are_plain = all(plain_tensors(data[name]) is not None for name in ("train", "valid"))
    return "alike" if are_plain else "as_evaluated"


def _digest(dataset: Dataset[Any], collate: Collate) -> str:
    """A hash of the number of examples and of some of them, spread evenly; "" where they cannot be hashed."""
    size = len(dataset)  # type: ignore[arg-type]
    chosen = sorted(set(np.linspace(0, size - 1, min(size, _DIGEST_EXAMPLES)).astype(np.int64).tolist()))
    found = hashlib.sha256(str(size).encode())
    # Examples that are drawn at random are the same ones each time.
    with contextlib.suppress(Exception):  # of the user's code: training does not need this hash
        tensors = [*tensors_in(drawn(dataset, chosen, sequence(_DIGEST_SEED, Purpose.EVALUATION), collate))]
        for tensor in tensors:
            found.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return found.hexdigest() if tensors else ""
    return ""
