"""Building what a request asks for: the workload by its factory, checked to be one."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from tunectl.core.errors import WorkloadError
from tunectl.core.records import TrialRequest
from tunectl.training.recomputation import recompute
from tunectl.training.seeds import Purpose, seed_everything, sequence, short_seed
from tunectl.workloads.workload import Workload

NEEDED_SPLITS = ("train", "valid")


def factory_arguments(factory: Callable[..., Any], request: TrialRequest) -> dict[str, Any]:
    """The keywords for the factory: the request's, and a `seed` for the model's initialisation where it asks for one
    by name.
    """
    arguments = dict(request.arguments)
    try:
        parameters: Mapping[str, inspect.Parameter] = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return arguments
    asked = parameters.get("seed")
    by_name = asked is not None and asked.kind in (asked.KEYWORD_ONLY, asked.POSITIONAL_OR_KEYWORD)
    if by_name and "seed" not in arguments:
        arguments["seed"] = short_seed(request.seed, Purpose.MODEL)
    return arguments


def build_workload(factory: Callable[..., Any], request: TrialRequest, device: torch.device) -> Workload:
    """Call the factory under the seed for model initialisation and move the model to the device.

    Raises WorkloadError where what it gives is not a workload that can be trained; its own exceptions pass.
    """
    seed_everything(sequence(request.seed, Purpose.MODEL), device)
    workload = checked_workload(factory(**factory_arguments(factory, request)), request.workload.text)
    workload.model.to(device)
    if request.configuration.get("activation_checkpointing") == "blocks":
        if not workload.blocks:
            raise WorkloadError(
                f"activation_checkpointing is blocks, but the workload {request.workload.text} names none; name them in"
                " Workload(blocks=...), or leave activation_checkpointing out"
            )
        recompute(workload.blocks)
    return workload


def nearest(name: str, names: Iterable[str]) -> str:
    """The words "did you mean" with the nearest of the names, nothing where none is near."""
    found = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def checked_workload(found: Any, name: str) -> Workload:
    """What the factory `name` returned, its baseline_loss a plain float; raises WorkloadError where it is not a
    workload that can be trained.
    """
    if not isinstance(found, Workload):
        what = "nothing (a return is missing?)" if found is None else f"a {type(found).__name__}"
        raise WorkloadError(f"the factory {name} returned {what}; a tunectl.Workload would be right")
    wrong = (
        _wrong_parts(found)
        or _wrong_splits(found.data)
        or _wrong_functions(found)
        or _wrong_blocks(found)
        or _wrong_baseline(found.baseline_loss)
    )
    if wrong:
        raise WorkloadError(f"the workload of {name} {wrong}")
    return found if found.baseline_loss is None else replace(found, baseline_loss=float(found.baseline_loss))


# Below, what keeps a workload from being trained, in words; "" where nothing does. Users' objects may be anything.


def _wrong_parts(workload: Any) -> str:
    if not isinstance(workload.model, nn.Module):
        return f"has a {type(workload.model).__name__} as its model; a torch.nn.Module would be right"
    if not isinstance(workload.data, Mapping):
        return f"has a {type(workload.data).__name__} as its data; a dict of datasets by split would be right"
    return ""


def _wrong_splits(data: Mapping[Any, Any]) -> str:
    for split in NEEDED_SPLITS:
        if split not in data:
            given = ", ".join(map(str, data)) or "none"
            return f"has no {split} split; it has {given}{nearest(split, map(str, data))}"
    for split, dataset in data.items():
        if not isinstance(split, str) or not split or "/" in split:
            return f"has a split named {split!r}; text without a slash would be right"
        if not isinstance(dataset, Sized) or not hasattr(dataset, "__getitem__"):
            return f"has a {type(dataset).__name__} as {split}; a map-style dataset (len and []) would be right"
        try:
            size = len(dataset)
        except Exception as error:
            return f"has a {split} split that does not know its length: {type(error).__name__}: {error}"
        if size < 1:
            return f"has an empty {split} split; at least one example would be right"
    return ""


def _wrong_functions(workload: Any) -> str:
    for field in ("loss", "metrics", "finalize"):
        function = getattr(workload, field)
        if not callable(function) and (function is not None or field == "loss"):
            return f"has a {type(function).__name__} as its {field}; a function would be right"
    return ""


def _wrong_blocks(workload: Any) -> str:
    if not isinstance(workload.blocks, Iterable):
        return f"has a {type(workload.blocks).__name__} as its blocks; a sequence of modules would be right"
    modules = set(workload.model.modules())
    for block in workload.blocks:
        if not isinstance(block, nn.Module) or block not in modules:
            return f"has a {type(block).__name__} among its blocks that is no module of its model"
    return ""


def _wrong_baseline(baseline_loss: Any) -> str:
    if baseline_loss is None:
        return ""
    # float() would read text; a bool is a slip, not a loss.
    finite = False
    if not isinstance(baseline_loss, (str, bytes, bytearray, bool)):
        with contextlib.suppress(Exception):
            finite = math.isfinite(float(baseline_loss))
    return "" if finite else f"has {baseline_loss!r} as its baseline_loss; a finite number would be right"
