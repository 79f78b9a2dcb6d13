"""Reasons why forking this process is unsafe: other threads, CUDA in use, a system other than Linux."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path

from tunectl.core.shortages import patiently
from tunectl.execution import processes

_SAFE_THREADS = frozenset({"jemalloc_bg_thd"})
# pyarrow's allocator starts this thread (so pandas and scikit-learn do); jemalloc has fork handlers for it.

_OPEN_FILES = Path("/proc/self/fd")
_CUDA_DEVICE = "/dev/nvidia-uvm"


def platform_hazard(platform: str = sys.platform) -> str:
    """Why a process must not be forked after imports on this system; "" where it may."""
    return (
        ""
        if platform.startswith("linux")
        else f"forking a process that has loaded its libraries is not safe on {platform}"
    )


def fork_hazard() -> str:
    """Why a fork of this process could hang or lose its GPU, in one line; "" where no reason is found.

    A lock that another thread holds is never released in the fork; a CUDA context cannot be used after a fork.
    """
    hazard = platform_hazard()
    if hazard:
        return hazard
    threads = [name for name in processes.other_threads() if name not in _SAFE_THREADS]
    if threads:
        own = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
        noun = "thread" if len(threads) == 1 else "threads"
        return f"loading the workload left {len(threads)} other {noun} running ({', '.join(own or threads)})"
    if _cuda_is_started():
        return "loading the workload started CUDA"
    return ""


def _cuda_is_started() -> bool:
    # torch is never imported here: it is used only where the workload or the training has imported it.
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return True
    return _cuda_driver_is_open() or (torch is not None and _torch_refuses_a_fork())


def _cuda_driver_is_open() -> bool:
    # Every CUDA library, not torch alone, opens the memory driver when it starts; NVML does not.
    with contextlib.suppress(OSError):
        for entry in _OPEN_FILES.iterdir():
            with contextlib.suppress(OSError):
                if str(entry.readlink()).startswith(_CUDA_DEVICE):
                    return True
    return False


def _torch_refuses_a_fork() -> bool:
    # Only in a fork torch knows that it cannot use CUDA there (a device count at import is enough), so one is made.
    torch = sys.modules["torch"]
    if torch.version.cuda is None:
        return False
    pid = patiently(os.fork)
    if pid == 0:
        code = 1
        try:
            code = 1 if torch.cuda._is_in_bad_fork() else 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0
