"""The random generators on which a forward depends: the global ones, and those that a model has as attributes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn


class GeneratorStates:
    """The generators among some values, with their states as they are now."""

    def __init__(self, values: Iterable[Any]) -> None:
        self._kept: list[tuple[Callable[[], Any], Callable[[Any], Any], Any]] = []
        for value in values:
            if isinstance(value, torch.Generator):
                self._keep(value.get_state, value.set_state)
            elif isinstance(value, np.random.Generator):
                bits = value.bit_generator
                self._keep(partial(getattr, bits, "state"), partial(setattr, bits, "state"))
            elif isinstance(value, np.random.RandomState):
                self._keep(value.get_state, value.set_state)
            elif isinstance(value, random.Random):
                self._keep(value.getstate, value.setstate)

    def _keep(self, get: Callable[[], Any], put: Callable[[Any], Any]) -> None:
        try:
            state = get()
        except Exception:
            return  # one of the system, or of a user, that has no state which can be read
        self._kept.append((get, put, state))

    def have_drawn(self) -> bool:
        """Whether a state has changed."""
        return not all(is_same_state(get(), state) for get, _, state in self._kept)

    def put_back(self) -> None:
        """Give the generators the states that they had."""
        for _, put, state in self._kept:
            put(state)


class ModelGenerators(GeneratorStates):
    """The generators that the modules of a model have as attributes, with their states as they are now."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__([value for module in model.modules() for value in vars(module).values()])


def is_same_state(one: Any, other: Any) -> bool:
    """Whether two states of generators are the same: nested dicts, lists and tuples of numbers, tensors and arrays."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, dict):
        return all(is_same_state(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)):
        return all(map(is_same_state, one, other))
    return bool(one == other)
