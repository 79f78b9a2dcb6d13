"""Metrics of a whole split that are no averages over its examples, by the workload's `evaluate`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from tunectl.core.errors import WorkloadError
from tunectl.training.streams import StreamedExamples
from tunectl.workloads.workload import Workload

MEASURED_SERIES = ("minibatch_loss", "skipped_updates")
"""The metrics of the updates under `train/`; no metric of a workload may have such a name."""

FINALIZE = "finalize(metrics)"
EVALUATE = "evaluate(model, dataset, device)"


def split_metrics(
    workload: Workload, dataset: Dataset[Any], device: torch.device, means: Mapping[str, float]
) -> dict[str, float]:
    """The metrics that `evaluate` gives of a data set, {} without it; to be called in `evaluating`.

    `means` are the averages over the same examples. Raises WorkloadError where it gives no dict of numbers by new
    names, or changes the model; exceptions of `evaluate` pass.
    """
    if workload.evaluate is None:
        return {}
    own = dataset.dataset if isinstance(dataset, StreamedExamples) else dataset
    with unchanged(workload.model, EVALUATE):
        given = workload.evaluate(workload.model, own, device)
    if not isinstance(given, Mapping):
        raise WorkloadError(f"{EVALUATE}: expected a dict of numbers, got {type(given).__name__}")
    for name in given:
        if name in means:
            raise WorkloadError(f"{EVALUATE} gives {name!r}, which is measured already; use another name")
    return {name: metric_number(EVALUATE, name, value) for name, value in given.items()}


def metric_number(what: str, name: Any, value: Any) -> float:
    """A metric that the call `what` gave, as a number; raises WorkloadError where name or value are not allowed."""
    if not isinstance(name, str) or not name or "/" in name:
        raise WorkloadError(f"{what}: expected names as text without a slash, got {name!r}")
    if name in MEASURED_SERIES:
        raise WorkloadError(f"{what} gives {name!r}, the name of a measured series; use another name")
    try:
        if isinstance(value, (str, bytes, bytearray)):  # float() would read text
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise WorkloadError(f"{what}: expected a dict of numbers, got {name!r}: {value!r}") from error


@contextmanager
def unchanged(model: nn.Module, what: str) -> Iterator[None]:
    """Raise WorkloadError where the block changes a parameter of the model; `what` is the call in the message.

    Torch counts the writes of its own operations, but not those through numpy or `.data`.
    """
    watched = [(parameter, parameter._version) for parameter in model.parameters()]
    yield
    if any(parameter._version != version for parameter, version in watched):
        raise WorkloadError(f"{what} changes the model; work on a copy")
