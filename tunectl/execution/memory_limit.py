"""How much memory is free, and a limit with which a process can find out what does not fit."""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from tunectl.execution.slots import cgroup_folders

RESERVE = 0.1
"""The part of the free memory that is left for other processes, and for memory that counts only when it is used."""

_LIMITS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Limit, use, and the part of it that the system can reclaim: the files of control groups v2 and v1."""


def free_bytes(
    information: Path = Path("/proc/meminfo"),
    membership: Path = Path("/proc/self/cgroup"),
    hierarchy: Path = Path("/sys/fs/cgroup"),
) -> int | None:
    """The memory that this process can still take before the machine, or one of its control groups (v1, v2), is full.

    None where it is not known.
    """
    available = _named(information, "MemAvailable:")
    if available is None:
        return None
    found = [available * 1024]
    for folder in cgroup_folders(membership, hierarchy, "memory"):
        for limit_file, use_file, reclaimable in _LIMITS:
            limit, use = _number(folder / limit_file), _number(folder / use_file)
            if limit is not None and use is not None:
                found.append(limit - use + (_named(folder / "memory.stat", reclaimable) or 0))
    return max(0, min(found))


def _number(path: Path) -> int | None:
    # "max" is no limit.
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _named(path: Path, name: str) -> int | None:
    """The number after a name, in a file of such lines."""
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            words = line.split()
            if len(words) > 1 and words[0] == name:
                return int(words[1])
    return None


@contextlib.contextmanager
def limited_memory(limit_bytes: int | None) -> Iterator[None]:
    """Limit the memory that this process, and each one that it starts, may take beyond what it has.

    The default is the free memory without RESERVE. What does not fit raises an exception, before the system has to kill
    a process; where it has to, it kills this one. No limit where it is not known what is free or what the process has.
    """
    free = free_bytes()
    has = _named(Path("/proc/self/status"), "VmData:")
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
