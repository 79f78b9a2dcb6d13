"""Stop requests: signals to the runner's process, which are counted and do not end it, and those by `tunectl stop`."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, the end of a batch job, and the end of the terminal or the ssh session."""


class StopRequests:
    """Counts the requests to stop: calling it gives their number."""

    def __init__(self) -> None:
        self._received = 0
        self._ended_by = 0
        self._hung_up = False
        self._asked = 0
        self._passed_over = 0

    def __call__(self) -> int:
        """The number of requests."""
        return max(self._received - self._passed_over + self._asked, int(self._hung_up))

    def take_signal(self, number: int, frame: FrameType | None = None) -> None:  # noqa: ARG002
        """Count a signal."""
        if number == signal.SIGHUP:
            self._hung_up = True
        else:
            self._received += 1
            self._ended_by += number != signal.SIGINT

    def pass_over_interrupt(self) -> None:
        """Let one Ctrl-C not count, as one that was only answered by words; `interrupts` has it all the same."""
        self._passed_over += 1

    @property
    def asked(self) -> int:
        """The requests by `tunectl stop`."""
        return self._asked

    @property
    def interrupts(self) -> int:
        """How often Ctrl-C was pressed."""
        return self._received - self._ended_by

    @property
    def must_end(self) -> bool:
        """Whether the process itself has to end: it was terminated, or its terminal is gone."""
        return self._hung_up or self._ended_by > 0

    def ask(self, times: int) -> None:
        """Make it at least this number of requests, as by `tunectl stop`; asking again changes nothing."""
        self._asked += max(0, times - self())


@contextmanager
def counted_stop_signals() -> Iterator[StopRequests]:
    """Count the stop signals within the block; see `counted_by`."""
    with counted_by(StopRequests(), STOP_SIGNALS) as requests:
        yield requests


_Requests = TypeVar("_Requests", bound=StopRequests)


@contextmanager
def counted_by(requests: _Requests, signals: Sequence[signal.Signals]) -> Iterator[_Requests]:
    """Count these signals within the block.

    All SIGHUPs count as one request: the kernel and the shell both send it when a terminal closes. In the main thread
    only (ValueError elsewhere). A signal that was ignored when the process started (nohup, a shell's background job)
    stays ignored. The old handlers are restored at the end, also after an exception.
    """
    old = {}
    try:
        for number in signals:
            if signal.getsignal(number) is not signal.SIG_IGN:
                old[number] = signal.signal(number, requests.take_signal)
        yield requests
    finally:
        for number, handler in old.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
