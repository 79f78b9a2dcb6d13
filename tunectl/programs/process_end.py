"""Waiting for a program's end, on kernels that have a file descriptor for a process and on those that have none."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def awaited_end(process: subprocess.Popen[bytes]) -> Iterator[Callable[[float], bool]]:
    """Gives the function that waits up to some seconds for the end of a program, and says whether it has ended."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        # Not Linux, a kernel before 5.3 (ENOSYS), an old container (EPERM), or no descriptor left (EMFILE).
        yield lambda seconds: _has_ended_within(process, seconds)
        return
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)

    def wait(seconds: float) -> bool:
        poller.poll(seconds * 1000)
        return process.poll() is not None

    try:
        yield wait
    finally:
        os.close(descriptor)


def _has_ended_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)  # looks every 50 ms at the latest
    except subprocess.TimeoutExpired:
        return False
    return True
