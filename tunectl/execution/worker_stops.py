"""The stop signals of `tunectl worker`, also those of a batch system."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType

from tunectl.execution.stop_signals import STOP_SIGNALS, StopRequests

WORKER_SIGNALS = (*STOP_SIGNALS, signal.SIGUSR2)
"""SIGUSR2 is what batch systems are asked to send some time before the time limit of a job."""

_REPEATED_SECONDS = 2.0


class WorkerStops(StopRequests):
    """Counts the requests to stop. `time_is_short`: one was the warning of a batch system.

    A batch system sends SIGTERM to a job and again to its steps: two within two seconds count as one.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.time_is_short = False
        self._clock = clock
        self._terminated: float | None = None

    def take_signal(self, number: int, frame: FrameType | None = None) -> None:
        """Count a signal."""
        if number == signal.SIGTERM:
            now = self._clock()
            if self._terminated is not None and now - self._terminated < _REPEATED_SECONDS:
                return
            self._terminated = now
        if number == signal.SIGUSR2:
            if self.time_is_short:
                return
            self.time_is_short = True
        super().take_signal(number, frame)
