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
    "lion",
    "muon",
]
OPTIMIZERS: tuple[OptimizerName, ...] = get_args(OptimizerName)


@dataclass(frozen=True, slots=True)
class OptimizerTraits:
    """What is known of one optimizer.

    `tuned_from`: its own hyperparameters besides the learning rate, each with the number of trials in a setting from
    which it can be tuned; `also_reads` are those of which no source says so. `family` names the optimizers for which
    one value of a hyperparameter has nearly the same effect. `momentum` and `beta2` are the defaults of these fields.
    `decoupled_weight_decay`: it is not a part of the gradient.
    """

    family: str
    tuned_from: Mapping[str, int] = field(default_factory=dict)
    momentum: float = 0.9
    decoupled_weight_decay: bool = False
    beta2: float = 0.999
    also_reads: tuple[str, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """Its own hyperparameters besides the learning rate."""
        return (*self.tuned_from, *self.also_reads)


# "How should Adam's hyperparameters be tuned?" (FAQ): below 10 trials only the learning rate, 10 to 25 also beta1, from
# 25 also epsilon, with "substantially more than 25" also beta2, which we read as 50.
_ADAM = {"beta1": 10, "epsilon": 25, "beta2": 50}
# The same for what has the same place in RMSProp's rule: the momentum, and the decay of the mean square.
_RMSPROP = {"momentum": 10, "epsilon": 25, "rho": 50}
_MOMENTUM = {"momentum": 10}
# And in Lion's, which has no epsilon: the share of the mean in a step, and the decay of that mean.
_LION = {"beta1": 10, "beta2": 50}


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
        case "lion":  # the defaults of Chen et al., see training.update_rules
            return OptimizerTraits("lion", _LION, decoupled_weight_decay=True, beta2=0.99)
        case "muon":  # the default of Keller Jordan, see training.muon; the others are of the adamw in it
            own = ("beta1", "beta2", "epsilon")
            return OptimizerTraits("muon", _MOMENTUM, momentum=0.95, decoupled_weight_decay=True, also_reads=own)
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
    return tuple(optimizer for optimizer in OPTIMIZERS if name in traits(optimizer).reads)


def is_adaptive(optimizer: OptimizerName) -> bool:
    """Whether it divides each coordinate of the update by a running size of its gradients: its preconditioner."""
    return has_own_step_size(optimizer) and optimizer not in ("lion", "muon")


def has_own_step_size(optimizer: OptimizerName) -> bool:
    """Whether the size of its steps does not follow that of the gradients: the adaptive ones, lion and muon."""
    return traits(optimizer).family not in ("sgd", "momentum")


def is_optimizer(value: object) -> TypeGuard[OptimizerName]:
    """Whether a value is the name of an optimizer."""
    return value in OPTIMIZERS
