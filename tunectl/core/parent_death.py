"""Processes that the kernel ends when their parent dies."""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import sys

MARK = "TUNECTL_SERVER"
"""The environment variable that marks every process that a runner starts."""

_PR_SET_PDEATHSIG = 1


def prctl(option: int, value: int) -> bool:
    """Set a Linux option of this process, see man 2 prctl; false if that fails, or if the system is not Linux."""
    if not sys.platform.startswith("linux"):
        return False
    return bool(_library().prctl(option, ctypes.c_ulong(value), 0, 0, 0) == 0)


@functools.cache
def _library() -> ctypes.CDLL:
    # Loaded once, before any fork: between fork and exec every memory page that changes is copied.
    return ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent, with pid `parent`, dies; exit now if it is dead already.

    A child process does not inherit this, and it is bound to the thread of the parent that forked. It has no effect on
    systems without prctl.
    """
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def stop_with_parent(parent: int, by: signal.Signals = signal.SIGHUP) -> None:
    """Have the kernel send the signal `by` to this process when its parent, with pid `parent`, dies; now if it is dead.

    As `die_with_parent`, it is bound to the thread that started this process, and has no effect without prctl. A
    program that replaces this one by exec keeps it.
    """
    prctl(_PR_SET_PDEATHSIG, by)
    if os.getppid() != parent:
        os.kill(os.getpid(), by)


def outlive_parent() -> None:
    """Undo `die_with_parent`."""
    prctl(_PR_SET_PDEATHSIG, 0)
