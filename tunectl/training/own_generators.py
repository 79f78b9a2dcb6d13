"""The random generators that a user's objects have for themselves, such as a data set or a sampler: no seed of a trial
decides what they draw, so that reading an example once more than another process does makes all later ones others.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import random
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from tunectl.training.model_generators import GeneratorStates

_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
_MOST_ITEMS = 64
"""A longer list or mapping holds data."""

_MOST_OBJECTS = 10_000
_ITEMS: tuple[tuple[type, Callable[[Any], Iterator[Any]]], ...] = (
    (dict, lambda value: iter(dict.values(value))),
    (list, list.__iter__),
    (tuple, tuple.__iter__),
    (set, set.__iter__),
    (frozenset, frozenset.__iter__),
)
"""How the items of an object are read that is one of these, whatever its own class does when it is asked for them."""

_WITHOUT = (type, types.ModuleType, torch.Tensor, np.ndarray, str, bytes, int, float)
"""Objects of which only the values count, and modules, which hold all the rest of the program."""

_OF_CLASS = (types.FunctionType, *_GENERATORS)
_LIBRARIES = ("torch", "numpy", "builtins", "collections", "random")


def own_generators(*roots: Any) -> GeneratorStates:
    """The generators in these objects, and in what they hold: attributes, items, what functions have closed over, and
    the variables of a module that their code names. With their states as they are now.

    Nothing of the user's code is run: a mapping of a user, which may read files for each item, has its own attributes.
    """
    found: dict[int, Any] = {}
    seen: dict[int, Any] = {}  # the objects, too, so that no id is used again
    left = list(roots)
    while left and len(seen) < _MOST_OBJECTS:
        value = left.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if issubclass(type(value), _GENERATORS):
            found[id(value)] = value
            continue
        # An object may be changed by a thread meanwhile, or be unlike all that torch and numpy know.
        with contextlib.suppress(Exception):
            left.extend(_held(value))
    return GeneratorStates(found.values())


def _held(value: Any) -> Iterator[Any]:
    """What an object holds, as far as it may be or have a generator; see `_of_object` for its attributes.

    By its type, since an object may say that it is of another class.
    """
    kind = type(value)
    if issubclass(kind, types.MappingProxyType):
        yield from gc.get_referents(value)
    elif issubclass(kind, types.MethodType):
        yield from (value.__self__, value.__func__)
    elif issubclass(kind, functools.partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif issubclass(kind, types.FunctionType):
        yield from _of_function(value)
    elif not issubclass(kind, _WITHOUT):
        items = next((read(value) for own, read in _ITEMS if issubclass(kind, own)), ())
        yield from itertools.islice(items, _MOST_ITEMS)
        yield from _of_object(value)


def _of_object(value: Any) -> Iterator[Any]:
    """The attributes of an object, also those without a value of their own that its classes have."""
    for own in type(value).__mro__:
        for item in list(vars(own).values()):
            if type(item) is types.MemberDescriptorType:
                with contextlib.suppress(AttributeError):  # a slot that is not set
                    yield item.__get__(value)
            elif str(own.__module__).partition(".")[0] not in _LIBRARIES and issubclass(type(item), _OF_CLASS):
                yield item
    # Last, as it may be a property of the user's.
    with contextlib.suppress(AttributeError):
        yield from list(dict.values(object.__getattribute__(value, "__dict__")))


def _of_function(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not yet set
            continue
    yield from function.__defaults__ or ()
    for name in function.__code__.co_names:
        if issubclass(type(function.__globals__.get(name)), _OF_CLASS):
            yield function.__globals__[name]
