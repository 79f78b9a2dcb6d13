"""The update rules of the Deep Learning Tuning Playbook that differ from torch's, and NAdam, LAMB and Lion.

Each rule is a function over lists of tensors (torch._foreach) that does not wait for the device. Weight decay is an L2
term, weight_decay w added to the gradient g first, unless a rule says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tunectl.language.optimizer_traits import nadam_momentum


@dataclass(frozen=True, slots=True)
class Update:
    """One update of one group: its options, the parameters that have a gradient, these gradients, and the states."""

    group: Mapping[str, Any]
    parameters: list[Tensor]
    gradients: list[Tensor]
    states: MutableMapping[Tensor, dict[str, Any]]

    def buffers(self, name: str, start: float = 0.0) -> list[Tensor]:
        """The state tensors of this name, each of its parameter's shape; full of `start` before the first update."""
        for parameter in self.parameters:
            if name not in self.states[parameter]:
                self.states[parameter][name] = torch.full_like(parameter, start)
        return [self.states[parameter][name] for parameter in self.parameters]

    def counts(self) -> list[int]:
        """The number of this update for each parameter, from 1. To be called once an update."""
        for parameter in self.parameters:
            self.states[parameter]["step"] = self.states[parameter].get("step", 0) + 1
        return [self.states[parameter]["step"] for parameter in self.parameters]

    def with_l2(self) -> list[Tensor]:
        """The gradients with the L2 term added."""
        decay = self.group["weight_decay"]
        if decay == 0:
            return self.gradients
        return list(torch._foreach_add(self.gradients, self.parameters, alpha=decay))

    def moments(self, gradients: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Adam's running means of the gradient and of its square, updated; not corrected for their start at 0."""
        first, second = self.buffers("exp_avg"), self.buffers("exp_avg_sq")
        torch._foreach_lerp_(first, gradients, 1 - self.group["beta1"])
        torch._foreach_mul_(second, self.group["beta2"])
        torch._foreach_addcmul_(second, gradients, gradients, 1 - self.group["beta2"])
        return first, second


Rule = Callable[[Update], None]


class RuleOptimizer(Optimizer):
    """An optimizer with one of the rules below; `options` are the rule's and `lr`, the same for every group."""

    def __init__(self, groups: Iterable[Mapping[str, Any]], rule: Rule, **options: float | str) -> None:
        self._rule = rule
        super().__init__([dict(group) for group in groups], {"weight_decay": 0.0, **options})

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient; raises RuntimeError where one is sparse, as torch does."""
        if closure is not None:
            raise ValueError("expected no closure: it is not supported")
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            gradients = [parameter.grad for parameter in parameters]
            if any(gradient.is_sparse for gradient in gradients):
                raise RuntimeError(f"{self._rule.__name__} does not support sparse gradients")
            if parameters:
                self._rule(Update(group, parameters, gradients, self.state))


def rmsprop_playbook(update: Update) -> None:
    """RMSProp: v <- rho v + (1 - rho) g^2 from v = 1; m <- momentum m + lr g / sqrt(v + epsilon); w <- w - m.

    torch.optim.RMSprop starts from v = 0, adds epsilon outside the root, and multiplies by the learning rate outside
    the momentum buffer. The last makes a difference only with a schedule: here the buffer keeps each step's own rate.
    """
    group, gradients = update.group, update.with_l2()
    squares = update.buffers("square_avg", 1.0)
    torch._foreach_mul_(squares, group["rho"])
    torch._foreach_addcmul_(squares, gradients, gradients, 1 - group["rho"])
    roots = torch._foreach_add(squares, group["epsilon"])
    torch._foreach_sqrt_(roots)
    if group["momentum"] == 0:
        torch._foreach_addcdiv_(update.parameters, gradients, roots, -group["lr"])
        return
    velocities = update.buffers("momentum_buffer")
    torch._foreach_mul_(velocities, group["momentum"])
    torch._foreach_addcdiv_(velocities, gradients, roots, group["lr"])
    torch._foreach_sub_(update.parameters, velocities)


def adam_playbook(update: Update) -> None:
    """Adam: w <- w - lr b m / (sqrt(v) + epsilon), b = sqrt(1 - beta2^t) / (1 - beta1^t).

    The correction b for the start at 0 is outside the fraction: epsilon is added to the uncorrected root, and has more
    weight in the first updates than in torch.optim.Adam, which adds it to the corrected root. Equal where epsilon is 0.
    """
    gradients = update.with_l2()
    first, second = update.moments(gradients)
    _adam_step(update, first, second)


def nadam(update: Update) -> None:
    """NAdam as torch.optim.NAdam has it, with Dozat's momentum decay of 0.004; mu_t = beta1 (1 - 0.96^(0.004 t) / 2).

    w <- w - lr (mu_(t+1) m / (1 - mu_1 ... mu_(t+1)) + (1 - mu_t) g / (1 - mu_1 ... mu_t)) / (sqrt(v') + epsilon), v'
    corrected as in torch.optim.Adam.

    torch's own class is not used for two reasons. It keeps the product of momenta in float32, so that the results
    differ by rounding (2e-11 in float64), and a `resume.pt` of one could not be continued by the other. And it took 154
    to 194 microseconds for an update of the digits perceptron on a CPU where this takes 90.
    """
    group, gradients = update.group, update.with_l2()
    first, second = update.moments(gradients)
    counts = update.counts()
    roots = torch._foreach_sqrt(second)
    torch._foreach_mul_(roots, [1 / math.sqrt(1 - group["beta2"] ** count) for count in counts])
    torch._foreach_add_(roots, group["epsilon"])
    now = [nadam_momentum(group["beta1"], count) for count in counts]
    after = [nadam_momentum(group["beta1"], count + 1) for count in counts]
    products = []
    for parameter, momentum in zip(update.parameters, now, strict=True):
        state = update.states[parameter]
        state["mu_product"] = state.get("mu_product", 1.0) * momentum
        products.append(state["mu_product"])
    rate = group["lr"]
    of_gradient = [-rate * (1 - mu) / (1 - product) for mu, product in zip(now, products, strict=True)]
    of_mean = [-rate * mu / (1 - product * mu) for mu, product in zip(after, products, strict=True)]
    torch._foreach_addcdiv_(update.parameters, gradients, roots, of_gradient)
    torch._foreach_addcdiv_(update.parameters, first, roots, of_mean)


def nadam_playbook(update: Update) -> None:
    """NAdam: w <- w - lr b (beta1 m + (1 - beta1) g) / (sqrt(v) + epsilon), b as in `adam_playbook`.

    `nadam` also has Dozat's momentum decay: the momentum rises from beta1 / 2 to beta1 over thousands of updates, and
    the correction uses the product of all momenta so far. Here the momentum is beta1 from the start.
    """
    gradients = update.with_l2()
    first, second = update.moments(gradients)
    _adam_step(update, list(torch._foreach_lerp(first, gradients, 1 - update.group["beta1"])), second)


def _adam_step(update: Update, first: list[Tensor], second: list[Tensor]) -> None:
    group = update.group
    roots = torch._foreach_sqrt(second)
    torch._foreach_add_(roots, group["epsilon"])
    rate, beta1, beta2 = group["lr"], group["beta1"], group["beta2"]
    factors = [-rate * math.sqrt(1 - beta2**count) / (1 - beta1**count) for count in update.counts()]
    torch._foreach_addcdiv_(update.parameters, first, roots, factors)


def lamb(update: Update) -> None:
    """LAMB: w <- w - lr r |w| / |r|, r = m' / (sqrt(v') + epsilon) + weight_decay w; w - lr r where a norm is 0.

    You et al., "Large Batch Optimization for Deep Learning", algorithm 2; m' and v' are corrected as in
    torch.optim.Adam. The weight decay is decoupled: it does not pass through the moments. Vectors are scaled like
    matrices; with `weight_decay_scope: matrices` they have no decay.
    """
    group = update.group
    first, second = update.moments(update.gradients)
    counts = update.counts()
    roots = torch._foreach_sqrt(second)
    torch._foreach_mul_(roots, [1 / math.sqrt(1 - group["beta2"] ** count) for count in counts])
    torch._foreach_add_(roots, group["epsilon"])
    steps = torch._foreach_mul(first, [1 / (1 - group["beta1"] ** count) for count in counts])
    torch._foreach_div_(steps, roots)
    if group["weight_decay"] != 0:
        torch._foreach_add_(steps, update.parameters, alpha=group["weight_decay"])
    ratios = [
        torch.where((weight > 0) & (step > 0), weight / step, torch.ones_like(step))
        for weight, step in zip(torch._foreach_norm(update.parameters), torch._foreach_norm(steps), strict=True)
    ]
    torch._foreach_mul_(steps, ratios)
    torch._foreach_add_(update.parameters, steps, alpha=-group["lr"])


def lion(update: Update) -> None:
    """Lion: w <- (1 - lr weight_decay) w - lr sign(beta1 m + (1 - beta1) g), then m <- beta2 m + (1 - beta2) g.

    Chen et al., "Symbolic Discovery of Optimization Algorithms" (NeurIPS 2023); the weight decay is
    decoupled. Every entry of a step has the size lr, so that learning rates are 3 to 10 times smaller than AdamW's,
    and decays as much larger.
    """
    group = update.group
    means = update.buffers("exp_avg")
    if group["weight_decay"] != 0:
        torch._foreach_mul_(update.parameters, 1 - group["lr"] * group["weight_decay"])
    steps = torch._foreach_lerp(means, update.gradients, 1 - group["beta1"])
    torch._foreach_sign_(steps)
    torch._foreach_add_(update.parameters, steps, alpha=-group["lr"])
    torch._foreach_lerp_(means, update.gradients, 1 - group["beta2"])
