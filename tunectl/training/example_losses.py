"""What a loss gives for a batch: a value for each example, or values with weights, also for the parts of an example."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tunectl.core.errors import WorkloadError
from tunectl.training.zero_weights import keep_zero_weights_out

WRONG_WEIGHTS = "the weights of loss(model, batch): expected finite numbers of at least 0"

_RIGHT = "expected a tensor of shape [B], a value per example, or a tuple (values, weights) of two such tensors"


class ExampleLosses(NamedTuple):
    """The values of a batch and their weights: each of shape [B], or both [B, ...], as for the tokens of sequences.

    `weights` is None where each example counts as 1; then `values` has the shape [B]. The loss of a batch is the
    weighted mean sum(w v) / sum(w). A value of weight 0 counts nothing, also where it is NaN, as padding often is.
    """

    values: Tensor
    weights: Tensor | None

    def products(self) -> Tensor:
        """The products w v, summed over the parts of each example, shape [B], in the values' type; v without weights.

        0 for a weight of 0, with a gradient of 0 for its value.
        """
        if self.weights is None:
            return self.values
        return _of_examples(weighted(self.values, self.weights.to(self.values.dtype)))

    def per_example(self, dtype: torch.dtype = torch.float64) -> ExampleLosses:
        """The weighted mean and the sum of the weights of each example, both [B], in this type, without a graph.

        0 for an example of weight 0. Without weights the values are the same as before.
        """
        values = self.values.detach().to(dtype)
        if self.weights is None:
            return ExampleLosses(values, None)
        weights = self.weights.to(dtype)
        if values.ndim == 1:
            return ExampleLosses(torch.where(weights == 0, 0.0, values), weights)
        sums, totals = _of_examples(weighted(values, weights)), _of_examples(weights)
        return ExampleLosses(torch.where(totals == 0, 0.0, sums / totals), totals)

    def total_weight(self) -> Tensor:
        """The sum of the weights, shape [], in single precision at least; the number of examples without weights.

        NaN where a weight is negative or not finite: to find that does not wait for the device.
        """
        if self.weights is None:
            return self.values.new_full((), len(self.values), dtype=torch.float32)
        weights = self.weights.to(torch.promote_types(self.weights.dtype, torch.float32))
        return torch.where(are_right(weights), weights.sum(), math.nan)


def example_losses(given: Any, examples: int | None = None) -> ExampleLosses:
    """What `loss(model, batch)` gave for a batch of this number of examples, if known; no value is read.

    Raises WorkloadError where it is neither one value per example nor a tuple of values and weights of one shape whose
    first axis is the examples', and where weights have a gradient.
    """
    if isinstance(given, tuple):
        values, weights = _pair(given)
    elif isinstance(given, Tensor):
        values, weights = given, None
        if values.ndim != 1:
            raise WorkloadError(
                f"loss(model, batch): expected one value per example, shape [B], got shape {list(values.shape)}"
                f"{_hint(values)}"
            )
    else:
        raise WorkloadError(f"loss(model, batch): {_RIGHT}, got {type(given).__name__}")
    if examples is not None and len(values) != examples:
        right = [examples, *values.shape[1:]]
        raise WorkloadError(
            f"loss(model, batch) gave {len(values)} values for a batch of {examples} examples: expected shape {right},"
            f" got shape {list(values.shape)}"
        )
    return ExampleLosses(values, weights)


def _hint(values: Tensor) -> str:
    if values.ndim == 0:
        return " (a mean over the batch: use reduction='none')"
    return "; for values of several parts of an example, as tokens, give a tuple (values, weights)"


def _pair(given: Sequence[Any]) -> tuple[Tensor, Tensor]:
    kinds = [type(item).__name__ for item in given]
    if len(given) != 2 or not all(isinstance(item, Tensor) for item in given):
        raise WorkloadError(f"loss(model, batch): {_RIGHT}, got a tuple of {', '.join(kinds) or 'nothing'}")
    values, weights = given
    if values.shape != weights.shape or values.ndim == 0:
        raise WorkloadError(
            "loss(model, batch): expected values and weights of one shape, [B] or [B, ...], got"
            f" {list(values.shape)} and {list(weights.shape)}"
        )
    if weights.is_complex():
        raise WorkloadError(f"the weights of loss(model, batch): expected real numbers, got {weights.dtype}")
    if weights.requires_grad:
        raise WorkloadError(
            "the weights of loss(model, batch): expected a tensor without a gradient, got one that requires it; use"
            " weights.detach()"
        )
    if values.requires_grad:
        keep_zero_weights_out(values, weights)
    return values, weights


def weighted(values: Tensor, weights: Tensor) -> Tensor:
    """The product w v for each value; 0 for a weight of 0, with a gradient of 0 for its value."""
    return torch.where(weights == 0, 0.0, values * weights)


def are_right(weights: Tensor) -> Tensor:
    """Whether all weights are finite and at least 0, shape [], on their device."""
    return ((weights >= 0) & (weights < math.inf)).all()


def _of_examples(values: Tensor) -> Tensor:
    """The sums over the parts of each example: shape [B, ...] gives [B]."""
    return values if values.ndim == 1 else values.flatten(1).sum(dim=1)
