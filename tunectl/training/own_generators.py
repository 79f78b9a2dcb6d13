"""The random generators that a user's objects have for themselves, such as a data set or a sampler: no seed of a trial
decides what they draw, so that reading an example once more than another process does makes all later ones others.
"""

from __future__ import annotations

import functools
import random
import types
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from tunectl.training.model_generators import GeneratorStates

_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
_MOST_ITEMS = 64
"""A longer list or mapping holds data."""

_MOST_OBJECTS = 10_000
_LIBRARIES = ("torch", "numpy", "builtins", "collections", "random")


def own_generators(*roots: Any) -> GeneratorStates:
    """The generators in these objects, and in what they hold: attributes, items, what functions have closed over, and
    the variables of a module that their code names. With their states as they are now.
    """
    found: dict[int, Any] = {}
    seen: dict[int, Any] = {}  # the objects, too, so that no id is used again
    left = list(roots)
    while left and len(seen) < _MOST_OBJECTS:
        value = left.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, _GENERATORS):
            found[id(value)] = value
        else:
            left += _held(value)
    return GeneratorStates(found.values())


def _held(value: Any) -> Iterator[Any]:
    """What an object holds, as far as it may be or have a generator."""
    if isinstance(value, Mapping):
        yield from list(value.values())[:_MOST_ITEMS]
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from list(value)[:_MOST_ITEMS]
    elif isinstance(value, types.MethodType):
        yield from (value.__self__, value.__func__)
    elif isinstance(value, functools.partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, types.FunctionType):
        yield from _of_function(value)
    elif not isinstance(value, (type, types.ModuleType, torch.Tensor, np.ndarray, str, bytes, int, float)):
        yield from vars(value).values() if hasattr(value, "__dict__") else ()
        for own in type(value).__mro__:
            slots = own.__dict__.get("__slots__", ())
            yield from (getattr(value, name, None) for name in ([slots] if isinstance(slots, str) else slots))
            if own.__module__.partition(".")[0] not in _LIBRARIES:
                yield from (item for item in vars(own).values() if isinstance(item, (types.FunctionType, *_GENERATORS)))


def _of_function(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not yet set
            continue
    yield from function.__defaults__ or ()
    for name in function.__code__.co_names:
        if isinstance(function.__globals__.get(name), (*_GENERATORS, types.FunctionType)):
            yield function.__globals__[name]
