"""The weights that networks begin with: every `init:` and `init_scale:` of the built-in workloads."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

INITS = ("lecun_normal", "he_normal", "xavier", "orthogonal")
"""The initialisations of any network, by their names in a study: see `draw_weight`."""

RESIDUAL_INITS = (*INITS, "fixup", "rezero")
"""Those of a network with residual branches: see `initialize`."""

_VARIANCES = {"lecun_normal": 1.0, "he_normal": 2.0}
"""A weight's variance times its layer's fan_in.

LeCun et al. (1998, "Efficient backprop", eq. 16); He et al. (2015, "Delving deep into rectifiers", eq. 10).
"""


def draw_weight(weight: Tensor, init: str, scale: float = 1.0) -> None:
    """Draw the weight of one layer, shape [outputs, inputs, ...], from torch's global generator, times `scale`.

    Fan_in is the number of inputs of one output, which for a convolution is channels times pixels of the kernel.
    `lecun_normal` and `he_normal` are normal distributions of variance 1 / fan_in and 2 / fan_in. `xavier` is the
    uniform one of variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010, eq. 16). `orthogonal` is a random matrix
    [outputs, fan_in] with orthonormal rows, or columns where it has fewer of these (Saxe et al. 2013).
    """
    if init == "xavier":
        nn.init.xavier_uniform_(weight, gain=scale)
    elif init == "orthogonal":
        nn.init.orthogonal_(weight, gain=scale)
    else:
        nn.init.normal_(weight, std=scale * math.sqrt(_VARIANCES[init] / weight[0].numel()))


def initialize(
    model: nn.Module,
    init: str,
    init_scale: float,
    *,
    branches: Sequence[Sequence[nn.Module]] = (),
    classifier: nn.Module | None = None,
) -> None:
    """Draw the weights of all linear layers and convolutions of the model, set their biases to 0, and scale.

    `branches` are the layers with weights of each residual branch, in the order in which they are called. `init` is one
    of RESIDUAL_INITS:

    - those of INITS draw every weight as `draw_weight` does.
    - `fixup` (Zhang et al. 2019, arXiv 1901.09321) sets the last layer of each branch and the `classifier` to 0, and
      draws all others as `he_normal`, those in a branch times L^(-1 / (2m - 2)), for L branches, m layers in a branch.
    - `rezero` draws as `lecun_normal`; the branches begin at 0 by their scalars, see `ResidualSum`.

    Then `init_scale` multiplies every parameter of the model, also the scales of normalizations and the scalars of
    branches. Other parameters are left as they are.
    """
    plain = {"fixup": "he_normal", "rezero": "lecun_normal"}.get(init, init)
    factors = _fixup_factors(branches, classifier) if init == "fixup" else {}
    for layer in model.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            factor = factors.get(layer, 1.0)
            if factor > 0:
                draw_weight(layer.weight, plain, factor)
            else:
                nn.init.zeros_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    if init_scale != 1:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(init_scale)


def _fixup_factors(branches: Sequence[Sequence[nn.Module]], classifier: nn.Module | None) -> dict[nn.Module, float]:
    factors = {} if classifier is None else {classifier: 0.0}
    for layers in branches:
        *inner, last = layers
        factors[last] = 0.0
        for layer in inner:
            factors[layer] = len(branches) ** (-1 / (2 * len(layers) - 2))
    return factors
