"""Which generators of a user's objects are found. Tests model_generators.py, too, with its other users' tests."""

from __future__ import annotations

import functools
import random
import types
from collections.abc import Callable, Iterator, Mapping
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


class Shouting(Mapping[str, Any]):
    """A mapping whose items cannot be read, as a folder of files of which some are damaged."""

    def __init__(self) -> None:
        self.generator = random.Random(4)

    def __getitem__(self, name: str) -> Any:
        raise AssertionError(f"{name} was read")

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("it was gone through")

    def __len__(self) -> int:
        raise AssertionError("it was counted")


class ShoutingDict(dict[str, Any]):
    def values(self) -> Any:
        raise AssertionError("it was read")


class ShoutingList(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("it was read")


class Awkward:
    """Raises wherever user code can; its generator is in a slot with a name of its own class."""

    __slots__ = ("__rng", "unset")
    __module__ = None  # type: ignore[assignment]

    def __init__(self) -> None:
        self.__rng = random.Random(5)

    def draw(self) -> float:
        return self.__rng.random()

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked for")

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise AssertionError("its class was asked for")

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise AssertionError("its attributes were asked for")


def _attribute(kind: Callable[[], Any]) -> tuple[Any, Callable[[], Any]]:
    made = kind()
    made.generator = random.Random(6)
    return made, made.generator.random


def _item(kind: Callable[[dict[str, Any]], Any]) -> tuple[Any, Callable[[], Any]]:
    generator = random.Random(7)
    return kind({"noise": generator}), generator.random


CASES: dict[str, Callable[[], tuple[Any, Callable[[], Any]]]] = {
    "what a function closed over": _closure,
    "attributes of attributes, in lists and dicts": _nested,
    "an argument": _partial,
    "the object of a method": _method,
    "a slot": lambda: _simple(Slotted),
    "an attribute of the class": lambda: _simple(OfClass),
    "an attribute of a mapping whose items cannot be read": lambda: _attribute(Shouting),
    "an attribute of a list": lambda: _attribute(ShoutingList),
    "an item of a dict whose class gives others": lambda: _item(ShoutingDict),
    "an item of a list whose class gives others": lambda: _item(lambda held: ShoutingList(held.values())),
    "an item of a dict that cannot be written": lambda: _item(types.MappingProxyType),
    "a slot of an object that raises whatever it is asked for": lambda: (lambda made: (made, made.draw))(Awkward()),
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


def test_objects_that_raise_and_generators_without_a_state_hide_no_others() -> None:
    generator = random.Random(8)
    kept = own_generators([Shouting(), ShoutingDict(), random.SystemRandom(), Awkward(), generator, Shouting()])
    generator.random()
    assert kept.have_drawn()
