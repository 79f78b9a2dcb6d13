"""Looks at the data of a workload, within a time: what is in two splits, what is missing, what is no number."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch

from tunectl.core import jsontext
from tunectl.core.data_report import DataFinding, DataReport
from tunectl.core.exception_text import exception_line
from tunectl.core.files import write_bytes
from tunectl.core.folders import TrialFolder
from tunectl.core.records import TrialRequest, TrialResult
from tunectl.training.built_workload import build_workload
from tunectl.training.data_checks.duplicates import duplicates
from tunectl.training.data_checks.fingerprints import Fingerprints
from tunectl.training.data_checks.looked_at import LookedAt, look_at
from tunectl.training.data_checks.values import constant_features, labels_out_of_range, missing_classes, not_finite
from tunectl.training.data_order import sampled_epoch
from tunectl.workloads.workload import Workload

SECONDS = 10.0
"""How long examples are read, over all splits; 60,000 images of 28x28 pixels take less."""

LOSS_SECONDS = 10.0
"""How long the loss is computed for labels: on the CPU, a large model takes seconds for a batch."""

_ANY_SEED = 0  # that of a trial makes another order, about which little else can be said

AGAIN = ("valid_for_training",)
"""Splits that have the examples of another one on purpose."""


def data_report(
    workload: Workload, seed: int, *, seconds: float = SECONDS, now: Callable[[], float] = time.monotonic
) -> DataReport:
    """What the checks say of a workload, whose model is on the CPU.

    The splits are read from the smallest to the largest, each for its part of the time that is left.
    """
    began = now()
    fingerprints, splits, found = Fingerprints(), dict[str, LookedAt](), list[DataFinding]()
    names = sorted((name for name in workload.data if name not in AGAIN), key=lambda name: len(workload.data[name]))  # type: ignore[arg-type]
    for number, name in enumerate(names):
        left = max(0.0, began + seconds - now())
        until = now() + left / (len(names) - number)
        try:
            splits[name] = look_at(workload.data[name], fingerprints, seed=seed, until=until, now=now)
        except Exception as error:
            found.append(_unread(name, f"an example of {name} cannot be read: {exception_line(error)}", doubt=True))
            continue
        if splits[name].unread:
            found.append(_unread(name, f"not all of {name} was looked at: {splits[name].unread}", doubt=False))
    ordered = {name: splits[name] for name in workload.data if name in splits and splits[name].examples}
    found += _findings(ordered, seed)
    found += _of_sampler(workload)
    if "train" in ordered:
        until = now() + LOSS_SECONDS
        found += labels_out_of_range(ordered, workload, seed, lambda: now() >= until)
    looked_at = {name: (len(split.examples), split.size) for name, split in ordered.items()}
    return DataReport(looked_at, tuple(found), now() - began)


def _unread(name: str, message: str, *, doubt: bool) -> DataFinding:
    return DataFinding("not looked at", name, message, doubt=doubt)


def _findings(splits: dict[str, LookedAt], seed: int) -> Iterator[DataFinding]:
    yield from duplicates(splits, seed)
    yield from not_finite(splits)
    if "train" in splits:
        yield from missing_classes(splits)
        yield from constant_features(splits)


def _of_sampler(workload: Workload) -> Iterator[DataFinding]:
    """What the order of the updates is, where it is not a permutation of all examples in each epoch."""
    if workload.sampler is None:
        return
    try:
        order = sampled_epoch(workload.sampler, workload.data["train"], _ANY_SEED, 0)
    except Exception as error:
        yield _unread("train", f"the sampler gives no order: {exception_line(error)}", doubt=True)
        return
    different, size = len(set(order.tolist())), len(workload.data["train"])  # type: ignore[arg-type]
    text = (
        f"the order of train is that of the workload's sampler; its first epoch has {len(order):,} places, of"
        f" {different:,} of the {size:,} examples"
    )
    yield DataFinding("sampler", "train", text, different, doubt=False)


def run_data_checks(
    request: TrialRequest, folder: TrialFolder, workload_factory: Callable[..., Workload]
) -> TrialResult:
    """Build the workload on the CPU, look at its data, and write the report into the trial's folder."""
    workload = build_workload(workload_factory, request, torch.device("cpu"))
    report = data_report(workload, request.seed)
    write_bytes(folder.data_report, jsontext.encode(report.to_json()).encode(), within=folder.study)
    return TrialResult(trial=request.trial, state="completed", final_step=0, device="cpu")
