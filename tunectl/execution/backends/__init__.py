"""The backends, by the names that `resources.backend` gives them.

To add one: write its module, a class that is a Backend (see backend.py), add it to BACKENDS, and add it to
tests/contracts/test_backends.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunectl.execution.backends.backend import Backend


def _local() -> Backend:
    from tunectl.execution.backends.local import LocalBackend

    return LocalBackend()


DEFAULT = "local"

BACKENDS: Mapping[str, Callable[[], Backend]] = {"local": _local}
"""What makes each backend. A backend's module is imported when it is made: importing all would slow every start."""
