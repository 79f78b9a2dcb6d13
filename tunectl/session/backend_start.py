"""What starts before anything else is imported: the backend loads its libraries while the study is read.

This module stays light for that; the rest of `study` takes longer to import than the process takes to start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tunectl.core import regular_files
from tunectl.execution.backends import BACKENDS, Backend

_MAPPING = re.compile(r"^workload:[ \t]*(\{|#|$)", re.MULTILINE)


@contextmanager
def started_backend(study: Path | None = None) -> Iterator[Backend]:
    """A backend that has begun to load what the trials of a study need; ended with the block, and every trial with
    it.
    """
    backend = BACKENDS["local"]()
    try:
        backend.start(own_code=study is not None and _looks_like_own_code(study))
        yield backend
    finally:
        backend.close()


def _looks_like_own_code(study: Path) -> bool:
    """Whether the workload seems to be a mapping. A guess from the text, before YAML is loaded: a wrong one costs time
    alone.
    """
    with suppress(OSError, ValueError):
        return bool(_MAPPING.search(regular_files.text(study, errors="replace")))
    return False
