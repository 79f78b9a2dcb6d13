"""The backends, by the names that `resources.backend` gives them.

To add one: write its module, a class that is a Backend (see backend.py), add it to BACKENDS, and add it to CASES in
tests/contracts/cases.py. Where workers train, an engine (execution/worker_engine.py) is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunectl.execution.backends.backend import Backend


def _local() -> Backend:
    from tunectl.execution.backends.local import LocalBackend

    return LocalBackend()


def _offering(name: str) -> Backend:
    from tunectl.execution.backends.offering import OfferingBackend

    return OfferingBackend(name)


DEFAULT = "local"

BACKENDS: Mapping[str, Callable[[], Backend]] = {
    "local": _local,
    "external": partial(_offering, "external"),
    "slurm": partial(_offering, "slurm"),
    "ray": partial(_offering, "ray"),
}
"""What makes each backend. A backend's module is imported when it is made: importing all would slow every start."""
