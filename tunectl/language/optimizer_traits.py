"""What is known of each optimizer: its own hyperparameters, which of them a few trials can tune, and its relatives.

The fields that are used only with some optimizers, and the warnings about comparisons of optimizers, follow from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeGuard, get_args

from tunectl.core.user_code import CodeName

OptimizerName = Literal[
    "sgd",
    "momentum",
    "nesterov",
    "rmsprop",
    "rmsprop_playbook",
    "adam",
    "adam_playbook",
    "nadam",
    "nadam_playbook",
    "adamw",
    "lamb",
]
OPTIMIZERS: tuple[OptimizerName, ...] = get_args(OptimizerName)


@dataclass(frozen=True, slots=True)
class OptimizerTraits:
    """What is known of one optimizer.

    `tuned_from`: its own hyperparameters besides the learning rate, each with the number of trials in a setting from
    which it can be tuned. `family` names the optimizers for which one value of a hyperparameter has nearly the same
    effect. `momentum` is the default of that field. `decoupled_weight_decay`: it is not a part of the gradient.
    """

    family: str
    tuned_from: Mapping[str, int] = field(default_factory=dict)
    momentum: float = 0.9
    decoupled_weight_decay: bool = False


# "How should Adam's hyperparameters be tuned?" (FAQ): below 10 trials only the learning rate, 10 to 25 also beta1, from
# 25 also epsilon, with "substantially more than 25" also beta2, which we read as 50.
_ADAM = {"beta1": 10, "epsilon": 25, "beta2": 50}
# The same for what has the same place in RMSProp's rule: the momentum, and the decay of the mean square.
_RMSPROP = {"momentum": 10, "epsilon": 25, "rho": 50}
_MOMENTUM = {"momentum": 10}


def traits(optimizer: OptimizerName | CodeName) -> OptimizerTraits:
    """What is known of an optimizer; next to nothing of one that is code of the study's own."""
    match optimizer:
        case "sgd":
            return OptimizerTraits("sgd")
        case "momentum" | "nesterov":
            return OptimizerTraits("momentum", _MOMENTUM)
        case "rmsprop" | "rmsprop_playbook":
            return OptimizerTraits("rmsprop", _RMSPROP, momentum=0.0)
        case "adam" | "adam_playbook" | "nadam" | "nadam_playbook":
            return OptimizerTraits("adam", _ADAM)
        case "adamw":
            return OptimizerTraits("adam", _ADAM, decoupled_weight_decay=True)
        case "lamb":
            return OptimizerTraits("lamb", _ADAM, decoupled_weight_decay=True)
        case _:
            return _of_code(optimizer)


def _of_code(optimizer: CodeName) -> OptimizerTraits:
    """Its values are like those of no other optimizer, and which of them a few trials can tune is not known."""
    return OptimizerTraits(optimizer)


def nadam_momentum(beta1: float, update: int) -> float:
    """The momentum mu of nadam at an update, counted from 1, with Dozat's decay of 0.004: it rises from beta1 / 2 to
    beta1 over thousands of updates.
    """
    return beta1 * float(1 - 0.5 * 0.96 ** (update * 0.004))


def optimizers_with(name: str) -> tuple[OptimizerName, ...]:
    """The optimizers that have a hyperparameter of this name besides the learning rate."""
    return tuple(optimizer for optimizer in OPTIMIZERS if name in traits(optimizer).tuned_from)


def is_adaptive(optimizer: OptimizerName) -> bool:
    """Whether it divides each coordinate of the update by a running size of its gradients: its preconditioner."""
    return traits(optimizer).family not in ("sgd", "momentum")


def is_optimizer(value: object) -> TypeGuard[OptimizerName]:
    """Whether a value is the name of an optimizer."""
    return value in OPTIMIZERS
