"""What starts before anything else is imported: the backend loads its libraries while the study is read.

This module stays light for that; the rest of `study` takes longer to import than the process takes to start.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tunectl.execution.backends import BACKENDS, Backend


@contextmanager
def started_backend() -> Iterator[Backend]:
    """A backend that has begun to load what trials need; ended with the block, and every trial with it."""
    backend = BACKENDS["local"]()
    try:
        backend.start()
        yield backend
    finally:
        backend.close()
