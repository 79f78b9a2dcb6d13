"""Clipping besides that of the gradient's global norm: of each unit's gradient, or of each tensor's update.

Both are hooks of the optimizer's step, so that a copy of the optimizer clips as it does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.output_layer import OutputLayer

_LEAST_WEIGHT_NORM = 1e-3
"""Of Brock et al. (2021): without it, units of zeros, as after an initialisation, would stay zeros."""

_DECAYS_FIRST = ("adamw", "lion", "muon")
"""Optimizers that begin an update by multiplying the weights by 1 - lr weight_decay."""

_LEAST_GRADIENT_NORM = 1e-6
"""As in timm's code for it; a gradient of zeros stays as it is."""


def add_clipping(optimizer: torch.optim.Optimizer, configuration: TrainingConfiguration, output: OutputLayer) -> None:
    """Let the optimizer clip as the configuration's `grad_clip` says; `output` is the model's output layer."""
    if configuration.grad_clip == "adaptive":
        # By their places, which a copy of the optimizer has, too.
        left_out = {
            (number, place)
            for number, group in enumerate(optimizer.param_groups)
            for place, parameter in enumerate(group["params"])
            if parameter in output
        }
        optimizer.register_step_pre_hook(_AdaptiveClipping(configuration.adaptive_clip_factor, left_out))
    elif configuration.grad_clip == "update":
        clipping = _UpdateClipping(configuration.update_clip_rms, decays=configuration.optimizer in _DECAYS_FIRST)
        optimizer.register_step_pre_hook(clipping.begin)
        optimizer.register_step_post_hook(clipping.end)


class _AdaptiveClipping:
    """Adaptive gradient clipping: the gradient of a unit has at most `factor` times the norm of the unit's weights.

    Brock et al., "High-Performance Large-Scale Image Recognition Without Normalization" (ICML 2021): a unit
    is a row of a matrix, all weights of one output of a convolution, or a whole vector. The output layer is left out.
    Weights of norm below 1e-3 count as if theirs were 1e-3.
    """

    def __init__(self, factor: float, left_out: set[tuple[int, int]]) -> None:
        self._factor, self._left_out = factor, left_out

    @torch.no_grad()
    def __call__(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:  # noqa: ARG002
        for number, group in enumerate(optimizer.param_groups):
            for place, parameter in enumerate(group["params"]):
                if parameter.grad is not None and (number, place) not in self._left_out:
                    self._clip(parameter, parameter.grad)

    def _clip(self, parameter: Tensor, gradient: Tensor) -> None:
        if gradient.is_sparse:
            raise RuntimeError("grad_clip: adaptive does not support sparse gradients")
        most = _unit_norms(parameter).clamp(min=_LEAST_WEIGHT_NORM) * self._factor
        norms = _unit_norms(gradient)
        gradient.mul_(torch.where(norms > most, most / norms.clamp(min=_LEAST_GRADIENT_NORM), 1.0))


def _unit_norms(tensor: Tensor) -> Tensor:
    """The norm of each unit: shape [units, 1, ...], or [1, ...] of all that has at most one axis longer than 1."""
    is_vector = tensor.squeeze().ndim <= 1
    norms: Tensor = torch.linalg.vector_norm(
        tensor, dim=None if is_vector else tuple(range(1, tensor.ndim)), keepdim=True
    )
    return norms


class _UpdateClipping:
    """Clipping of the update: U / max(1, RMS(U) / d) for the update U of each tensor before the learning rate.

    Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost" (ICML 2018), section 6. U is what
    the optimizer changes, divided by its learning rate: with momentum, and with an L2 term; a decoupled weight decay is
    not clipped. It takes a copy of the weights at each update.
    """

    def __init__(self, most: float, *, decays: bool) -> None:
        self._most, self._decays = most, decays
        self._before: list[list[Tensor]] = []

    @torch.no_grad()
    def begin(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:  # noqa: ARG002
        self._before = [[parameter.clone() for parameter in _moving(group)] for group in optimizer.param_groups]

    @torch.no_grad()
    def end(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:  # noqa: ARG002
        before, self._before = self._before, []
        # With float16 a fused optimizer skips an update itself, where this is 1.
        skipped = getattr(optimizer, "found_inf", None)
        for group, weights in zip(optimizer.param_groups, before, strict=True):
            parameters = _moving(group)
            rate = group["lr"] * group.get("rate_factor", 1.0)
            if not parameters or rate == 0:
                continue
            if self._decays and group["weight_decay"] != 0:
                torch._foreach_mul_(weights, 1 - rate * group["weight_decay"])
            changes = torch._foreach_sub(parameters, weights)
            factors = [
                torch.clamp(self._most * rate * change.numel() ** 0.5 / norm, max=1.0)
                for change, norm in zip(changes, torch._foreach_norm(changes), strict=True)
            ]
            for parameter, weight, change, factor in zip(parameters, weights, changes, factors, strict=True):
                # An update that is not clipped stays as it is, bit for bit; one of zeros has the factor 1 (inf).
                is_clipped = factor < 1 if skipped is None else (factor < 1) & (skipped == 0)
                parameter.copy_(torch.where(is_clipped, weight + change * factor, parameter))


def _moving(group: dict[str, Any]) -> list[Tensor]:
    return [parameter for parameter in group["params"] if parameter.grad is not None]
