"""What a checkpoint may hold, and what is refused when it is saved."""

from __future__ import annotations

import argparse
import datetime
import enum
import io
import random
import re
import types
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tunectl.training import saved_state
from tunectl.training.saved_state import UnsavableError, check, read, write

Pair = namedtuple("Pair", "a b")


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


@dataclass
class Settings:
    width: int


class Marked(torch.Tensor):
    """A tensor subclass of a user's."""


class Config(dict[str, Any]):
    """As several libraries have one."""


def read_back(value: Any) -> Any:
    file = io.BytesIO()
    write({"part": value}, file)
    file.seek(0)
    return read(file)["part"]


def cyclic() -> dict[str, Any]:
    made: dict[str, Any] = {"a": [1]}
    made["a"].append(made)
    return made


LOADABLE: list[Any] = [
    *(np.dtype(kind).type(1) for kind in "?bBhHiIlLefdgFDG"),
    np.str_("text"),
    np.bytes_(b"bytes"),
    np.datetime64("2026-11-27"),
    np.timedelta64(3, "s"),
    *(np.ones((2, 3), kind) for kind in "?bhlfdFge"),
    np.zeros((0, 4)),
    np.array(3.5),
    np.array([None, 1, "x"], object),
    np.zeros(2, [("a", "i4"), ("b", "f8")]),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.dtype("f4"),
    np.random.RandomState(3).get_state(),
    np.random.default_rng(3).bit_generator.state,
    random.Random(3).getstate(),
    torch.Generator().get_state(),
    argparse.Namespace(lr=0.1, nested=argparse.Namespace(best=np.float64(2.0))),
    types.SimpleNamespace(a=1),
    Path("/some/where"),
    PurePosixPath("some"),
    datetime.datetime(2026, 11, 27, 3, 15, tzinfo=datetime.UTC),
    datetime.date(2026, 11, 27),
    datetime.time(3, 15),
    datetime.timedelta(hours=-5),
    defaultdict(list, {"a": [1, np.int64(2)]}),
    defaultdict(int),
    defaultdict(None, {1: 2}),
    deque([1, "a"], maxlen=4),
    OrderedDict(a=1, b=[2]),
    Counter("abca"),
    {1, 2},
    frozenset({1}),
    range(3),
    Decimal("0.1"),
    Fraction(1, 3),
    {np.int64(3): "numbers of NumPy as keys", (1, 2): 3, None: 4},
    [0, -(2**1999), 2**1999, 1.5, float("inf"), 1j, True, None, "", "text", b"", b"bytes", bytearray(b"x")],
    torch.float32,
    torch.device("cpu"),
    torch.Size([2]),
    [],
    {},
    (),
]


@pytest.mark.parametrize("value", LOADABLE, ids=lambda value: type(value).__name__)
def test_what_is_accepted_comes_back_as_it_was(value: Any) -> None:
    nested = {"a": [value, (1, {"b": value})]}
    check({"part": nested})
    back = read_back(nested)
    for found in (back["a"][0], back["a"][1][1]["b"]):
        assert type(found) is type(value)
        assert repr(found) == repr(value)
        assert getattr(found, "maxlen", None) == getattr(value, "maxlen", None)
        assert getattr(found, "default_factory", None) == getattr(value, "default_factory", None)
    assert back["a"][0] is back["a"][1][1]["b"] or type(value) in (int, tuple, str), "what was one object is one again"


@pytest.mark.parametrize(
    "tensor",
    [torch.arange(3), torch.ones(2, 3).T, nn.Parameter(torch.ones(2)), torch.zeros(0), torch.ones(2).bfloat16()],
)
def test_tensors_come_back_as_they_were(tensor: torch.Tensor) -> None:
    check({"part": tensor})
    back = read_back(tensor)
    assert type(back) is type(tensor)
    assert torch.equal(back, tensor)


def test_what_contains_itself_and_a_sparse_tensor_come_back() -> None:
    check({"part": cyclic()})
    back = read_back(cyclic())
    assert back["a"][1] is back
    sparse = torch.eye(3).to_sparse()
    check({"part": {"sparse": sparse}})
    assert torch.equal(read_back(sparse).to_dense(), torch.eye(3))


REFUSED: list[tuple[Callable[[], Any], str, str]] = [
    (lambda: {"a": [0, {"b": Colour.RED}]}, "state['a'][1]['b'] is of type test_saved_state.Colour", "its .value"),
    (lambda: {"level": Level.LOW}, "state['level'] is of type test_saved_state.Level", "its .value"),
    (lambda: {"best": Settings(3)}, "state['best'] is of type test_saved_state.Settings", "dataclasses.asdict(it)"),
    (lambda: (1, Pair(1, 2)), "state[1] is of type test_saved_state.Pair", "tuple(it)"),
    (lambda: {"w": torch.ones(2).as_subclass(Marked)}, "state['w'] is of type test_saved_state.Marked", "as_subclass"),
    (lambda: {"c": Config(a=1)}, "state['c'] is of type test_saved_state.Config", "dict(it)"),
    (lambda: {"c": Config(a=Colour.RED)}, "state['c']['a'] is of type test_saved_state.Colour", ".value"),
    (lambda: {"net": nn.Linear(1, 1)}, "state['net'] is of type torch.nn.modules.linear.Linear", "its state_dict()"),
    (lambda: {"rng": np.random.default_rng(0)}, "state['rng'] is of type numpy.random", "its bit_generator.state"),
    (lambda: {"rng": random.Random(0)}, "state['rng'] is of type random.Random", "its getstate()"),
    (lambda: {"rng": torch.Generator()}, "state['rng'] is of type torch._C.Generator", "its get_state()"),
    (lambda: [2**2050], "state[0] is of type int", "of at most 2,000 bits"),
    (lambda: [lambda: 0], "state[0] is of type function", "tensors, numbers"),
    (lambda: {"d": defaultdict(lambda: 0)}, "state['d'] is of type collections.defaultdict", "dict(it)"),
    (lambda: {"d": deque([1, Colour.RED])}, "state['d'][1] is of type test_saved_state.Colour", ".value"),
    (lambda: {"n": argparse.Namespace(a={1: Colour})}, "state['n'].a[1] is of type enum.EnumType", "tensors"),
    (lambda: {"o": np.array([Colour.RED], object)}, "state['o'][0] is of type test_saved_state.Colour", ".value"),
    (lambda: {"m": np.ma.ones(2)}, "state['m'] is of type numpy.ma", "numpy.asarray(it)"),
    (lambda: {Colour.RED: 1}, "state's key <Colour.RED: 1> is of type test_saved_state.Colour", ".value"),
]


@pytest.mark.parametrize(("made", "where", "right"), REFUSED, ids=[where for _, where, _ in REFUSED])
def test_what_could_not_be_read_back_is_refused_by_its_key_and_type(
    made: Callable[[], Any], where: str, right: str
) -> None:
    with pytest.raises(UnsavableError) as caught:
        check({"sound": {"x": np.float64(1.0)}, "state": made()})
    said = str(caught.value)
    assert said.startswith(f"a checkpoint cannot be saved: {where}")
    assert right in said.partition(";")[2]


def test_what_the_user_s_own_code_allows_is_read_back_and_stays_allowed() -> None:
    torch.serialization.add_safe_globals([Settings, np.dtype])
    try:
        check({"state": [Settings(3), np.dtype("f4")]})
        assert read_back(Settings(3)) == Settings(3)
        assert {Settings, np.dtype} <= {*torch.serialization.get_safe_globals()}
    finally:
        torch.serialization.clear_safe_globals()


def test_nothing_is_allowed_outside_of_reading() -> None:
    before = torch.serialization.get_safe_globals()
    read_back(np.float64(1.0))
    assert torch.serialization.get_safe_globals() == before


def test_a_long_history_and_a_large_array_are_not_written_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saving must not take twice as long for being sure."""
    written: list[Any] = []

    def noting(content: Any, file: Any) -> None:
        written.append(content)
        write(content, file)

    monkeypatch.setattr(saved_state, "write", noting)
    check({"history": [np.float64(1.0)] * 10_000, "losses": [1.5] * 100_000, "steps": list(range(100_000))})
    check({"memory": [(np.zeros(4, "f4"), 1, np.float64(1.0)) for _ in range(1_000)], "large": np.zeros(10**6)})
    check({"recent": deque(((np.zeros(4), False) for _ in range(1_000)), maxlen=1_000)})
    assert written == []
    check({"names": np.full(10**6, "a")})
    assert [array.size for [array] in written] == [0]


def inside_itself(holder: Any) -> Any:
    holder.me, holder.rate = holder, lambda: 0
    return holder


def deque_in_itself() -> deque[Any]:
    made: deque[Any] = deque()
    made.append(made)
    return made


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (inside_itself(types.SimpleNamespace()), "state.rate is of type function"),
        (inside_itself(argparse.Namespace()), "state.rate is of type function"),
        (deque_in_itself(), "state[0] is of type collections.deque"),
    ],
)
def test_what_contains_itself_and_cannot_be_read_back_is_refused_by_its_key(value: Any, where: str) -> None:
    with pytest.raises(UnsavableError, match=rf"^a checkpoint cannot be saved: {re.escape(where)}"):
        check({"state": value})
