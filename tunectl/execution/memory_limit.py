"""A limit with which a process can find out what does not fit in the free memory."""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from tunectl.core.free_memory import free_bytes, number_after

RESERVE = 0.1
"""The part of the free memory that is left for other processes, and for memory that counts only when it is used."""


@contextlib.contextmanager
def limited_memory(limit_bytes: int | None) -> Iterator[None]:
    """Limit the memory that this process, and each one that it starts, may take beyond what it has.

    The default is the free memory without RESERVE. What does not fit raises an exception, before the system has to kill
    a process; where it has to, it kills this one. No limit where it is not known what is free or what the process has.
    """
    free = free_bytes()
    has = number_after(Path("/proc/self/status"), "VmData:")
    if limit_bytes is None and free is not None:
        limit_bytes = int(free * (1 - RESERVE))
    if limit_bytes is None or has is None or not sys.platform.startswith("linux"):
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = has * 1024 + limit_bytes
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    # The soft limit, which can be raised again. It counts private writable memory, whether it is used or not.
    resource.setrlimit(resource.RLIMIT_DATA, (_lower(wanted, _lower(*before)), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _lower(one: int, other: int) -> int:
    limits = [limit for limit in (one, other) if limit != resource.RLIM_INFINITY]
    return min(limits, default=resource.RLIM_INFINITY)
