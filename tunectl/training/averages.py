"""The averages of a split's metrics over its examples, and what `metrics(model, batch)` may give for a batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tunectl.core.errors import WorkloadError
from tunectl.training.split_sums import SplitSums

_MEAN = "mean"


class Averages:
    """Weighted means of per-example values over batches, accumulated in float64 on the values' device."""

    def __init__(self, sums: SplitSums | None = None) -> None:
        self.sums = SplitSums() if sums is None else sums

    def add(self, name: str, values: Any, weights: Any = None) -> None:
        """Add a batch: values of any shape (any number type or bool), weights of the same shape or None for ones.

        A value of weight zero does not count, even where it is NaN, as padding often is.
        """
        numbers = torch.as_tensor(values).detach().to(torch.float64)
        if weights is None:
            part = torch.stack([numbers.sum(), numbers.new_tensor(float(numbers.numel()))])
        else:
            factors = torch.as_tensor(weights, device=numbers.device).detach().to(torch.float64)
            counted = torch.where(factors == 0, torch.zeros_like(numbers), numbers)
            part = torch.stack([(counted * factors).sum(), factors.sum()])
        self.sums.add((_MEAN, name), part)

    def means(self) -> dict[str, float]:
        """The means by name; NaN where the weights sum to zero."""
        pairs = {name: total for (what, name), total in self.sums.totals().items() if what == _MEAN}
        return {name: total / weight if weight != 0 else math.nan for name, (total, weight) in pairs.items()}


def _checked(name: str, what: str, values: Any, examples: int, *, parts: bool = False) -> Tensor:
    """The values or the weights of a metric, one for each example; with `parts` there may be several for each."""
    try:
        numbers = values if isinstance(values, Tensor) else torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise WorkloadError(f"{what} of metric {name!r}: expected numbers: {error}") from error
    if numbers.is_complex():
        raise WorkloadError(f"{what} of metric {name!r}: expected real numbers, got {numbers.dtype}")
    if tuple(numbers.shape[: 1 if parts else None]) != (examples,):
        raise WorkloadError(
            f"{what} of metric {name!r}: expected one per example, shape [{examples}{', ...' if parts else ''}] for"
            f" this batch, got {list(numbers.shape)}{'' if parts else _hint(numbers, examples)}"
        )
    return numbers


def _hint(values: Tensor, examples: int) -> str:
    """What may have been meant by values of several parts of each example."""
    if values.ndim > 1 and len(values) == examples:
        return "; for values of several parts of an example, as tokens, give a tuple (values, weights)"
    return ""


def _is_series(value: Any) -> bool:
    return value.ndim > 0 if isinstance(value, (Tensor, np.ndarray)) else isinstance(value, (list, tuple))


def add_metrics(averages: Averages, given: Any, examples: int, *, check_weights: bool = True) -> None:
    """Add what `metrics(model, batch)` gave for a batch; raises WorkloadError where it is not as `Workload` requires.

    `check_weights` tests for negative weights, which waits for the device.
    """
    if not isinstance(given, Mapping):
        raise WorkloadError(f"metrics(model, batch): expected a dict of per-example values, got {type(given).__name__}")
    for name, value in given.items():
        if not isinstance(name, str) or not name:
            raise WorkloadError(f"metrics(model, batch): expected names as text, got {name!r}")
        if name == "loss":
            continue
        if isinstance(value, list) and len(value) == 2 and all(map(_is_series, value)):
            raise WorkloadError(
                f"metric {name!r}: expected values or a tuple (values, weights), got a list of two series"
            )
        if isinstance(value, tuple) and len(value) == 2:
            values = _checked(name, "the values", value[0], examples, parts=True)
            weights = _checked(name, "the weights", value[1], examples, parts=True)
            if values.shape != weights.shape:
                raise WorkloadError(
                    f"metric {name!r}: expected values and weights of one shape, got {list(values.shape)} and"
                    f" {list(weights.shape)}"
                )
            if check_weights and bool((weights < 0).any()):
                raise WorkloadError(f"the weights of metric {name!r}: expected at least 0, got {weights.min().item()}")
            averages.add(name, values, weights)
        else:
            averages.add(name, _checked(name, "the values", value, examples))
