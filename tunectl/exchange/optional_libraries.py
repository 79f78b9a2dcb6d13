"""The libraries of other tools, which are imported only where an export or import needs them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping

from tunectl.core.errors import UsageError
from tunectl.core.installation import install_command


@contextlib.contextmanager
def needed(library: str) -> Iterator[None]:
    """A block that imports a library; raises UsageError that says how to install it where that fails."""
    try:
        yield
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == library
        what = "is not installed" if absent else f"cannot be imported ({error})"
        raise UsageError(f"{library} {what}; {install_command(library)}") from error


def in_one_line(error: Exception) -> str:
    """The first line of a library's error: the others are SQL statements, for developers of the library."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__).strip()


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables that are set in the block alone, unless the user set them."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
