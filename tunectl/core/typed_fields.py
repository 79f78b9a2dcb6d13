"""JSON from files as typed records, or a DamagedError that says what is wrong and where.

This is the only place where a JSON document from a file, no matter what wrote it, is checked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from tunectl.core import jsontext, record_checksums

MAY_HAVE_MORE = "MAY_HAVE_MORE"
"""The name of a class variable: true if a dataclass ignores unknown keys, which later versions may add."""

LEFT_OUT_IF_NONE = "left out if none"
"""The entry in a dataclass field's metadata for one whose key is left out where its value is None: a field that came
later, so that what does not have it is written as before.
"""
KEY = "key"
"""The name under which a dataclass field's metadata have its key in JSON, if that is not the field's name."""

_T = TypeVar("_T")
_LONGEST_SHOWN = 60


class DamagedError(ValueError):
    """A file does not have the expected content."""


def document(content: bytes) -> Any:
    """The value of a JSON document; raises DamagedError if it is not JSON, or has a key twice."""
    try:
        return json.loads(content, object_pairs_hook=_once)
    except RecursionError:
        raise DamagedError("it is nested too deeply") from None
    except DamagedError:
        raise
    except ValueError as error:
        raise DamagedError(f"it is not JSON ({error})") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise DamagedError(f"it has two values for {shown(twice)}")
    return found


def sealed_object(content: bytes) -> dict[str, Any]:
    """The JSON object in a file, without its checksum; raises DamagedError if it is not one, or was changed."""
    value = document(content)
    if not isinstance(value, dict):
        raise DamagedError(f"expected a JSON object, got {shown(value)}")
    seal = value.pop(record_checksums.SEAL, None)
    if (
        seal is not None
        and not record_checksums.is_intact_document(content, seal)
        and not record_checksums.is_same_record(value, seal)
    ):
        raise DamagedError("its content does not match its checksum")
    return value


def shown(value: Any) -> str:
    """A value as a message shows it: short and on one line."""
    if isinstance(value, dict):
        return "an object" if value else "an empty object"
    if isinstance(value, (list, tuple)):
        return "a list" if value else "an empty list"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**_LONGEST_SHOWN:
        return f"a number of more than {_LONGEST_SHOWN} digits"
    text = jsontext.encodable(json.dumps(value, ensure_ascii=True))
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def typed(kind: type[_T], value: Any, place: str = "") -> _T:
    """The value, checked against a type: plain types, Literals, unions, tuples, sequences, mappings, and dataclasses
    of these, whose fields are the keys of an object (see KEY).

    Raises DamagedError if it does not match, also for an object with a key that the dataclass does not have, unless its
    MAY_HAVE_MORE is true.
    """
    return cast("_T", _typed(kind, value, place))


def key_of(item: Field[Any]) -> str:
    """The key in JSON of a dataclass field."""
    return str(item.metadata.get(KEY, item.name))


def untyped(value: Any) -> Any:
    """A record as the JSON that `typed` reads: like `dataclasses.asdict`, but with the keys of the fields (see KEY)."""
    if is_dataclass(value):
        return {
            key_of(item): untyped(found)
            for item in fields(value)
            if (found := getattr(value, item.name)) is not None or LEFT_OUT_IF_NONE not in item.metadata
        }
    if isinstance(value, (list, tuple)):
        return [untyped(item) for item in value]
    if isinstance(value, Mapping):
        return {key: untyped(item) for key, item in value.items()}
    return value


def _typed(kind: Any, value: Any, place: str) -> Any:
    if kind is Any:
        return value
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return _one_of(get_args(kind), value, place)
    if origin is Literal:
        if value in get_args(kind) and isinstance(value, str):
            return value
        raise _unexpected(f"one of {', '.join(map(str, get_args(kind)))}", value, place)
    if origin is not None:
        return _container(kind, value, place)
    if is_dataclass(kind):
        return _record(cast("type", kind), value, place)
    return _plain(kind, value, place)


def _plain(kind: Any, value: Any, place: str) -> Any:
    if kind is float:
        number = jsontext.number(value)
        if number is None:
            raise _unexpected("a number", value, place)
        return value if type(value) in (int, float) else number
    if type(value) is not kind:
        words = {int: "a whole number", str: "text", bool: "true or false", NoneType: "null"}
        raise _unexpected(words[kind], value, place)
    return value


def _one_of(kinds: Sequence[Any], value: Any, place: str) -> Any:
    # Without a conversion first: the text "nan" is a number only if text is not allowed.
    if type(value) in kinds:
        return value
    first: DamagedError | None = None
    for kind in kinds:
        try:
            return _typed(kind, value, place)
        except DamagedError as error:
            first = first or error
    assert first is not None, "a union has members"
    raise first


def _container(kind: Any, value: Any, place: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise _unexpected("an object", value, place)
        return {key: _typed(inner[1], item, _within(place, key)) for key, item in value.items()}
    if not isinstance(value, (list, tuple)):
        raise _unexpected("a list", value, place)
    return tuple(_typed(inner[0], item, f"{place}[{number}]") for number, item in enumerate(value))


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


@cache
def _fields_by_key(kind: type) -> dict[str, Field[Any]]:
    return {key_of(item): item for item in fields(kind)}


def _record(kind: type, value: Any, place: str) -> Any:
    if not isinstance(value, dict):
        raise _unexpected("an object", value, place)
    hints, known = _hints(kind), _fields_by_key(kind)
    if getattr(kind, MAY_HAVE_MORE, False):
        value = {key: item for key, item in value.items() if key in known}
    for key in value:
        if key not in known:
            raise DamagedError(f"{_within(place, shown(key)[1:-1])}: is not a key that this version knows")
    for key, field in known.items():
        if key not in value and field.default is MISSING and field.default_factory is MISSING:
            raise DamagedError(f"{_within(place, key)}: is missing")
    names = {key: known[key].name for key in value}
    return kind(**{names[key]: _typed(hints[names[key]], item, _within(place, key)) for key, item in value.items()})


def _within(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _unexpected(what: str, value: Any, place: str) -> DamagedError:
    where = f"{place}: " if place else ""
    return DamagedError(f"{where}expected {what}, got {shown(value)}")


def text_at(value: Any, *keys: str) -> str:
    """The text at a place in nested objects; "" if there is none, or something else."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def is_count(value: object, least: int = 0) -> bool:
    """Whether a value is a whole number of at least `least` that fits in 64 bits."""
    return type(value) is int and least <= value < 2**63


def is_finite(value: object) -> bool:
    """Whether a value is a number that is neither NaN nor infinite."""
    number = None if isinstance(value, str) else jsontext.number(value)
    return number is not None and math.isfinite(number)
