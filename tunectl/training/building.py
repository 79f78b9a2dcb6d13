"""Building what a request asks for: the workload by its factory, checked to be one."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from tunectl.core.errors import WorkloadError
from tunectl.core.records import TrialRequest
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
    if asked is not None and asked.kind is not inspect.Parameter.VAR_KEYWORD and "seed" not in arguments:
        arguments["seed"] = short_seed(request.seed, Purpose.MODEL)
    return arguments


def build_workload(factory: Callable[..., Any], request: TrialRequest, device: torch.device) -> Workload:
    """Call the factory under the seed for model initialisation and move the model to the device.

    Raises WorkloadError where what it gives is not a workload; its own exceptions pass.
    """
    seed_everything(sequence(request.seed, Purpose.MODEL), device)
    workload = checked_workload(factory(**factory_arguments(factory, request)))
    workload.model.to(device)
    return workload


def nearest(name: str, names: Iterable[str]) -> str:
    """The words "did you mean" with the nearest of the names, nothing where none is near."""
    found = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def _checked_split(name: str, dataset: Any) -> None:
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise WorkloadError(
            f"split {name!r} must be a map-style dataset (with __getitem__ and __len__); found {type(dataset).__name__}"
        )
    try:
        size = len(dataset)
    except Exception as error:
        raise WorkloadError(f"split {name!r} does not know its length: {type(error).__name__}: {error}") from error
    if size < 1:
        raise WorkloadError(f"split {name!r} is empty")


def checked_workload(found: Any) -> Workload:
    """The workload that a factory returned; raises WorkloadError where it is not one, or lacks a split."""
    if not isinstance(found, Workload):
        raise WorkloadError(f"the factory must return a tunectl.Workload; it returned {type(found).__name__}")
    if not isinstance(found.model, nn.Module):
        raise WorkloadError(f"the workload's model must be a torch.nn.Module; found {type(found.model).__name__}")
    if not isinstance(found.data, Mapping):
        raise WorkloadError(
            f"the workload's data must be a dict of datasets by split; found {type(found.data).__name__}"
        )
    for name in NEEDED_SPLITS:
        if name not in found.data:
            given = ", ".join(map(repr, found.data)) or "none"
            raise WorkloadError(
                f"the workload gives no split {name!r}; it gives {given}{nearest(name, map(str, found.data))}"
            )
    for name, dataset in found.data.items():
        _checked_split(name, dataset)
    for name in ("loss", "metrics", "finalize"):
        part = getattr(found, name)
        if not callable(part) and (part is not None or name == "loss"):
            raise WorkloadError(f"the workload's {name} must be callable; found {type(part).__name__}")
    return found
