"""Which start of which machine this process runs in. Tested in tests/store/test_lost_claims.py."""

from __future__ import annotations

import contextlib
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """A text that changes at each start of this machine; "" if the system has none."""
    with contextlib.suppress(OSError):
        return _BOOT.read_text("ascii").strip()
    return ""
