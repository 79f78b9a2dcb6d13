"""Small records as JSON files with a checksum, each written whole and read as a typed record."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from tunectl.core import jsontext, record_checksums, regular_files, typed_fields
from tunectl.core.files import write_bytes

_T = TypeVar("_T")
_LARGEST_BYTES = 2**24


def write_record(path: Path, record: Any, *, within: Path, durable: bool = False) -> None:
    """Write a dataclass atomically; raises OSError. `durable`: it is still there after a power cut."""
    content = record_checksums.sealed(jsontext.encode(typed_fields.untyped(record)), errors="backslashreplace")
    write_bytes(path, content + b"\n", durable=durable, within=within)


def read_record(kind: type[_T], path: Path, *, within: Path) -> _T | None:
    """Read a record; None where there is none. Raises DamagedError where it is torn or of another form, and OSError."""
    try:
        content = regular_files.content(path, largest=_LARGEST_BYTES, within=within)
    except FileNotFoundError:
        return None
    return typed_fields.typed(kind, typed_fields.sealed_object(content))
