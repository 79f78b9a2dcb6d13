"""Reads pickles of arrays without running what else a pickle may ask for: nothing is imported or called by its name."""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunectl.workloads.data.damaged_file import DamagedFile

_ITEM_TYPES = frozenset({"u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f4", "f8"})


def read_arrays(content: bytes) -> dict[str, Any]:
    """The dict in a pickle, with text as its keys; of Python 2 or 3.

    Its values are arrays, bytes, text, numbers, and lists, tuples and dicts of them. Whatever else the pickle names is
    refused before it is looked up; arrays are made here from their bytes, and not by the functions that the pickle
    names for it. Raises DamagedFile.
    """
    try:
        found = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except DamagedFile:
        raise
    except Exception as error:  # a damaged pickle raises any exception
        raise DamagedFile(f"it is damaged or incomplete ({type(error).__name__}: {error})") from error
    if not isinstance(found, dict):
        raise DamagedFile(f"expected a dict, got a {type(found).__name__}")
    return {_text(key): value.array() if isinstance(value, _Array) else value for key, value in found.items()}


def _text(key: object) -> str:
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)


class _Unpickler(pickle.Unpickler):
    """Answers the few names that a pickled array has with functions of this module."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        match module_name, global_name:
            case ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct"):
                return _Function(_new_array)
            case ("numpy", "ndarray"):
                return None  # an argument of _reconstruct
            case ("numpy", "dtype"):
                return _Function(_ItemType)
            case ("_codecs", "encode"):
                return _Function(_encoded)
        raise DamagedFile(f"it asks for {module_name}.{global_name}, and nothing but arrays is read from a pickle")


class _Function:
    """What a pickle may call. It has no state that a pickle could change."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: object) -> None:
        raise DamagedFile("it changes a function, and nothing but arrays is read from a pickle")


class _ItemType:
    """A dtype in a pickle: its name such as u1, then, in its state, the order of its bytes."""

    __slots__ = ("order", "text")

    def __init__(self, text: object, *_flags: object) -> None:
        self.text = text.decode("latin-1") if isinstance(text, bytes) else str(text)
        self.order = "|"
        if self.text not in _ITEM_TYPES:
            raise DamagedFile(f"expected an array of numbers, got one of the type {self.text!r}")

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        self.order = order.decode("latin-1") if isinstance(order, bytes) else str(order)
        if self.order not in ("<", ">", "|", "="):
            raise DamagedFile(f"expected the order of an array's bytes, got {self.order!r}")


class _Array:
    """An array in a pickle: its shape, its type and its bytes."""

    __slots__ = ("content", "item_type", "shape")

    def __init__(self) -> None:
        self.shape: Any = ()
        self.item_type: Any = None
        self.content: Any = None

    def __setstate__(self, state: Any) -> None:
        _version, self.shape, self.item_type, in_columns, self.content = state
        if in_columns:
            raise DamagedFile("expected an array in rows, got one in columns (Fortran's order)")

    def array(self) -> NDArray[Any]:
        """The array, a copy; raises DamagedFile where its parts do not fit together."""
        if not isinstance(self.item_type, _ItemType) or not isinstance(self.content, bytes):
            raise DamagedFile("expected an array of numbers, got one without a type or its bytes")
        item_type = np.dtype(self.item_type.order + self.item_type.text)
        sizes = self.shape if isinstance(self.shape, tuple) else None
        if sizes is None or not all(type(size) is int and size >= 0 for size in sizes):
            raise DamagedFile(f"expected the shape of an array, got {self.shape!r}")
        if math.prod(sizes) * item_type.itemsize != len(self.content):
            raise DamagedFile(f"expected the bytes of an array of shape {list(sizes)}, got {len(self.content):,}")
        return np.frombuffer(self.content, item_type).reshape(sizes).copy()


def _new_array(*_arguments: object) -> _Array:
    return _Array()


def _encoded(text: object, encoding: object) -> bytes:
    # Python 3 writes bytes as text in this encoding, where the protocol is that of Python 2.
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise DamagedFile(f"expected bytes as latin1, got {encoding!r}")
    return text.encode("latin-1")
