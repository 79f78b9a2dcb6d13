"""Stop requests: signals to the runner's process, which are counted and do not end it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, the end of a batch job, and the end of the terminal or the ssh session."""


@contextmanager
def counted_stop_signals() -> Iterator[Callable[[], int]]:
    """Count the stop signals within the block; gives the function that returns their number.

    All SIGHUPs count as one request: the kernel and the shell both send it when a terminal closes. In the main thread
    only (ValueError elsewhere). A signal that was ignored when the process started (nohup, a shell's background job)
    stays ignored. The old handlers are restored at the end, also after an exception.
    """
    received = 0
    hung_up = False

    def count(number: int, _frame: FrameType | None) -> None:
        nonlocal received, hung_up
        if number == signal.SIGHUP:
            hung_up = True
        else:
            received += 1

    old = {}
    try:
        for number in STOP_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                old[number] = signal.signal(number, count)
        yield lambda: max(received, int(hung_up))
    finally:
        for number, handler in old.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
