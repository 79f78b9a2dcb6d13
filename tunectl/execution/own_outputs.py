"""The files that this process prints to, as with nohup: where they are in a watched folder, no trial writes them."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from tunectl.store.written_files import OutputFile


def own_outputs() -> tuple[OutputFile, ...]:
    """The regular files that this process prints to, as others know them; empty where the system does not name them."""
    found = set()
    for descriptor, status in _descriptors():
        with contextlib.suppress(OSError):
            if stat.S_ISREG(status.st_mode):
                found.add(OutputFile(Path(f"/proc/self/fd/{descriptor}").readlink().name, status.st_ino))
    return tuple(sorted(found, key=lambda output: output.name))


def own_devices_and_inodes() -> frozenset[tuple[int, int]]:
    """The files that this process prints to, as it finds them itself."""
    return frozenset((status.st_dev, status.st_ino) for _, status in _descriptors())


def _descriptors() -> Iterator[tuple[int, os.stat_result]]:
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            yield descriptor, os.fstat(descriptor)
