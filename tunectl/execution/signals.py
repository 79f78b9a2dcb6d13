"""Stop requests: SIGINT and SIGTERM of the runner's process, counted instead of obeyed."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def counted_stop_signals() -> Iterator[Callable[[], int]]:
    """Count SIGINT and SIGTERM while the block runs; gives the function that says how many came.

    Main thread only (ValueError elsewhere). A signal that was ignored when the process started (nohup, a shell's
    background job) stays ignored. The old handlers are put back at the end, also after an exception.
    """
    received = 0

    def count(_number: int, _frame: FrameType | None) -> None:
        nonlocal received
        received += 1

    old = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                old[number] = signal.signal(number, count)
        yield lambda: received
    finally:
        for number, handler in old.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
