"""The values that a checkpoint may contain: those that can be read back without running code from the file.

torch reads tensors, numbers, texts, dicts, lists, tuples and sets in this way. More types that only hold values are
allowed here: NumPy's scalars and arrays, dates, paths, namespaces, deques. Any other value is an error when it is
saved, with its key; otherwise it would be found only when a trial goes on from the file.

This module is also the `pickle_module` of torch.save, which uses its `Pickler`.
"""

from __future__ import annotations

import argparse
import datetime
import enum
import io
import pickle
import re
import sys
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import is_dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path, PosixPath, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.serialization import get_safe_globals, get_unsafe_globals_in_checkpoint, safe_globals

from tunectl.core.errors import WorkloadError

_NUMPY_TYPES = frozenset(np.dtype(code).type for code in np.typecodes["All"]) - {np.object_, np.void}
_PLAIN = frozenset({type(None), bool, float, complex, str, bytes, *_NUMPY_TYPES})
"""Types whose values can always be read back."""

_NUMBER_KINDS = "biufc"
_TENSORS = (torch.Tensor, nn.Parameter)
_CONTAINERS = (dict, OrderedDict, list, tuple, deque)
_LARGEST_INT = 2**2000  # torch's reader accepts whole numbers of at most 255 bytes
_RIGHT = "tensors, numbers, texts, NumPy arrays, dates and paths, in dicts, lists, tuples and sets"
_REFUSED = re.compile(r"GLOBAL (\S+) was not an allowed global")


class UnsavableError(WorkloadError):
    """A value that could not be read back was to be saved."""


class Pickler(pickle.Pickler):
    """Writes deques and defaultdicts as arguments: torch's reader can append only to lists, and set items only of
    dicts.
    """

    def reducer_override(self, value: Any) -> Any:
        """The call that makes a value again."""
        if type(value) is deque:
            return deque, (list(value), value.maxlen)
        if type(value) is defaultdict:
            return defaultdict, (value.default_factory, dict(value))
        return NotImplemented


@cache
def _allowed() -> tuple[Any, ...]:
    """The functions and types that may make values when a file is read, in addition to torch's."""
    numpy_makers = (np.float64(0).__reduce__()[0], np.zeros(0).__reduce__()[0], np.ndarray, np.dtype)
    numpy_dtypes = {type(np.dtype(code)) for code in np.typecodes["All"]}
    dates = (datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone)
    holders = (argparse.Namespace, types.SimpleNamespace, defaultdict, deque, frozenset, range)
    factories = (list, dict, int, float, str, bool, tuple, bytes)  # of a defaultdict; bytes also of what is empty
    return (*numpy_makers, *numpy_dtypes, *dates, *holders, *factories, PosixPath, PurePosixPath, Decimal, Fraction)


def write(content: Any, file: Any) -> None:
    """Write `content` as torch's archive to an open file."""
    torch.save(content, file, pickle_module=sys.modules[__name__])


def _allowing() -> AbstractContextManager[None]:
    """Within the block torch also reads what is allowed here; what the user's code has allowed stays so."""
    return safe_globals([maker for maker in _allowed() if maker not in get_safe_globals()])


def read(file: Any) -> Any:
    """The content of an archive, on the CPU, without running code from the file; raises what torch.load raises."""
    with _allowing():
        return torch.load(file, map_location="cpu", weights_only=True)


def unknown_types(path: Path, error: Exception) -> str:
    """The types for which a whole file cannot be read, where torch names them; else the type of the error."""
    try:
        with _allowing():
            names = sorted(get_unsafe_globals_in_checkpoint(path))
    except Exception:  # a file in torch's old format
        names = _REFUSED.findall(str(error))
    return ", ".join(names) or f"a value that raises {type(error).__name__}"


def check(parts: Mapping[str, Any]) -> None:
    """Raise UnsavableError, with the key and the type, where a part could not be read back.

    A value of a type that is not known here is written and read back to find out.
    """
    doubtful = [item for name, part in parts.items() for item in _doubtful(part, name, set())]
    if not doubtful or _why_not([_small(item.value) for item in doubtful]) is None:
        return
    for item in doubtful:
        found = _fault(item, frozenset())
        if found is not None:
            raise UnsavableError(f"a checkpoint cannot be saved: {found}")


class _Item(NamedTuple):
    path: str
    value: Any


def _is_plain(value: Any) -> bool:
    value_type = type(value)
    return value_type in _PLAIN or (value_type is int and -_LARGEST_INT < value < _LARGEST_INT)


def _is_plain_array(value: Any) -> bool:
    return type(value) is np.ndarray and value.dtype.kind in _NUMBER_KINDS


def _are_plain(values: Collection[Any]) -> bool:
    """Whether all values are known to be plain; a fast check for long lists."""
    value_types = {*map(type, values)}
    return value_types <= _PLAIN or (
        value_types == {int} and min(values) > -_LARGEST_INT and max(values) < _LARGEST_INT
    )


def _doubtful(value: Any, path: str, seen: set[int]) -> Iterator[_Item]:
    """The parts of a nested value that are not known to be read back."""
    if _is_plain(value) or _is_plain_tensor(value) or _is_plain_array(value):
        return
    if type(value) not in _CONTAINERS or (type(value) is deque and id(value) in seen):
        yield _Item(path, value)  # a deque that contains itself cannot be written
        return
    if id(value) in seen:  # also a value that contains itself
        return
    seen.add(id(value))
    if isinstance(value, (list, tuple, deque)) and _are_plain(value):
        return
    for name, child in _children(value):
        if not _is_plain(child):
            yield from _doubtful(child, f"{path}{name}", seen)


def _is_plain_tensor(value: Any) -> bool:
    return type(value) in _TENSORS and value.layout is torch.strided and not value.is_quantized and not vars(value)


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    """The values in a container, each with its path from the container."""
    if isinstance(value, Mapping):
        yield from ((f"'s key {key!r}", key) for key in value if not _is_plain(key))
        yield from ((f"[{key!r}]", child) for key, child in value.items())
    elif isinstance(value, (list, tuple, deque)) or (type(value) is np.ndarray and value.dtype.hasobject):
        yield from ((f"[{index}]", child) for index, child in enumerate(value))
    elif isinstance(value, (set, frozenset)):
        yield from (("'s member", child) for child in value)
    if isinstance(value, (argparse.Namespace, types.SimpleNamespace, OrderedDict)):
        yield from ((f".{name}", child) for name, child in vars(value).items())


def _small(value: Any) -> Any:
    """The same value, an array without its numbers, which can always be read back."""
    is_array = type(value) is np.ndarray and value.ndim > 0 and not value.dtype.hasobject
    return value[:0] if is_array else value


def _why_not(value: Any) -> str | None:
    """Why a value could not be read back; None where it could."""
    file = io.BytesIO()
    try:
        write(value, file)
        file.seek(0)
        back = read(file)
    except RecursionError:
        return "it is nested too deeply"
    except Exception as error:  # a class's own methods may raise anything
        return type(error).__name__
    return None if type(back) is type(value) else f"it would come back as {type(back).__name__}"


def _fault(item: _Item, around: frozenset[int]) -> str | None:
    """What is wrong with a value, by the innermost key at fault; None where it can be read back.

    `around`: the ids of the containers that it is in, which may be itself.
    """
    if _why_not(_small(item.value)) is None:
        return None
    around |= {id(item.value)}
    for name, child in _inner(item.value):
        is_sound = id(child) in around or _is_plain(child) or _is_plain_tensor(child)
        found = None if is_sound else _fault(_Item(f"{item.path}{name}", child), around)
        if found is not None:
            return found
    value_type = type(item.value)
    name = (
        value_type.__qualname__
        if value_type.__module__ == "builtins"
        else f"{value_type.__module__}.{value_type.__qualname__}"
    )
    return f"{item.path} is of type {name}, which a trial could not read back; {_remedy(item.value)}"


def _inner(value: Any) -> Iterable[tuple[str, Any]]:
    try:
        return list(_children(value))
    except Exception:  # a class of the user's, whose methods may raise anything
        return []


def _remedy(value: Any) -> str:
    """What to save in its place."""
    if isinstance(value, torch.Tensor):
        return "save a plain tensor: it.as_subclass(torch.Tensor), or its parts"
    if isinstance(value, enum.Enum):
        return "save its .value"
    if is_dataclass(value) and not isinstance(value, type):
        return "save dataclasses.asdict(it)"
    for name in ("state_dict", "get_state", "getstate"):
        if callable(getattr(value, name, None)) and not isinstance(value, type):
            return f"save its {name}()"
    if hasattr(value, "bit_generator"):
        return "save its bit_generator.state"
    if isinstance(value, Mapping):
        return "save dict(it)"
    if isinstance(value, tuple):
        return "save tuple(it)"
    if isinstance(value, (np.ndarray, np.generic)):
        return "save numpy.asarray(it) of numbers or texts"
    if isinstance(value, (int, float, str, bytes)):
        return f"save a plain number (whole ones of at most {_LARGEST_INT.bit_length() - 1:,} bits) or text"
    return f"save {_RIGHT}"
