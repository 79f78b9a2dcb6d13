"""By what an adaptive optimizer divides its steps, from its state: the preconditioner of the Hessian."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tunectl.core.user_code import CodeName
from tunectl.language.configuration import TrainingConfiguration
from tunectl.language.optimizer_traits import traits

_SAME_CORRECTION = 1e-6
"""Corrections that differ by less than this are one: parameters with different counts late in training."""


@dataclass(frozen=True, slots=True)
class Preconditioner:
    """D^-1/2 of the step rate * (first moment, corrected) / D, shape [n], float64, on the parameters' device.

    `first_moment_correction` is 1 - beta1^t after t updates, by which the corrected first moment was divided: D times
    it is the divisor of the uncorrected one. 1 for RMSProp, which has no such moment; for nadam 1 minus the product of
    its momenta, which takes the place of beta1^t in its rule. None where parameters have different ones, as when a
    layer has its first gradient later than others.
    """

    inverse_root: Tensor
    first_moment_correction: float | None


def preconditioner(
    optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor], configuration: TrainingConfiguration
) -> Preconditioner | None:
    """The preconditioner from the optimizer's state after its last update; None where the optimizer is not adaptive,
    and where it has no state yet.

    The n entries are in the order of `parameters`, each flattened in the order of its axes. With v the running mean of
    the squared gradients after t updates:

        adam, adamw, nadam, lamb           D = sqrt(v / (1 - beta2^t)) + epsilon
        adam_playbook, nadam_playbook      D = (sqrt(v) + epsilon) / sqrt(1 - beta2^t)
        rmsprop                            D = sqrt(v) + epsilon
        rmsprop_playbook                   D = sqrt(v + epsilon)

    The mean of rmsprop_playbook starts at 1, so that its D is known before the first update: sqrt(1 + epsilon). For the
    others, the entries of a parameter without state are 0 in D^-1/2, as are entries with D = 0: the optimizer does not
    move them. Of lamb this is the inner Adam, before a step is scaled. The numbers are worked out in float64 from the
    state in its own precision; an entry whose v is not finite is not finite here either, or 0 where v is infinite.
    """
    roots, corrections = [], []
    for parameter in parameters:
        state = optimizer.state.get(parameter, {})
        divisor = _divisor(state, parameter, configuration)
        if divisor is None:
            roots.append(torch.zeros(parameter.numel(), dtype=torch.float64, device=parameter.device))
            continue
        root = divisor.rsqrt()
        roots.append(torch.where(divisor == 0, torch.zeros_like(root), root).reshape(-1))
        corrections.append(_correction(state, configuration))
    if not corrections:
        return None
    one = max(corrections) - min(corrections) <= _SAME_CORRECTION
    return Preconditioner(torch.cat(roots), corrections[0] if one else None)


def l2_terms(
    optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor], configuration: TrainingConfiguration
) -> Tensor | None:
    """The diagonal that an L2 term adds to the Hessian, weight_decay M, shape [n], float64, in the order of
    `preconditioner`.

    It is weight_decay for the parameters in weight_decay_scope and 0 for the others. None where there is no L2 term:
    without weight decay, and where it is decoupled from the gradient.
    """
    if configuration.weight_decay == 0 or traits(configuration.optimizer).decoupled_weight_decay:
        return None
    decays = {id(parameter): group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
    return torch.cat(
        [
            torch.full((parameter.numel(),), decays[id(parameter)], dtype=torch.float64, device=parameter.device)
            for parameter in parameters
        ]
    )


def _divisor(state: Mapping[str, Any], parameter: Tensor, configuration: TrainingConfiguration) -> Tensor | None:
    """D of one parameter, of its shape; None without state."""
    count, epsilon, of_squares = _count(state), configuration.epsilon, 1 - configuration.beta2 ** _count(state)
    match configuration.optimizer:
        case "sgd" | "momentum" | "nesterov" | "lion" | "muon":
            return None
        case "rmsprop_playbook":
            squares = state.get("square_avg")
            v = torch.ones_like(parameter, dtype=torch.float64) if squares is None else squares.double()
            return (v + epsilon).sqrt()
        case "rmsprop":
            return state["square_avg"].double().sqrt() + epsilon if count else None
        case "adam" | "adamw" | "nadam" | "lamb":
            return (state["exp_avg_sq"].double() / of_squares).sqrt() + epsilon if count else None
        case "adam_playbook" | "nadam_playbook":
            return (state["exp_avg_sq"].double().sqrt() + epsilon) / of_squares**0.5 if count else None
        case _:
            return _of_code(configuration.optimizer)


def _of_code(_optimizer: CodeName) -> Tensor | None:
    """By what an optimizer of the study's own divides its steps is not known."""
    return None


def _count(state: Mapping[str, Any]) -> float:
    """The number of a parameter's updates: a number, or a tensor in torch's own optimizers. 0 without state, and where
    the fused kernels skipped every update so far, as loss scaling makes them.
    """
    return float(state.get("step", 0))


def _correction(state: Mapping[str, Any], configuration: TrainingConfiguration) -> float:
    match configuration.optimizer:
        case "rmsprop" | "rmsprop_playbook":
            return 1.0
        case "nadam":
            return 1.0 - float(state["mu_product"])
        case _:
            return float(1.0 - configuration.beta1 ** _count(state))
