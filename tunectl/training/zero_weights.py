"""Keeps what has no weight out of the gradient, also where its derivative is NaN: 0 times NaN would be NaN."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

_POINTWISE = re.compile(
    "Abs|Add(cdiv|cmul)?|BinaryCrossEntropy(WithLogits)?|Clamp(Max|Min)?|Clone|Cos|Div|Exp|Expm1|HuberLoss|Lerp|Log"
    "|Log10|Log1P|Log2|LogSigmoid|Maximum|Minimum|MseLoss|Mul|NanToNum|Neg|Pow|Reciprocal|Rsqrt|Rsub|Sigmoid|Sin"
    "|SmoothL1Loss|Softplus|Sqrt|Sub|Tanh|ToCopy|Where|Xlogy"
)
"""Operations of torch, by the names of their backward passes, in which an entry of the result depends on the entries at
the same place alone.
"""

_PASSED = re.compile("Mean|ReshapeAlias|Squeeze|Sum|UnsafeView|Unsqueeze|View")
"""Operations whose derivatives are always finite, behind which others of the loss may be."""

_NUMBER = re.compile(r"Backward\d*$")

_MOST_NODES = 16
"""A loss has few operations; what is behind more of them, as the sums of a residual network, is the model."""


def keep_zero_weights_out(values: Tensor, weights: Tensor) -> None:
    """Let the gradient of values of weight 0 be 0 also through operations that have no finite derivative there.

    A target that is missing, and NaN, makes the derivative of (output - target)^2 NaN. The gradient that comes to it
    is 0, and so is the one that it passes on; torch would give 0 * NaN = NaN, which then spreads to all weights. Here
    it becomes 0 in the operations of torch by which a loss makes its values from its inputs entry by entry. Nothing
    else changes. Args: the two tensors of one shape, and the values' graph, which gets hooks.
    """
    todo: list[Any] = [values.grad_fn]
    found: set[Any] = set()
    no_weight = weights == 0
    while todo and len(found) < _MOST_NODES:
        node = todo.pop(0)
        name = "" if node is None or node in found else _NUMBER.sub("", node.name())
        if _POINTWISE.fullmatch(name):
            node.register_hook(partial(_without_nan, no_weight))
        elif not _PASSED.fullmatch(name):
            continue
        found.add(node)
        todo += [following for following, _ in node.next_functions]


def _without_nan(
    no_weight: Tensor, passed_on: Sequence[Tensor | None], coming: Sequence[Tensor | None]
) -> tuple[Tensor | None, ...] | None:
    """The gradients that an operation passes on, 0 where the coming one is 0 because there is no weight."""
    arrived = coming[0]
    if arrived is None:
        return None
    shape, axes = arrived.shape, no_weight.ndim
    if shape[:axes] == no_weight.shape:
        nothing = no_weight.view(*no_weight.shape, *[1] * (len(shape) - axes)) & (arrived == 0)
    elif arrived.numel() == no_weight.numel():
        nothing = no_weight.reshape(shape) & (arrived == 0)
    else:
        return None
    return tuple(
        torch.where(nothing, 0.0, part) if part is not None and part.shape == shape else part for part in passed_on
    )
