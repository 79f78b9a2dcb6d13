"""The engines that start workers, by the names of their backends.

Each is a module with a function `make(order: WorkerOrder) -> WorkerEngine` (see worker_engine.py). It is imported when
it is used, and imports its library then: a library that is missing is a UsageError with the name of the extra.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import cast

from tunectl.execution.worker_engine import WorkerEngine, WorkerOrder

ENGINES: Mapping[str, str] = {
    "slurm": "tunectl.execution.engines.slurm",
    "ray": "tunectl.execution.engines.ray",
}


def make_engine(name: str, order: WorkerOrder) -> WorkerEngine:
    """The engine of the backend with this name; raises UsageError where its library is missing."""
    return cast("WorkerEngine", importlib.import_module(ENGINES[name]).make(order))
