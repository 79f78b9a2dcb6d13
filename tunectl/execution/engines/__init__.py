"""The engines that start workers, by the names of their backends.

Each is a module with five functions: `make(order: WorkerOrder) -> WorkerEngine` (see worker_engine.py),
`check(resources)`, `reach(resources)`, `can_be_left(resources)` and `time_limit(resources)`. It is imported when it is
used, and imports its library then: a library that is missing is a UsageError with the name of the extra.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from tunectl.execution.worker_engine import WorkerEngine, WorkerOrder

if TYPE_CHECKING:
    # A backend is started before the modules that read a study are imported.
    from tunectl.language.study_spec import ResourcesSection

ENGINES: Mapping[str, str] = {
    "slurm": "tunectl.execution.engines.slurm",
    "ray": "tunectl.execution.engines.ray",
}


def make_engine(name: str, order: WorkerOrder) -> WorkerEngine:
    """The engine of the backend with this name; raises UsageError where its library is missing."""
    return cast("WorkerEngine", importlib.import_module(ENGINES[name]).make(order))


def check_engine(name: str, resources: ResourcesSection) -> None:
    """Raise UsageError where the engine's library, or its program, is not on this host; connects to nothing."""
    importlib.import_module(ENGINES[name]).check(resources)


def reach_engine(name: str, resources: ResourcesSection) -> None:
    """Raise TunectlError where the engine does not answer this host; it is asked nothing about a study."""
    importlib.import_module(ENGINES[name]).reach(resources)


def can_be_left(name: str, resources: ResourcesSection) -> bool:
    """Whether the engine's workers go on when the command has ended; see WorkerEngine."""
    return cast("bool", importlib.import_module(ENGINES[name]).can_be_left(resources))


def time_limit(name: str, resources: ResourcesSection) -> str:
    """In words, what the time limit of a worker's job is and by which key it is set; "" where jobs have none."""
    return cast("str", importlib.import_module(ENGINES[name]).time_limit(resources))
