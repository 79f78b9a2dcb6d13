"""An optimizer of the study's own: made from its class, and with the modes that some have."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tunectl.core.errors import WorkloadError
from tunectl.core.records import FactorySignature, WorkloadReference
from tunectl.core.user_code import UsedCode
from tunectl.language.code_arguments import RATE, optimizer_arguments
from tunectl.training.eager_optimizers import without_compiler
from tunectl.workloads.workload_import import factory_signature, load_factory


@dataclass(frozen=True, slots=True)
class LoadedOptimizer:
    """The class, or the function that gives an optimizer; what it takes besides the parameters, and its defaults."""

    make: Callable[..., Any]
    signature: FactorySignature
    defaults: Mapping[str, Any]


@cache
def loaded_optimizer(reference: WorkloadReference) -> LoadedOptimizer:
    """Import it; raises WorkloadError where that fails, or where it is not callable."""
    make = load_factory(reference)
    parameters = _parameters(make)
    return LoadedOptimizer(
        make,
        factory_signature(make, takes_trial=True),
        {item.name: item.default for item in parameters[1:] if item.default is not item.empty},
    )


def _parameters(make: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(make).parameters.values())
    except (TypeError, ValueError):
        return []


def make_user_optimizer(groups: Sequence[dict[str, Any]], used: UsedCode) -> Optimizer:
    """The optimizer for these groups, with the study's arguments; what the study does not say keeps its default.

    Raises WorkloadError where it is no optimizer of torch, or has no learning rate that can be set. Exceptions of its
    own code pass.
    """
    loaded, name = loaded_optimizer(used.reference), used.reference.text
    try:
        arguments = optimizer_arguments(used, loaded.signature, loaded.defaults)
    except ValueError as error:
        raise WorkloadError(f"optimizer {name}: {error}") from error
    plain = len(groups) == 1 and len(groups[0]) == 1
    made = without_compiler(loaded.make)(
        list(groups[0]["params"]) if plain else [dict(group) for group in groups], **arguments
    )
    if not isinstance(made, Optimizer):
        raise WorkloadError(f"optimizer {name}: expected a torch.optim.Optimizer, got {type(made).__name__}")
    if not all(RATE in group for group in made.param_groups):
        raise WorkloadError(
            f"optimizer {name}: its parameter groups have no {RATE}, by which it would get its learning rate"
        )
    if needs_closure(made):
        raise WorkloadError(no_closure(name))
    to_training(made)
    return made


def no_closure(name: str) -> str:
    """Why an optimizer whose step needs a closure cannot be used."""
    return f"optimizer {name}: its step() needs a closure, which computes the loss again; tunectl calls it without one"


def needs_closure(optimizer: Optimizer) -> bool:
    """Whether `step` has a parameter without a default."""
    try:
        parameters = inspect.signature(optimizer.step).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(
        item.default is item.empty and item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD)
        for item in parameters
    )


def has_modes(optimizer: Optimizer) -> bool:
    """Whether it has weights for evaluation that differ from those in training, as schedule-free ones do: `train()` and
    `eval()` exchange them.
    """
    return all(callable(getattr(optimizer, name, None)) for name in ("train", "eval"))


def to_training(optimizer: Optimizer) -> None:
    """Give the model the weights in training, where there are two modes."""
    if has_modes(optimizer):
        optimizer.train()  # type: ignore[attr-defined]


@contextlib.contextmanager
def evaluated(optimizer: Optimizer, parameters: Sequence[nn.Parameter]) -> Iterator[list[Tensor]]:
    """Within the block the model has the weights for evaluation; gives copies of the trained ones.

    They are restored bit for bit: the optimizer's own `train()` computes them back, with a rounding error. So it does
    not matter when a trial is saved.
    """
    with torch.no_grad():
        raw = [parameter.detach().clone() for parameter in parameters]
        optimizer.eval()  # type: ignore[attr-defined]
    try:
        yield raw
    finally:
        restore(optimizer, parameters, raw)


@torch.no_grad()
def restore(optimizer: Optimizer, parameters: Sequence[nn.Parameter], raw: Sequence[Tensor]) -> None:
    """Go back to training, with exactly these weights; those of the model are the ones for evaluation."""
    optimizer.train()  # type: ignore[attr-defined]
    for parameter, own in zip(parameters, raw, strict=True):
        parameter.copy_(own)
