"""Which generators of a user's objects are found. Tests model_generators.py, too, with its other users' tests."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tunectl.training.own_generators import own_generators

OF_MODULE = np.random.default_rng(1)


class Holder:
    def __init__(self, **held: Any) -> None:
        self.__dict__.update(held)


class Slotted:
    __slots__ = ("generator",)

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(1)

    def draw(self) -> float:
        return float(torch.rand(1, generator=self.generator))


class OfClass:
    shared = np.random.RandomState(1)

    def draw(self) -> float:
        return float(self.shared.normal())


def _helper() -> float:
    return float(OF_MODULE.normal())


class OfModule:
    def draw(self) -> float:
        return _helper()


def _closure() -> tuple[Any, Callable[[], Any]]:
    generator = random.Random(1)

    def draw(*_: Any) -> float:
        return generator.random()

    return draw, draw


def _nested() -> tuple[Any, Callable[[], Any]]:
    generator = np.random.default_rng(2)
    inner = Holder(transforms=[Holder(options={"noise": generator})])
    vars(inner)["itself"] = inner
    return Holder(dataset=Holder(dataset=inner), data=np.zeros(5)), generator.normal


def _partial() -> tuple[Any, Callable[[], Any]]:
    generator = np.random.default_rng(3)
    return functools.partial(lambda rng, place: rng.normal(), generator), generator.normal


def _method() -> tuple[Any, Callable[[], Any]]:
    slotted = Slotted()
    return slotted.draw, slotted.draw


def _simple(kind: type[Any]) -> tuple[Any, Callable[[], Any]]:
    made = kind()
    return made, made.draw


CASES: dict[str, Callable[[], tuple[Any, Callable[[], Any]]]] = {
    "what a function closed over": _closure,
    "attributes of attributes, in lists and dicts": _nested,
    "an argument": _partial,
    "the object of a method": _method,
    "a slot": lambda: _simple(Slotted),
    "an attribute of the class": lambda: _simple(OfClass),
    "a variable of the module that a function of it uses": lambda: _simple(OfModule),
}


@pytest.mark.parametrize("name", CASES)
def test_the_generators_of_an_object_are_found_and_put_back(name: str) -> None:
    held, draw = CASES[name]()
    kept = own_generators(None, held, 3)
    assert not kept.have_drawn()
    first = draw()
    assert kept.have_drawn()
    kept.put_back()
    assert not kept.have_drawn()
    assert draw() == first


def test_data_and_objects_of_any_kind_are_left_alone() -> None:
    kept = own_generators(torch.zeros(3), "text", [1, 2], {"a": None}, np.zeros(2), object, random, Holder(x=Holder()))
    assert not kept.have_drawn()
    kept.put_back()
