"""Starts the backend before anything else is imported: it loads its libraries while the study is read.

So it imports little itself: the rest of `session` takes longer to import than the process takes to start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tunectl.core import regular_files
from tunectl.core.errors import StudyError, UsageError
from tunectl.core.wording import nearest
from tunectl.execution.backends import BACKENDS, DEFAULT
from tunectl.execution.backends.backend import Backend

NOTHING_TO_DETACH = (
    "--detach: expected trials that workers train, got those of backend local, which end with this command; add "
    "--backend external (or slurm, ray)"
)

_MAPPING = re.compile(r"^workload:[ \t]*(\{|#|$)", re.MULTILINE)


@contextmanager
def started_backend(study: Path, name: str | None = None, *, detach: bool = False) -> Iterator[Backend]:
    """The backend of a study file, or the one with this name, which has begun to load what the study's trials need.

    It is closed at the end of the block, and with it every trial on this machine. A file that is wrong gets the local
    backend: the command finds the error when it reads the study. Raises UsageError for a name that no backend has, and
    where there is nothing to `detach`.
    """
    if name is not None and name not in BACKENDS:
        raise UsageError(f"--backend: expected {', '.join(BACKENDS)}, got {name}{nearest(name, BACKENDS)}")
    text = ""
    with suppress(OSError, ValueError):
        text = regular_files.text(study, errors="replace")
    if detach and (name == DEFAULT or (name is None and text and "backend" not in text)):
        raise UsageError(NOTHING_TO_DETACH)  # before anything is loaded
    backend = BACKENDS[name or (_backend_name(study) if "backend" in text else DEFAULT)]()
    try:
        # Whether the workload is a mapping is a guess from the text, before YAML is imported; a wrong one costs time.
        backend.start(own_code=bool(_MAPPING.search(text)))
        yield backend
    finally:
        backend.close()


def _backend_name(study: Path) -> str:
    """The name under `resources: backend:`; that of the default backend where none is there, or an unknown one."""
    from tunectl.language.document import read_document

    with suppress(StudyError):
        content = read_document(study).content
        resources = content.get("resources") if isinstance(content, dict) else None
        name = resources.get("backend") if isinstance(resources, dict) else None
        if isinstance(name, str) and name in BACKENDS:
            return name
    return DEFAULT
