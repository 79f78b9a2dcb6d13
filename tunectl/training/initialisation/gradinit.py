"""GradInit: a scale for each tensor is learned such that the first step of the optimizer lowers the loss most.

Zhu et al., "GradInit: Learning to initialize neural networks for stable and efficient training" (2021).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tunectl.training.curvature.double_backward import Gradients, joined
from tunectl.training.initialisation.batch_losses import BatchLosses, along, norms_of
from tunectl.training.initialisation.rescaling import Measured

LEAST_SCALE = 0.01
CLIP = 1.0
"""The largest derivative by a scale, in size."""
_BETA2, _EPSILON = 0.999, 1e-8
# All of the paper.


@dataclass(frozen=True, slots=True)
class FirstStep:
    """The step of the optimizer that is looked at: η along the gradient's direction, where its norm is at most γ.

    The paper has η = 0.1 and γ = 1 for SGD, whose direction is g / |g|. A step of 0.1 along sign(g), Adam's direction,
    would be larger than most weights: the authors' code takes 1e-3 there. γ then is the one at which a step lowers the
    loss by the same amount to first order, η γ = 0.1; the norm is that whose dual the step is measured in, the 1-norm.
    """

    is_signed: bool
    size: float
    largest_norm: float

    def norm(self, gradient: Tensor) -> Tensor:
        """The norm of a gradient, shape [n], float64: the 1-norm, or the Euclidean one."""
        norm: Tensor = torch.linalg.vector_norm(gradient, ord=1 if self.is_signed else 2)
        return norm


SGD_STEP = FirstStep(is_signed=False, size=0.1, largest_norm=1.0)
ADAM_STEP = FirstStep(is_signed=True, size=1e-3, largest_norm=100.0)


@dataclass(slots=True)
class _Adam:
    """Adam's averages for one scale and one of the two objectives."""

    steps: int = 0
    mean: float = 0.0
    square: float = 0.0

    def step(self, slope: float, beta1: float) -> float:
        """The step along a derivative, for a learning rate of 1."""
        self.steps += 1
        self.mean = beta1 * self.mean + (1 - beta1) * slope
        self.square = _BETA2 * self.square + (1 - _BETA2) * slope * slope
        denominator = math.sqrt(self.square / (1 - _BETA2**self.steps)) + _EPSILON
        return self.mean / (1 - beta1**self.steps) / denominator


class GradInit:
    """Adam on a scale for each tensor, for the loss after one step of the optimizer, divided by its size η.

    The loss after the step, L(S'; θ - η A[g]), is that of a batch S' that shares half of its examples with the batch S
    of the gradient g. Where |g| is above γ, the iteration makes |g| smaller in its place. The derivative is that of the
    whole expression, also through g (the authors' code takes A[g] as a constant). As there, derivatives are clipped one
    by one, each of the two objectives has averages of its own, and a tensor of zeros stays as it is.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], learning_rate: float, momentum: float, step: FirstStep
    ) -> None:
        self.tensors = list(parameters)
        self._rate, self._beta1, self._step = learning_rate, momentum, step
        self._scales = [1.0] * len(self.tensors)
        self._averages = [(_Adam(), _Adam()) for _ in self.tensors]

    def measure(self, losses: BatchLosses) -> Measured:
        """The loss and the gradient norm on S and, where the norm is at most γ, the loss on S' after the step."""
        loss, grads = losses.gradient(0, self.tensors)
        flat = joined(grads, self.tensors)
        norm = self._step.norm(flat)
        metrics = {"loss": loss, "gradient_norm": float(norm.detach())}
        if metrics["gradient_norm"] > self._step.largest_norm:
            metrics["constrained"] = 1.0
            slopes = along(self._slopes(norm), self.tensors)
        else:
            metrics["constrained"] = 0.0
            metrics["loss_after_step"], slopes = self._after_step(losses, flat, norm)
        slopes = [slope / scale for slope, scale in zip(slopes, self._scales, strict=True)]
        return Measured(metrics, norms_of(self.tensors), slopes)

    def _slopes(self, value: Tensor) -> Gradients:
        """The derivative of a value by each tensor, None where it does not depend on it."""
        if not value.requires_grad:
            return [None] * len(self.tensors)
        return torch.autograd.grad(value, self.tensors, allow_unused=True)

    def _after_step(self, losses: BatchLosses, flat: Tensor, norm: Tensor) -> tuple[float, list[float]]:
        """The loss on S' after the step, and the derivative of loss / η along each tensor.

        Of the weights after the step, w = θ - η A[g(θ)], only their gradient v is needed: the derivative along θ_j is
        (v · θ_j - η ∂(v · A[g])/∂θ · θ_j) / η, where the second term differentiates g with v held. A graph of both
        batches at once, with w in the place of the weights, would need a model that lets its weights be replaced.
        """
        size = self._step.size
        direction = torch.sign(flat) if self._step.is_signed else flat / norm.clamp(min=torch.finfo(flat.dtype).tiny)
        with self._moved(-size * direction.detach()):
            loss, after = losses.gradient(1, self.tensors)
        slopes = [slope / size for slope in along(after, self.tensors)]
        if not self._step.is_signed:  # the derivative of the sign is zero
            through = self._slopes((joined(after, self.tensors).detach() * direction).sum())
            slopes = [own - part for own, part in zip(slopes, along(through, self.tensors), strict=True)]
        return loss, slopes

    @contextmanager
    def _moved(self, change: Tensor) -> Iterator[None]:
        """Within the block the weights are changed by this flat vector."""
        before = [tensor.detach().clone() for tensor in self.tensors]
        parts = torch.split(change, [tensor.numel() for tensor in self.tensors])
        try:
            for tensor, own, part in zip(self.tensors, before, parts, strict=True):
                # By .data: autograd must not take it for a change, since the graph of g is used with the old values.
                tensor.data.copy_(own + part.view(own.shape).to(own.dtype))
            yield
        finally:
            for tensor, own in zip(self.tensors, before, strict=True):
                tensor.data.copy_(own)

    def factors(self, measured: Measured) -> list[float]:
        """The factor for each tensor after one step of Adam on the scales; 1 for a tensor of zeros."""
        found = []
        for place, (norm, slope) in enumerate(zip(measured.norms, measured.derivatives, strict=True)):
            if not norm:
                found.append(1.0)
                continue
            before = self._scales[place]
            averages = self._averages[place][int(measured.metrics["constrained"])]
            step = averages.step(max(-CLIP, min(CLIP, slope)), self._beta1)
            self._scales[place] = max(LEAST_SCALE, before - self._rate * step)
            found.append(self._scales[place] / before)
        return found

    def state(self) -> dict[str, Any]:
        """What the next iterations depend on."""
        averages = [[asdict(each) for each in pair] for pair in self._averages]
        return {"scales": list(self._scales), "averages": averages}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` gave."""
        self._scales = list(state["scales"])
        self._averages = [(_Adam(**one), _Adam(**other)) for one, other in state["averages"]]
