"""Which start of which machine this process runs in, and how it sees a folder.

Tested in tests/store/test_lost_claims.py.
"""

from __future__ import annotations

import contextlib
from functools import cache
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """A text that changes at each start of this machine; "" if the system has none."""
    with contextlib.suppress(OSError):
        return _BOOT.read_text("ascii").strip()
    return ""


def seen_from(folder: Path) -> str:
    """A text that is the same for processes that see a folder alike at any moment; "" where that is not known.

    They run on one machine, and share one mount of its file system. Containers of one machine may have mounts of their
    own of a file server, which remember for themselves: these have other device numbers.
    """
    with contextlib.suppress(OSError):
        return f"{_boot_id()} {folder.stat().st_dev:x}" if _boot_id() else ""
    return ""


@cache
def _boot_id() -> str:
    # Once: on a busy machine a look into /proc takes longer than a claim.
    return boot_id()
