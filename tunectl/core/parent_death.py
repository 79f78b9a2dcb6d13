"""Processes that end with their parent, as the kernel sees to it."""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import sys

MARK = "TUNECTL_SERVER"
"""The variable that marks all that a runner starts, in the environment of each process."""

_PR_SET_PDEATHSIG = 1


def prctl(option: int, value: int) -> bool:
    """Ask the Linux kernel to treat this process so (prctl(2)); false where it does not, and elsewhere."""
    if not sys.platform.startswith("linux"):
        return False
    return bool(_library().prctl(option, ctypes.c_ulong(value), 0, 0, 0) == 0)


@functools.cache
def _library() -> ctypes.CDLL:
    # Once, before any fork: between fork and exec every page that is touched is a copy.
    return ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent, with pid `parent`, dies; ends it at once where that is gone.

    The wish is cleared by fork, and bound to the parent's thread that forked. Without effect where there is no prctl.
    """
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def outlive_parent() -> None:
    """Take back `die_with_parent`."""
    prctl(_PR_SET_PDEATHSIG, 0)
