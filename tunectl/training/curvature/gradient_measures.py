"""Measures of a loss at one point from its gradient g and the product H g: no further products are needed."""

from __future__ import annotations

import torch
from torch import Tensor

GRADIENT_QUOTIENT_EPSILON = 1e-5
"""That of MetaInit's authors."""


def directional_sharpness(gradient: Tensor, gradient_product: Tensor) -> float | None:
    """The curvature along the gradient, g'Hg / g'g; at most the largest eigenvalue.

    Args: g and H g, both float64 of shape [n]. Returns None where the gradient is zero or has a NaN.
    """
    # Both divided by the gradient's largest entry: the square of a gradient of 1e-170 is smaller than a float can be.
    scale = gradient.abs().max()
    if not bool(scale > 0):
        return None
    unit = gradient / scale
    return float(unit @ (gradient_product / scale) / (unit @ unit))


def gradient_quotient(gradient: Tensor, gradient_product: Tensor) -> Tensor:
    """MetaInit's gradient quotient: how much a step of gradient descent at rate 1 changes the gradient.

    The mean over all parameters of |(g - H g) / (g + ε s) - 1|, s = 1 where g >= 0, else -1, ε = 1e-5: near 0 where the
    step changes no gradient, near 1 where it brings all to zero. A weight without a gradient counts as 1. Dauphin and
    Schoenholz, "MetaInit: Initializing learning by learning to initialize" (NeurIPS 2019), there with random inputs and
    labels.

    Args: g and H g, both float64 of shape [n]. Returns shape [], with a graph where they have one (none through s).
    """
    sign = torch.where(gradient >= 0, 1.0, -1.0)
    quotients = (gradient - gradient_product) / (gradient + GRADIENT_QUOTIENT_EPSILON * sign)
    return (quotients - 1.0).abs().mean()
