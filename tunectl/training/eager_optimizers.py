"""torch's optimizers without torch's compiler."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch.optim import Optimizer

OptimizerType = TypeVar("OptimizerType", bound=Optimizer)

_MADE: dict[type[Optimizer], type[Optimizer]] = {}
_ASKED_TO_IMPORT = ("step", "add_param_group", "state_dict", "load_state_dict", "zero_grad")


def eager(optimizer_type: type[OptimizerType]) -> type[OptimizerType]:
    """The same optimizer class, whose methods do not import `torch._dynamo` when they are first called.

    torch wraps these methods so that `torch.compile` does not compile them, which imports the compiler: one to three
    seconds at the start of every run, although updates are not compiled here. The methods are torch's, unwrapped,
    `step` without gradients as in torch. In a version of torch that does not wrap them, the class is unchanged.
    """
    if optimizer_type not in _MADE:
        plain = {name: inspect.unwrap(getattr(optimizer_type, name)) for name in _ASKED_TO_IMPORT}
        plain["step"] = torch.no_grad()(plain["step"])
        _MADE[optimizer_type] = type(optimizer_type.__name__, (optimizer_type,), plain)
    return cast("type[OptimizerType]", _MADE[optimizer_type])


def without_compiler(make: Callable[..., Any]) -> Callable[..., Any]:
    """An optimizer class of the study's own whose methods that it has from torch do not import the compiler.

    One of torch's own is `eager`; a function that gives an optimizer is unchanged.
    """
    if not isinstance(make, type) or not issubclass(make, Optimizer):
        return make
    if make.__module__.startswith("torch.optim."):
        return eager(make)
    if make not in _MADE:
        from_torch = [name for name in _ASKED_TO_IMPORT[1:] if getattr(make, name) is getattr(Optimizer, name)]
        plain = {name: inspect.unwrap(getattr(Optimizer, name)) for name in from_torch}
        _MADE[make] = type(make.__name__, (make,), {"__module__": make.__module__, **plain})
    return _MADE[make]
