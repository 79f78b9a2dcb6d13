"""Pausing Python's garbage collector, which checks all objects again and again while many are created."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def no_garbage_collected() -> Iterator[None]:
    """Pause the garbage collector while many small objects are created that form no reference cycles.

    Unused objects are still freed by their reference counts. Reading a million measurements takes a third of the time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
