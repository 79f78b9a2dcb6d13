"""The batches of a training that is timed in blocks of updates, and what the training waits for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from tunectl.training.batches import Batches


@dataclass(frozen=True, slots=True)
class Extent:
    """The length of a measurement: blocks of updates, after a warm-up that does not count.

    The warm-up takes `warmup_updates` and `warmup_seconds`, or, where updates are slow, `slow_warmup_seconds`, but
    never fewer than `least_warmup_updates`. A block ends with the first update after `block_seconds`. The blocks take
    `seconds` in all and are at least `least_blocks`, unless these would take `most_seconds`.
    """

    warmup_updates: int = 10
    warmup_seconds: float = 0.3
    least_warmup_updates: int = 2
    slow_warmup_seconds: float = 5.0
    block_seconds: float = 0.1
    seconds: float = 2.0
    least_blocks: int = 5
    most_seconds: float = 60.0


class Enough(Exception):  # noqa: N818  (the end of the measurement, no error)
    """The measurement is complete."""


class Stopped(Exception):  # noqa: N818
    """A stop was requested."""


class Waits(Protocol):
    """Adds up the time that the computation waits for its batches."""

    def begin(self) -> None:
        """A batch is requested."""

    def end(self) -> None:
        """The batch is there."""

    def take(self) -> float:
        """Seconds of waiting since the last call, when the device has finished its work."""


class HostWaits:
    """For a host that computes, or does not compute while a batch is made."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now, self._began, self._seconds = now, 0.0, 0.0

    def begin(self) -> None:
        """A batch is requested."""
        self._began = self._now()

    def end(self) -> None:
        """The batch is there."""
        self._seconds += self._now() - self._began

    def take(self) -> float:
        """Seconds of waiting since the last call."""
        taken, self._seconds = self._seconds, 0.0
        return taken


class DeviceWaits:
    """For a GPU: how long it is idle between two updates, including the copy of the batch.

    The host runs ahead of the GPU; a batch that comes before the GPU needs it is no waiting.
    """

    def __init__(self, event: Callable[[], Any] | None = None) -> None:
        self._event = event or (lambda: torch.cuda.Event(enable_timing=True))  # type: ignore[no-untyped-call]
        self._pairs: list[tuple[Any, Any]] = []

    def begin(self) -> None:
        """A batch is requested."""
        pair = (self._event(), self._event())
        pair[0].record()
        self._pairs.append(pair)

    def end(self) -> None:
        """The batch is on its way."""
        self._pairs[-1][1].record()

    def take(self) -> float:
        """Seconds of waiting since the last call."""
        pairs, self._pairs = self._pairs, []
        return float(sum(first.elapsed_time(second) for first, second in pairs)) / 1000.0


class TimedBatches:
    """The batches of a trial, one for each update; times blocks of updates between them.

    Ends the training by an exception: Enough when all is measured, Stopped when a stop was requested.
    """

    def __init__(
        self,
        inner: Batches,
        *,
        now: Callable[[], float],
        synchronise: Callable[[], None],
        waits: Waits,
        extent: Extent,
        most_updates: int,
        stop: Callable[[], bool],
        measured: Callable[[int, int, float, float], None],
        block_begins: Callable[[], None] = lambda: None,
    ) -> None:
        """`measured` is called for each block: updates so far, updates in the block, seconds, seconds of waiting;
        `block_begins` before it.
        """
        self._block_begins = block_begins
        self._inner, self._now, self._synchronise, self._waits = inner, now, synchronise, waits
        self._extent, self._most_updates, self._stop, self._measured = extent, most_updates, stop, measured
        self._warm = False
        self._began, self._first = now(), 0
        self._blocks, self._seconds = 0, 0.0

    def take(self, update: int) -> Any:
        """The batch of an update."""
        if self._stop():
            raise Stopped
        # The host's clock, which is ahead of the device: waiting for the device would change the timing.
        lapsed = self._now() - self._began
        last = update >= self._most_updates
        if not self._warm:
            if self._is_warm(update, lapsed) or last:
                self._warm = True
                self._begin_block(update)
        elif update > self._first and (last or lapsed >= self._extent.block_seconds):
            self._end_block(update)
            if last or self._is_enough():
                raise Enough
            self._begin_block(update)
        self._waits.begin()
        batch = self._inner.take(update)
        self._waits.end()
        return batch

    def _is_warm(self, update: int, lapsed: float) -> bool:
        extent = self._extent
        if update < extent.least_warmup_updates:
            return False
        many = update >= extent.warmup_updates and lapsed >= extent.warmup_seconds
        return many or lapsed >= extent.slow_warmup_seconds

    def _is_enough(self) -> bool:
        extent = self._extent
        return self._seconds >= extent.most_seconds or (
            self._seconds >= extent.seconds and self._blocks >= extent.least_blocks
        )

    def _begin_block(self, update: int) -> None:
        self._synchronise()
        self._waits.take()
        self._block_begins()
        self._first, self._began = update, self._now()

    def _end_block(self, update: int) -> None:
        self._synchronise()
        seconds = self._now() - self._began
        self._blocks += 1
        self._seconds += seconds
        self._measured(update, update - self._first, seconds, self._waits.take())

    def close(self) -> None:
        """End the processes that the source started."""
        self._inner.close()
