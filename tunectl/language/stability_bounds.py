"""The eigenvalue of the Hessian above which an optimizer is unstable, from its rule alone.

On a quadratic loss with curvature h, an optimizer's step is a linear map, and its weights grow where an eigenvalue of
that map is larger than 1 in size. With growing h this happens first at -1: the weights change sign at every update. So
each bound follows from the rule at z = -1. Adaptive rules divide by D (training.curvature.preconditioners); for them
this holds with D kept as it is, and the eigenvalue is that of D^-1/2 H D^-1/2. The corrections for the start of the
moments at 0 are left out: they are near 1 after some 1 / (1 - beta1) updates. tests/language/test_stability_bounds.py
measures each bound with the optimizer itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from tunectl.core.user_code import CodeName
from tunectl.language.configuration import TrainingConfiguration
from tunectl.language.optimizer_traits import nadam_momentum, traits

BoundedEigenvalue = Literal["lambda_1", "preconditioned_lambda_1"]

_SGD_LINE, _ADAM_LINE = 2.0, 40.0
"""Gilmer et al., "A Loss Curvature Perspective on Training Instability", figures 2 and 14: 2 / rate for the Hessian,
under SGD with and without momentum; 40 / rate for the preconditioned Hessian, under Adam.
"""


@dataclass(frozen=True, slots=True)
class Bound:
    """The eigenvalue above which an optimizer is unstable with one learning rate.

    `value` is None where no bound is known, and `reason` then says why; it is infinite at rate 0. `eigenvalue` is the
    one that it bounds: of the Hessian H, or of the preconditioned D^-1/2 H D^-1/2. Where `with_decay`, H is the Hessian
    with the L2 term, H + weight_decay M, with M the diagonal mask of the weights in weight_decay_scope. `paper_line` is
    the line that the paper draws for the eigenvalue without that term; None where it has none for the optimizer.
    """

    value: float | None
    eigenvalue: BoundedEigenvalue | None
    with_decay: bool = False
    paper_line: float | None = None
    reason: str | None = None

    def ratio(self, eigenvalue: float) -> float | None:
        """The eigenvalue as a multiple of the bound, unstable above 1; None without a bound. At rate 0 it is 0."""
        return None if self.value is None else eigenvalue / self.value

    def paper_ratio(self, eigenvalue: float) -> float | None:
        """The eigenvalue, without a decay term, as a multiple of the paper's line; None where it has none."""
        return None if self.paper_line is None else eigenvalue / self.paper_line


OWN_OPTIMIZER = Bound(None, None, reason="no stability bound is known: the study's own code has its own optimizer")
"""For trials of the user's own code, whose optimizer is not known."""

OWN_GROUPS = Bound(
    None, None, reason="no stability bound is known where the workload's parameter_groups have options of their own"
)
"""For trials whose optimizer has such groups."""


def stability_bound(configuration: TrainingConfiguration, learning_rate: float, step: int) -> Bound:
    """The bound for the update that follows `step` updates, with its learning rate, at least 0.

    Decoupled weight decay w lowers it by w edge / 2, with the rule's edge: at z = -1 the decay takes rate w of the 2
    that the gradient's part of a step may reach. This is w (1 + beta1) / (1 - beta1) for adamw.
    """
    rule, decay = _rule(configuration, step), _decoupled_decay(configuration)
    reason = rule.reason or _reason_of_decay(configuration, learning_rate)
    value = None
    if rule.edge is not None and reason is None:
        value = _over(rule.edge, learning_rate) - decay * rule.edge / 2
    return Bound(
        value,
        rule.eigenvalue,
        with_decay=configuration.weight_decay > 0 and not traits(configuration.optimizer).decoupled_weight_decay,
        paper_line=None if rule.paper_line is None else _over(rule.paper_line, learning_rate),
        reason=reason,
    )


def rate_at_bound(configuration: TrainingConfiguration, eigenvalue: float, step: int) -> float | None:
    """The learning rate at which this eigenvalue is at the bound, for the update that follows `step` updates.

    The eigenvalue is the one that `stability_bound` is about. None where no bound is known, and where no rate makes the
    optimizer unstable in this direction: the eigenvalue is not a finite number above 0.
    """
    edge = _rule(configuration, step).edge
    if edge is None or _reason_of_decay(configuration, 0.0) is not None or not 0 < eigenvalue < math.inf:
        return None
    return _over(edge, eigenvalue + _decoupled_decay(configuration) * edge / 2)


@dataclass(frozen=True, slots=True)
class _Rule:
    """Of an optimizer: which eigenvalue is bounded, learning rate * eigenvalue at the edge of stability (None: not
    known, for this reason), and the same of the paper's line.
    """

    eigenvalue: BoundedEigenvalue | None
    edge: float | None
    paper_line: float | None = None
    reason: str | None = None


def _rule(configuration: TrainingConfiguration, step: int) -> _Rule:
    """The edge is 2 over the gain of a step for gradients that change sign at every update (z = -1).

    A buffer b <- beta b + g has then the gain 1 / (1 + beta) of the newest gradient, and a running mean
    m <- beta m + (1 - beta) g the gain (1 - beta) / (1 + beta).
    """
    momentum, beta1 = configuration.momentum, configuration.beta1
    of_mean = (1 - beta1) / (1 + beta1)
    match configuration.optimizer:
        case "sgd":
            return _Rule("lambda_1", 2.0, _SGD_LINE)
        case "momentum":
            return _Rule("lambda_1", 2 * (1 + momentum), _SGD_LINE)
        case "nesterov":  # g + momentum b
            return _Rule("lambda_1", 2 * (1 + momentum) / (1 + 2 * momentum), _SGD_LINE)
        case "rmsprop" | "rmsprop_playbook":
            return _Rule("preconditioned_lambda_1", 2 * (1 + momentum))
        case "adam" | "adam_playbook" | "adamw":
            return _Rule("preconditioned_lambda_1", 2 / of_mean, _ADAM_LINE)
        case "nadam_playbook":  # beta1 m + (1 - beta1) g
            return _Rule("preconditioned_lambda_1", 2 / (beta1 * of_mean + 1 - beta1))
        case "nadam":  # mu m + (1 - mu) g; mu changes by less than 1e-4 from one update to the next
            mu = nadam_momentum(beta1, step + 1)
            return _Rule("preconditioned_lambda_1", 2 / (mu * of_mean + 1 - mu))
        case "lamb":
            reason = "no stability bound is known for lamb: it scales the step of each tensor to the tensor's norm"
            return _Rule(None, None, reason=reason)
        case "lion":
            return _Rule(None, None, reason="no stability bound is known for lion: the size of a step does not shrink")
        case "muon":
            reason = "no stability bound is known for muon: it makes the singular values of a step nearly equal"
            return _Rule(None, None, reason=reason)
        case _:
            return _of_code(configuration.optimizer)


def _of_code(optimizer: CodeName) -> _Rule:
    return _Rule(None, None, reason=f"no stability bound is known for {optimizer}, which is not one of tunectl's")


def _decoupled_decay(configuration: TrainingConfiguration) -> float:
    return configuration.weight_decay if traits(configuration.optimizer).decoupled_weight_decay else 0.0


def _reason_of_decay(configuration: TrainingConfiguration, learning_rate: float) -> str | None:
    """Why there is no bound with this decoupled weight decay, or None."""
    decay = _decoupled_decay(configuration)
    if decay > 0 and configuration.weight_decay_scope == "matrices":
        return (
            f"no stability bound is known for {configuration.optimizer} with weight_decay_scope: matrices: the decay "
            "is not a part of the gradient, and it does not apply to all weights alike"
        )
    if learning_rate * decay >= 2:
        return (
            f"no eigenvalue is stable: learning_rate * weight_decay is {learning_rate * decay:g}, and from 2 on the "
            "decay alone makes the weights grow"
        )
    return None


def _over(value: float, divisor: float) -> float:
    return value / divisor if divisor > 0 else math.inf
