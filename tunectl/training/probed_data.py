"""Tries the data of a workload: whether a trial could go on from a saved state and see the same examples."""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

from tunectl.core.errors import WorkloadError
from tunectl.training.batch_values import tensors_in
from tunectl.training.cached_examples import equal
from tunectl.training.data_order import sampled_epoch
from tunectl.training.evaluated_splits import sample
from tunectl.training.seeds import Purpose, host_randomness, sequence
from tunectl.training.split_metrics import split_metrics
from tunectl.training.streams import Pass, StreamedExamples
from tunectl.training.training_data import TrainingData
from tunectl.workloads.workload import Workload

_TRIED = 8


def first_examples(data: TrainingData, seed: int, count: int) -> list[int]:
    """The places of the first examples that are trained on; of a stream they are the first ones.

    Raises WorkloadError where the sampler gives no examples, or others each time.
    """
    if isinstance(data.dataset, StreamedExamples):
        return list(range(min(count, len(data.dataset))))
    if data.sampler is not None:
        first = sampled_epoch(data.sampler, data.dataset, seed, 0)
        with contextlib.suppress(Exception):  # there may be no second epoch
            sampled_epoch(data.sampler, data.dataset, seed, 1)
        again = sampled_epoch(data.sampler, data.dataset, seed, 0)
        if not np.array_equal(first, again):
            raise WorkloadError(
                "sampler: expected the same order each time for an epoch, got another one the second time; take random"
                " numbers from the generator that a function gets, or from torch's global one"
            )
    return data.order(seed, count).examples(0).tolist()  # type: ignore[no-any-return]


def refuse_unrepeatable(workload: Workload, seed: int) -> None:
    """Raise WorkloadError where an iterable data set gives other examples in a second pass, or by `iter_from`.

    What cannot be compared is not refused.
    """
    for split, dataset in workload.data.items():
        if isinstance(dataset, StreamedExamples):
            _refuse_stream(split, dataset, seed)


def _refuse_stream(split: str, stream: StreamedExamples, seed: int) -> None:
    what = f"the split {split!r}, an iterable data set,"
    seeds, count = sequence(seed, Purpose.EXAMPLES), min(_TRIED, len(stream))
    first, again = (list(stream.first(count, seeds)) for _ in range(2))  # type: ignore[call-overload]
    if _differ(first, again):
        raise WorkloadError(
            f"{what} gives other examples in a second pass with the same seeds, so that a trial could not go on from a"
            " saved state; draw random numbers from torch, numpy.random or random, which are seeded, or from a"
            " generator that set_epoch(number) seeds"
        )
    own: Any = stream.dataset
    if not callable(getattr(own, "iter_from", None)) or count < 2:
        return
    place = count // 2
    # As in training: random numbers are drawn for the examples of a batch with seeds of the batch.
    whole = Pass(own, len(stream), 0)
    with host_randomness(sequence(seed, Purpose.EXAMPLES, 1)):
        whole.take(place)
    with host_randomness(seeds):
        rest = copy.deepcopy(whole.take(count - place))
    with host_randomness(seeds):
        beyond = Pass(own, len(stream), 0, place).take(count - place)
    if _differ(rest, beyond):
        raise WorkloadError(f"{what} gives other examples by iter_from({place}) than iter() gives from that place on")


def metrics_of_some(workload: Workload, split: str, count: int, means: Mapping[str, float]) -> dict[str, float] | None:
    """The metrics that the workload's `evaluate` gives of some examples of a split, spread evenly; of a stream the
    first.

    None where it fails as it may on few examples: a division by zero, or only one class.
    """
    if workload.evaluate is None:
        return {}
    dataset = workload.data[split]
    size = len(dataset)  # type: ignore[arg-type]
    chosen = sorted({int(place) for place in np.linspace(0, size - 1, count)})
    some = sample(dataset, count) if isinstance(dataset, StreamedExamples) else Subset(dataset, chosen)
    device = next((parameter.device for parameter in workload.model.parameters()), torch.device("cpu"))
    try:
        return split_metrics(workload, some, device, means)
    except (ArithmeticError, ValueError):
        return None


def _differ(one: list[Any], other: list[Any]) -> bool:
    return any(itertools.starmap(_differs, zip(one, other, strict=True)))


def _differs(one: Any, other: Any) -> bool:
    """Whether two examples are known to be different; of objects that cannot be compared their tensors are."""
    if _is_known(one) and _is_known(other):
        return not equal(one, other)
    return not equal(list(tensors_in(one)), list(tensors_in(other)))


def _is_known(value: Any) -> bool:
    """Whether `equal` compares this by values."""
    if isinstance(value, (Tensor, np.ndarray, np.generic, str, bytes, bool, int, float, complex, type(None))):
        return True
    if isinstance(value, Mapping):
        return all(map(_is_known, value.values()))
    return isinstance(value, (list, tuple)) and all(map(_is_known, value))
