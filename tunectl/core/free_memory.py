"""How much memory a process can still take, from the system's files."""

from __future__ import annotations

import contextlib
from pathlib import Path

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
    available = number_after(information, "MemAvailable:")
    if available is None:
        return None
    found = [available * 1024]
    for folder in cgroup_folders(membership, hierarchy, "memory"):
        for limit_file, use_file, reclaimable in _LIMITS:
            limit, use = _number(folder / limit_file), _number(folder / use_file)
            if limit is not None and use is not None:
                found.append(limit - use + (number_after(folder / "memory.stat", reclaimable) or 0))
    return max(0, min(found))


_KILLED = ("memory.events", "memory.oom_control")  # of control groups v2 and v1


def killed_for_memory(
    membership: Path = Path("/proc/self/cgroup"), hierarchy: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """How many processes of this process's control group (v1, v2) the system has killed for want of memory; None where
    it is not known.
    """
    counts = (
        number_after(folder / name, "oom_kill")
        for folder in cgroup_folders(membership, hierarchy, "memory")
        for name in _KILLED
    )
    return next((count for count in counts if count is not None), None)


def _number(path: Path) -> int | None:
    # "max" is no limit.
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def number_after(path: Path, name: str) -> int | None:
    """The number after a name, in a file of such lines."""
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            words = line.split()
            if len(words) > 1 and words[0] == name:
                return int(words[1])
    return None


def cgroup_folders(membership: Path, hierarchy: Path, controller: str) -> list[Path]:
    """The folders of the control groups that this process is in, and of all above them, for one controller (v1, v2)."""
    # Every ancestor counts: the smallest quota applies. In a container, the path in /proc/self/cgroup may be the host's
    # and not exist here; the mount's root is then the container's own group, and it is among the ancestors.
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return []
    folders: list[Path] = []
    for line in lines:
        fields = line.split(":", 2)
        if len(fields) != 3:
            continue
        _, controllers, path = fields
        if not controllers:
            roots = [hierarchy, hierarchy / "unified"]
        elif controller in controllers.split(","):
            roots = [hierarchy / controllers, hierarchy / controller]
        else:
            continue
        inside = Path(path.lstrip("/"))
        folders += [root / part for root in roots for part in (inside, *inside.parents)]
    return folders
