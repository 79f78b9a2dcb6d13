"""Values from Python as a study file can hold them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from tunectl.core.errors import PathKey, UsageError, dotted


def plain(value: Any, path: PathKey = ()) -> Any:
    """The value as mappings with text keys, lists and scalars: tuples are lists, paths texts, NumPy's numbers Python's.

    Raises UsageError, with its place, for anything else: a set has no order, and a function no text.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, os.PathLike):
        return plain(os.fspath(value), path)
    if isinstance(value, Mapping):
        return {_key(key, path): plain(item, (*path, str(key))) for key, item in value.items()}
    if isinstance(value, list | tuple | range):
        return [plain(item, (*path, place)) for place, item in enumerate(value)]
    for base in (bool, int, float, str):  # an Enum of texts, a subclass
        if isinstance(value, base):
            return base.__str__(value) if base is str else base(value)
    listed = getattr(value, "tolist", None)  # of an array or a number of NumPy, a tensor
    if callable(listed):
        found = listed()
        if type(found) is not type(value):
            return plain(found, path)
    where = f"{dotted(path)}: " if path else ""
    advice = "; write it into a file, and name it as ./file.py:name" if callable(value) else ""
    raise UsageError(
        f"{where}expected a text, a number, true, false, a list or a dict, got a {type(value).__name__}{advice}"
    )


def _key(key: object, path: PathKey) -> str:
    if not isinstance(key, str):
        where = f"{dotted(path)}: " if path else ""
        raise UsageError(f"{where}expected a text as a key, got {key!r}")
    return str(key)
