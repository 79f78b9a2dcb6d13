"""Which exchange each rank of a trial is at: in memory that the ranks and the process that watches them share.

Each rank notes an exchange before it takes part in it. So ranks that do not make the same exchanges, one after the
other, find that out before they wait for each other without end, whatever the exchange goes by; and the process that
watches them knows which of them wait for another one.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
from collections.abc import Iterator

from tunectl.core.errors import LostRankError, WorkloadError

_REMEMBERED = 512
"""Exchanges of each rank: with GPUs one may begin some before another one has begun the first of them."""

_TEXT_BYTES = 120
_HEADER = struct.Struct("<QQQ")  # the numbers of exchanges begun and ended, and whether the rank has ended
_RANK_BYTES = _HEADER.size + _REMEMBERED * _TEXT_BYTES
_SEPARATOR = ", in "


class RankExchanges:
    """The exchanges of `count` ranks, in a file that all of them open, empty at first; every rank has its own object.

    The methods of a rank that change something are for that rank alone.
    """

    def __init__(self, path: str, count: int) -> None:
        self.count = count
        self._file = os.open(path, os.O_RDWR)
        if os.fstat(self._file).st_size < count * _RANK_BYTES:
            os.ftruncate(self._file, count * _RANK_BYTES)
        self._memory = mmap.mmap(self._file, count * _RANK_BYTES)

    def begin(self, rank: int, what: str, where: str) -> None:
        """Note that the rank comes to its next exchange: what is exchanged, which all ranks must have alike, and the
        place in the code.

        Raises WorkloadError where another rank came to another exchange in its place, and LostRankError where another
        one has ended without it.
        """
        with self._locked():
            begun, ended, _ = self._read(rank)
            self._write(rank, begun + 1, ended, 0)
            text = f"{what}{_SEPARATOR}{where}".encode("ascii", "replace")[:_TEXT_BYTES]
            place = self._place(rank, begun)
            self._memory[place : place + _TEXT_BYTES] = text.ljust(_TEXT_BYTES, b"\0")
            for other in range(self.count):
                self._refuse_apart(rank, other, begun)

    def end(self, rank: int) -> None:
        """Note that the rank has what the exchange gives."""
        begun, _, is_over = self._read(rank)
        self._write(rank, begun, begun, is_over)

    def close_rank(self, rank: int) -> None:
        """Note that the rank makes no more exchanges; also for the process that watches it, once it has ended."""
        # Without the lock, for which that process would wait where another rank is halted.
        begun, ended, _ = self._read(rank)
        self._write(rank, begun, ended, 1)

    def close(self) -> None:
        """Close the file, in the process that does it."""
        self._memory.close()
        os.close(self._file)

    def waits_for(self, rank: int, other: int) -> bool:
        """Whether the rank is in an exchange to which the other one has not come."""
        begun, ended, _ = self._read(rank)
        return begun > ended and self._read(other)[0] < begun

    def _refuse_apart(self, rank: int, other: int, number: int) -> None:
        begun, _, is_over = self._read(other)
        if number < begun <= number + _REMEMBERED:
            own, others = self._text(rank, number), self._text(other, number)
            if own.partition(_SEPARATOR)[0] != others.partition(_SEPARATOR)[0]:
                raise WorkloadError(
                    f"the devices of the trial do not make the same exchanges: as number {number + 1}, device {rank}"
                    f" comes to {own}, and device {other} came to {others}. So it is where a layer of synchronised"
                    " batch normalisation is used for some examples only, or where code depends on the device"
                )
        elif begun <= number and is_over:
            raise LostRankError("the process of another device of this trial has ended")

    def _text(self, rank: int, number: int) -> str:
        place = self._place(rank, number)
        return self._memory[place : place + _TEXT_BYTES].rstrip(b"\0").decode("ascii")

    def _place(self, rank: int, number: int) -> int:
        return rank * _RANK_BYTES + _HEADER.size + number % _REMEMBERED * _TEXT_BYTES

    def _read(self, rank: int) -> tuple[int, int, int]:
        begun, ended, is_over = _HEADER.unpack_from(self._memory, rank * _RANK_BYTES)
        return begun, ended, is_over

    def _write(self, rank: int, begun: int, ended: int, is_over: int) -> None:
        _HEADER.pack_into(self._memory, rank * _RANK_BYTES, begun, ended, is_over)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # Of two ranks that come at once, one must see the other. The lock of a process that dies is released.
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
