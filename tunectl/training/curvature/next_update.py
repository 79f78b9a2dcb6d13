"""The update that an optimizer would make next, worked out on copies."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.given_groups import has_own_options, rate_of
from tunectl.training.gradients import clip, tensor_norms, total_norm


@dataclass(frozen=True, slots=True)
class NextUpdate:
    """The change of each parameter in an update that was not made, of its shape, in float64.

    `learning_rate` is the update's. `slope` is that of the loss along the changes: the gradient before clipping times
    the changes, not finite where one of them is not. `is_gradient_step`: the changes are -learning_rate times this
    gradient, without momentum, weight decay or clipping.
    """

    changes: tuple[Tensor, ...]
    learning_rate: float
    slope: float
    is_gradient_step: bool


@torch.no_grad()
def next_update(
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    *,
    configuration: TrainingConfiguration,
    learning_rate: float,
) -> NextUpdate:
    """The update that the optimizer would make from these gradients, clipped as in training; `parameters` are all of
    the optimizer's, and `gradients` theirs.

    The optimizer's own `step` makes it, on copies of the parameters and of its state in float64: their difference would
    lose its digits in the parameters' own precision, where an update is small. A parameter whose gradient is None does
    not move. Where `learning_rate` is 0, the update has the configuration's base rate: at rate 0 the weights do not
    move.
    """
    rate = learning_rate if learning_rate > 0 else configuration.learning_rate
    copies = [parameter.detach().to(torch.float64, copy=True) for parameter in parameters]
    for twin, gradient in zip(copies, gradients, strict=True):
        # In the memory order of the parameter, as autograd has it: the fused kernels do not look at strides.
        twin.grad = None if gradient is None else torch.empty_like(twin).copy_(gradient)
    clipped = _clip([twin.grad for twin in copies if twin.grad is not None], configuration.grad_clip_norm)
    _copy_of(optimizer, dict(zip(parameters, copies, strict=True)), rate).step()
    changes = tuple(twin.sub_(parameter) for twin, parameter in zip(copies, parameters, strict=True))
    slope = sum(
        float((gradient.double() * change).sum())
        for gradient, change in zip(gradients, changes, strict=True)
        if gradient is not None
    )
    clipped = clipped or configuration.grad_clip != "none"  # by the hooks of the optimizer
    is_plain = not clipped and not has_own_options(optimizer) and _is_sgd(configuration)
    return NextUpdate(changes, rate, slope, is_gradient_step=is_plain)


def _clip(gradients: list[Tensor], max_norm: float | None) -> bool:
    """Clip the gradients in place; gives whether this changed them."""
    if max_norm is None or not gradients:
        return False
    norm = total_norm(tensor_norms(gradients))
    clip(gradients, norm, max_norm)
    return bool(total_norm(tensor_norms(gradients)) < norm)


def _is_sgd(configuration: TrainingConfiguration) -> bool:
    without_momentum = configuration.optimizer in ("momentum", "nesterov") and configuration.momentum == 0
    return (configuration.optimizer == "sgd" or without_momentum) and configuration.weight_decay == 0


def _copy_of(
    optimizer: torch.optim.Optimizer, copies: Mapping[Tensor, Tensor], learning_rate: float
) -> torch.optim.Optimizer:
    """The optimizer with its rule, its options and its hooks, for copies of parameters, with a copy of its state.

    Not copy.deepcopy: torch leaves out what a subclass has of its own, and the hooks.
    """
    twin: torch.optim.Optimizer = object.__new__(type(optimizer))
    twin.__dict__.update(optimizer.__dict__)
    twin.param_groups = [
        {**group, "params": [copies[parameter] for parameter in group["params"]], "lr": rate_of(group, learning_rate)}
        for group in optimizer.param_groups
    ]
    twin.state = defaultdict(dict)
    for parameter, state in optimizer.state.items():
        twin.state[copies[parameter]] = {name: _in_double(name, value) for name, value in state.items()}
    return twin


def _in_double(name: str, value: Any) -> Any:
    """A copy of a part of a state; moments in float64. The fused kernels need a step count in its own type."""
    if isinstance(value, Tensor) and value.is_floating_point() and name != "step":
        return value.to(torch.float64, copy=True)
    return copy.deepcopy(value)
