"""Tensors of data sets and gradients that must be there, and the state of numpy's global generator."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset


def tensors_of(data: Dataset[Any]) -> tuple[Tensor, ...]:
    """The tensors of a data set that holds all its examples in tensors."""
    assert isinstance(data, TensorDataset)
    return data.tensors


def gradient_of(parameter: Tensor) -> Tensor:
    """The gradient that a parameter has; fails where it has none."""
    assert parameter.grad is not None
    return parameter.grad


def numpy_state() -> dict[str, Any]:
    """The state of numpy's global generator, to be compared by ==.

    Its key alone changes only every 624 numbers; its position changes with each.
    """
    state = np.random.get_state(legacy=False)
    return {**state, "state": {**state["state"], "key": state["state"]["key"].tolist()}}
