from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pytest

from tunectl.core.typed_fields import KEY, DamagedError, document, typed, untyped


@dataclass(frozen=True)
class Part:
    name: str
    numbers: tuple[float, ...] = ()


@dataclass(frozen=True)
class Whole:
    step: int
    how: Literal["a", "b"]
    parts: Mapping[str, Part]
    value: bool | int | float | str
    rest: Part | None = None


@dataclass(frozen=True)
class Growing:
    MAY_HAVE_MORE: ClassVar[bool] = True
    step: int


@dataclass(frozen=True)
class Keyed:
    part_kind: str = field(metadata={KEY: "kind"})
    parts: tuple[Part, ...] = ()


SOUND: dict[str, Any] = {"step": 3, "how": "a", "parts": {"x": {"name": "n", "numbers": [1, 2.5]}}, "value": "nan"}


def test_a_valid_object_becomes_the_record_that_it_describes() -> None:
    assert typed(Whole, SOUND) == Whole(3, "a", {"x": Part("n", (1, 2.5))}, "nan")


@pytest.mark.parametrize("value", [True, 7, 0.5, "nan", "text"])
def test_a_value_of_several_types_stays_what_it_is(value: object) -> None:
    read = typed(Whole, {**SOUND, "value": value}).value
    assert (type(read), read) == (type(value), value)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("step", "3", 'step: expected a whole number, got "3"'),
        ("step", True, "step: expected a whole number, got true"),
        ("step", 3.0, "step: expected a whole number, got 3.0"),
        ("how", "c", 'how: expected one of a, b, got "c"'),
        ("how", ["a"], "how: expected one of a, b, got a list"),
        ("parts", [], "parts: expected an object, got an empty list"),
        ("parts", {"x": {}}, "parts.x.name: is missing"),
        ("parts", {"x": {"name": "n", "numbers": [1, None]}}, r"parts.x.numbers\[1\]: expected a number, got null"),
        ("rest", {"name": "n", "more": 1}, "rest.more: is not a key that this version knows"),
        ("value", {}, "value: expected .*, got an empty object"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(key: str, value: object, said: str) -> None:
    with pytest.raises(DamagedError, match=said):
        typed(Whole, {**SOUND, key: value})


def test_keys_of_later_versions_are_ignored_if_the_record_allows_it() -> None:
    assert typed(Growing, {"step": 1, "MAY_HAVE_MORE": 0, "more": []}) == Growing(1)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b"\xff\xfe", "not JSON"),
        (b"", "not JSON"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "not JSON"),
        (b'{"a": 1, "b": {"c": 2, "c": 3}}', 'two values for "c"'),
    ],
)
def test_a_text_that_is_not_json_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(DamagedError, match=said):
        document(content)


def test_a_field_may_have_a_key_that_is_not_its_name() -> None:
    content = {"kind": "a", "parts": [{"name": "n", "numbers": [1, 2.5]}]}
    read = typed(Keyed, content)
    assert read == Keyed("a", (Part("n", (1, 2.5)),))
    assert untyped(read) == content
    for wrong, said in (
        ({"part_kind": "a", **content}, "part_kind: is not a key that this version knows"),
        ({}, "kind: is missing"),
        ({"kind": 3}, "kind: expected text, got 3"),
    ):
        with pytest.raises(DamagedError, match=f"^{said}"):
            typed(Keyed, wrong)
