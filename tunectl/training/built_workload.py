"""Builds the workload of a request by its factory, and checks that it can be trained."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from tunectl.core.errors import WorkloadError
from tunectl.core.final_training import VALID_FOR_TRAINING
from tunectl.core.measurement_kinds import MEASUREMENT_KINDS
from tunectl.core.records import TrialRequest
from tunectl.training.given_loaders import with_loaders_taken_apart
from tunectl.training.recomputation import recompute
from tunectl.training.seeds import Purpose, seed_everything, sequence, short_seed
from tunectl.training.streams import StreamedExamples, is_stream
from tunectl.workloads.data.data_paths import relative_to
from tunectl.workloads.workload import Workload, no_loss

NEEDED_SPLITS = ("train", "valid")


def factory_arguments(factory: Callable[..., Any], request: TrialRequest) -> dict[str, Any]:
    """The keywords for the factory: the request's, and a `seed` for the model's initialisation where it has a parameter
    of that name.
    """
    arguments = dict(request.arguments)
    try:
        parameters: Mapping[str, inspect.Parameter] = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return arguments
    seed = parameters.get("seed")
    by_keyword = seed is not None and seed.kind in (seed.KEYWORD_ONLY, seed.POSITIONAL_OR_KEYWORD)
    if by_keyword and "seed" not in arguments:
        arguments["seed"] = short_seed(request.seed, Purpose.MODEL)
    return arguments


def build_workload(factory: Callable[..., Any], request: TrialRequest, device: torch.device) -> Workload:
    """Call the factory under the seed for model initialisation and move the model to the device.

    Raises WorkloadError where the factory gives no workload that can be trained; exceptions of the factory pass.
    """
    seed_everything(sequence(request.seed, Purpose.MODEL), device)
    with relative_to(request.workload.search_path):
        found = factory(**factory_arguments(factory, request))
    workload = checked_workload(found, request.workload.text)
    workload.model.to(device)
    if request.configuration.get("activation_checkpointing") == "blocks":
        if not workload.blocks:
            raise WorkloadError(
                f"activation_checkpointing is blocks, but the workload {request.workload.text} has none; give them by"
                " Workload(blocks=...), or leave activation_checkpointing out"
            )
        recompute(workload.blocks)
    return workload


def nearest(name: str, names: Iterable[str]) -> str:
    """The text "; did you mean X?" with the nearest of the names; "" where none is near."""
    found = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def checked_workload(given: Any, name: str) -> Workload:
    """What the factory `name` returned, its baseline_loss a plain float, its loaders taken apart, and its iterable data
    sets as `StreamedExamples`; raises WorkloadError where it is not a workload that can be trained.
    """
    if not isinstance(given, Workload):
        what = "None (is a return missing?)" if given is None else f"a {type(given).__name__}"
        raise WorkloadError(f"the factory {name}: expected a tunectl.Workload, got {what}")
    try:
        found = with_loaders_taken_apart(given)
    except WorkloadError as error:
        raise WorkloadError(f"the workload of {name}: {error}") from error
    wrong = (
        _wrong_parts(found)
        or _wrong_splits(found.data)
        or _wrong_functions(found)
        or _wrong_blocks(found)
        or _wrong_output(found)
        or _wrong_order(found)
        or _wrong_baseline(found.baseline_loss)
    )
    if wrong:
        raise WorkloadError(f"the workload of {name}: {wrong}")
    baseline_loss = None if found.baseline_loss is None else float(found.baseline_loss)
    data = {split: StreamedExamples(item) if is_stream(item) else item for split, item in found.data.items()}
    return replace(found, baseline_loss=baseline_loss, data=data)


# Each of the functions below gives what is wrong with a part of a workload; "" where nothing is. Any object may come.


def _wrong_parts(workload: Any) -> str:
    if not isinstance(workload.model, nn.Module):
        return f"model: expected a torch.nn.Module, got a {type(workload.model).__name__}"
    if not isinstance(workload.data, Mapping):
        return f"data: expected a dict of datasets by split, got a {type(workload.data).__name__}"
    return ""


def _wrong_splits(data: Mapping[Any, Any]) -> str:
    for split in NEEDED_SPLITS:
        if split not in data:
            given = ", ".join(map(str, data)) or "none"
            return f"data: expected a split {split!r}, got {given}{nearest(split, map(str, data))}"
    for split, dataset in data.items():
        if not isinstance(split, str) or not split or "/" in split:
            return f"data: expected the name of a split (text without a slash), got {split!r}"
        kind = MEASUREMENT_KINDS.get(split)
        if kind is not None and kind.asked_by:
            return (
                f"data: expected another name than {split!r} for a split, since {kind.column('…')} is what "
                f"{kind.asked_by} measures"
            )
        wrong = _wrong_kind(dataset)
        if wrong:
            return f"data, split {split!r}: {wrong}"
        try:
            size = len(dataset)
        except Exception as error:
            return f"data, split {split!r}: len() raised {type(error).__name__}: {error}"
        if size < 1:
            return f"data, split {split!r}: expected at least one example, got none"
    streams = [item for item in data.values() if is_stream(item)]
    if len({id(item) for item in streams}) < len(streams):
        return "data: two splits are one iterable data set, which can be read at one place alone; give each its own"
    for_training, valid = data.get(VALID_FOR_TRAINING), data["valid"]
    if for_training is not None and len(for_training) != len(valid):
        return f"data[{VALID_FOR_TRAINING!r}]: expected the {len(valid)} examples of valid, got {len(for_training)}"
    return ""


def _wrong_kind(dataset: Any) -> str:
    if isinstance(dataset, DataLoader):
        return "expected a data set, got a DataLoader; give it by Workload(loaders={...})"
    if is_stream(dataset):
        if not hasattr(type(dataset), "__len__"):
            return (
                f"expected an iterable data set that says how many examples a pass has, got a {type(dataset).__name__}"
                " without __len__"
            )
        return ""
    if not isinstance(dataset, Sized) or not hasattr(dataset, "__getitem__"):
        return (
            "expected a map-style dataset (len and []), or a torch.utils.data.IterableDataset, got a"
            f" {type(dataset).__name__}"
        )
    return ""


def _wrong_order(workload: Any) -> str:
    """What is wrong with how batches are made: with `sampler` and `collate`."""
    sampler = workload.sampler
    if sampler is not None and not isinstance(sampler, Iterable) and not callable(sampler):
        return f"sampler: expected a function or a torch Sampler, got a {type(sampler).__name__}"
    if sampler is not None and is_stream(workload.data["train"]):
        return "sampler: the split 'train' is an iterable data set, which gives its examples in an order of its own"
    if isinstance(workload.collate, Mapping):
        for split, function in workload.collate.items():
            if split not in workload.data:
                return f"collate: expected names of splits, got {split!r}{nearest(str(split), map(str, workload.data))}"
            if not callable(function):
                return f"collate, split {split!r}: expected a function, got a {type(function).__name__}"
    elif workload.collate is not None and not callable(workload.collate):
        return f"collate: expected a function, or functions by split, got a {type(workload.collate).__name__}"
    return ""


def _wrong_functions(workload: Any) -> str:
    if workload.loss is no_loss:
        return "loss: expected a function, got none"
    functions = ("loss", "metrics", "finalize", "augment", "predict", "parameter_groups", "evaluate", "on_evaluation")
    for field in functions:
        function = getattr(workload, field)
        if not callable(function) and (function is not None or field == "loss"):
            return f"{field}: expected a function, got a {type(function).__name__}"
    return ""


def _wrong_blocks(workload: Any) -> str:
    if not isinstance(workload.blocks, Iterable):
        return f"blocks: expected a sequence of modules, got a {type(workload.blocks).__name__}"
    modules = set(workload.model.modules())
    for block in workload.blocks:
        if not isinstance(block, nn.Module) or block not in modules:
            return f"blocks: expected modules of the model, got a {type(block).__name__} that is not one"
    return ""


def _wrong_output(workload: Any) -> str:
    if not isinstance(workload.output, Sequence):
        return f"output: expected a sequence of modules or parameters, got a {type(workload.output).__name__}"
    known = {*map(id, workload.model.modules()), *map(id, workload.model.parameters())}
    for item in workload.output:
        if id(item) not in known:
            return f"output: expected modules or parameters of the model, got a {type(item).__name__} that is not one"
    return ""


def _wrong_baseline(baseline_loss: Any) -> str:
    if baseline_loss is None:
        return ""
    # float() would read text; a bool is a mistake, not a loss.
    finite = False
    if not isinstance(baseline_loss, (str, bytes, bytearray, bool)):
        with contextlib.suppress(Exception):
            finite = math.isfinite(float(baseline_loss))
    return "" if finite else f"baseline_loss: expected a finite number, got {baseline_loss!r}"
