"""Muon: orthogonalised momentum for the matrices of the hidden layers, AdamW for all other parameters.

Keller Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024,
https://kellerjordan.github.io/posts/muon/; constants as there). torch has the rule for matrices alone, as
torch.optim.Muon, since version 2.9.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tunectl.language.configuration import MuonScale
from tunectl.training.update_rules import Update

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_LEAST_NORM = 1e-7

_SMALL = 2**14
"""Up to this many numbers, matrices are computed together. On a CPU thread, 29 of 64 x 64 took a fiftieth of the time
that they take one by one, and 8 of 256 x 256 1.35 times as long.
"""

ORTHOGONAL = "orthogonal"
"""The option of a group by which its parameters get Muon's rule."""


def muon(update: Update) -> None:
    """One update of a group: of matrices by Muon's rule, of the others by AdamW's.

    Muon: m <- momentum m + (1 - momentum) g from m = 0; w <- (1 - lr weight_decay) w - lr s O(g + momentum (m - g)),
    with Nesterov's momentum as in the authors' code; O is `orthogonalised`, s `scale_of`. AdamW is torch.optim.AdamW,
    with the rate lr `rate_factor`. Both decays are decoupled.
    """
    if update.group[ORTHOGONAL]:
        _matrices(update)
    else:
        _adamw(update)


def _matrices(update: Update) -> None:
    group = update.group
    rate, momentum = group["lr"], group["momentum"]
    means = update.buffers("momentum_buffer")
    torch._foreach_lerp_(means, update.gradients, 1 - momentum)
    ahead = torch._foreach_lerp(update.gradients, means, momentum)
    if group["weight_decay"] != 0:
        torch._foreach_mul_(update.parameters, 1 - rate * group["weight_decay"])
    for places in _alike(ahead):
        matrices = [as_matrix(ahead[place]) for place in places]
        scale = scale_of(matrices[0].shape, group["muon_scale"])
        steps = orthogonalised(torch.stack(matrices) if len(matrices) > 1 else matrices[0])
        for place, step in zip(places, steps if len(matrices) > 1 else (steps,), strict=True):
            parameter = update.parameters[place]
            parameter.add_(step.view(parameter.shape), alpha=-rate * scale)


def _alike(tensors: Sequence[Tensor]) -> list[list[int]]:
    """The places of small tensors of one shape, type and device, which one call computes; large ones are alone."""
    found: dict[object, list[int]] = {}
    for place, tensor in enumerate(tensors):
        alike = (tensor.shape, tensor.dtype, tensor.device) if tensor.numel() <= _SMALL else place
        found.setdefault(alike, []).append(place)
    return list(found.values())


def as_matrix(weight: Tensor) -> Tensor:
    """A weight as a matrix [outputs, inputs]: all axes but the first are one, as those of a convolution."""
    return weight.reshape(len(weight), -1)


def orthogonalised(matrix: Tensor) -> Tensor:
    """A matrix U S' V^T near U V^T, in bfloat16, for U S V^T, shape [m, n]: by five Newton-Schulz iterations.

    Each applies a x + b x^3 + c x^5 to the singular values, which the Frobenius norm has made at most 1. They do not
    converge to 1, but come to lie between some 0.7 and 1.2. The operations and their order are torch.optim.Muon's.
    With shape [k, m, n] it is done for k matrices at once, whose results differ from single ones by rounding.
    """
    a, b, c = _COEFFICIENTS
    multiplied = torch.addmm if matrix.ndim == 2 else torch.baddbmm
    x = matrix.bfloat16()
    is_tall = x.size(-2) > x.size(-1)
    x = x.mT if is_tall else x
    norms = x.norm() if x.ndim == 2 else torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True)
    x = x / norms.clamp(min=_LEAST_NORM)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = multiplied(x, multiplied(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT.contiguous() if is_tall else x


def scale_of(shape: Sequence[int], scale: MuonScale) -> float:
    """By what the learning rate of a matrix [outputs, inputs] is multiplied.

    `original`: sqrt(max(1, outputs / inputs)), the authors'. `match_adamw`: 0.2 sqrt(max(outputs, inputs)), with which
    the entries of a step have the size of AdamW's, so that both take the same learning rate and weight decay; Liu et
    al., "Muon is Scalable for LLM Training" (arXiv 2502.16982), and torch.optim.Muon.
    """
    outputs, inputs = shape
    return 0.2 * math.sqrt(max(shape)) if scale == "match_adamw" else math.sqrt(max(1.0, outputs / inputs))


def _adamw(update: Update) -> None:
    group = update.group
    rate = group["lr"] * group["rate_factor"]
    if group["weight_decay"] != 0:
        torch._foreach_mul_(update.parameters, 1 - rate * group["weight_decay"])
    first, second = update.moments(update.gradients)
    counts = update.counts()
    roots = torch._foreach_sqrt(second)
    torch._foreach_mul_(roots, [1 / math.sqrt(1 - group["beta2"] ** count) for count in counts])
    torch._foreach_add_(roots, group["epsilon"])
    factors = [-rate / (1 - group["beta1"] ** count) for count in counts]
    torch._foreach_addcdiv_(update.parameters, first, roots, factors)
