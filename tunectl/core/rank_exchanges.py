"""Which exchange each rank of a trial is at: in memory that the ranks and the process that watches them share.

Each rank notes an exchange before it takes part in it. So ranks that do not make the same exchanges, one after the
other, find that out before they wait for each other without end, whatever the exchange goes by; and the process that
watches them knows which of them wait for another one.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os

from tunectl.core.errors import LostRankError, WorkloadError

_REMEMBERED = 512
"""Exchanges of each rank: with GPUs one may begin some before another one has begun the first of them."""

_WORD = 8
"""All numbers are one aligned word each, which is read and written as a whole, also where nothing is locked."""

_TEXT_WORDS = 15
_ENTRY_WORDS = 1 + _TEXT_WORDS  # a digest of what is exchanged, and the text
_MOST_ENTRIES = 1024


# The words of a rank before its exchanges. Each has one writer, but for the last, which only ever becomes 1.
_BEGUN, _ENDED, _IS_OVER = range(3)
_RANK_WORDS = 3 + _REMEMBERED * _ENTRY_WORDS


class RankExchanges:
    """The exchanges of `count` ranks, in a file that all of them open, empty at first; every rank has its own object.

    The methods of a rank that change something are for that rank alone.
    """

    def __init__(self, path: str, count: int) -> None:
        self.count = count
        size = count * _RANK_WORDS * _WORD
        self._file = os.open(path, os.O_RDWR)
        if os.fstat(self._file).st_size < size:
            os.ftruncate(self._file, size)
        self._memory = mmap.mmap(self._file, size)
        self._words = memoryview(self._memory).cast("Q")
        self._entries: dict[tuple[str, str], tuple[int, bytes]] = {}

    def begin(self, rank: int, what: str, where: str) -> None:
        """Note that the rank comes to its next exchange: what is exchanged, which all ranks must have alike, and the
        place in the code.

        Raises WorkloadError where another rank came to another exchange in its place, and LostRankError where another
        one has ended without it.
        """
        words, number = self._words, self._word(rank, _BEGUN)
        digest, text = self._entries.get((what, where)) or self._new_entry(what, where)
        entry = _entry(rank, number)
        words[entry] = digest
        self._memory[(entry + 1) * _WORD : (entry + _ENTRY_WORDS) * _WORD] = text
        # Of two ranks that come at once, one must see the other: by the lock, one of them writes before the other
        # reads. The lock of a process that dies is released.
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            words[rank * _RANK_WORDS + _BEGUN] = number + 1
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
        for other in range(self.count):
            if other != rank:
                self._refuse_apart(rank, other, number, digest)

    def end(self, rank: int) -> None:
        """Note that the rank has what the exchange gives."""
        self._words[rank * _RANK_WORDS + _ENDED] = self._word(rank, _BEGUN)

    def close_rank(self, rank: int) -> None:
        """Note that the rank makes no more exchanges; also for the process that watches it, once it has ended."""
        # Without the lock, for which that process would wait where another rank is halted.
        self._words[rank * _RANK_WORDS + _IS_OVER] = 1

    def close(self) -> None:
        """Close the file, in the process that does it."""
        self._words.release()
        self._memory.close()
        os.close(self._file)

    def waits_for(self, rank: int, other: int) -> bool:
        """Whether the rank is in an exchange to which the other one has not come."""
        begun = self._word(rank, _BEGUN)
        return begun > self._word(rank, _ENDED) and self._word(other, _BEGUN) < begun

    def _refuse_apart(self, rank: int, other: int, number: int, digest: int) -> None:
        # In this order: one that has ended begins nothing more.
        is_over, begun = self._word(other, _IS_OVER), self._word(other, _BEGUN)
        if number < begun < number + _REMEMBERED:
            if self._words[_entry(other, number)] != digest:
                self._refuse_other(rank, other, number, digest)
        elif begun <= number and is_over:
            raise LostRankError("the process of another device of this trial has ended")

    def _refuse_other(self, rank: int, other: int, number: int, digest: int) -> None:
        """Refuse an exchange whose digest is another one, unless the rank has written over it meanwhile."""
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            own, others = self._text(rank, number), self._text(other, number)
            is_there = self._word(other, _BEGUN) < number + _REMEMBERED
            are_other = self._words[_entry(other, number)] != digest
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
        if is_there and are_other:
            raise WorkloadError(
                f"the devices of the trial do not make the same exchanges: as number {number + 1}, device {rank}"
                f" comes to {own}, and device {other} came to {others}. So it is where a layer of synchronised"
                " batch normalisation is used for some examples only, or where code depends on the device"
            )

    def _new_entry(self, what: str, where: str) -> tuple[int, bytes]:
        digest = int.from_bytes(hashlib.blake2b(what.encode(), digest_size=_WORD).digest(), "little")
        text = f"{what}, in {where}".encode("ascii", "replace")[: _TEXT_WORDS * _WORD]
        found = digest, text.ljust(_TEXT_WORDS * _WORD, b"\0")
        if len(self._entries) < _MOST_ENTRIES:
            self._entries[what, where] = found
        return found

    def _text(self, rank: int, number: int) -> str:
        first = (_entry(rank, number) + 1) * _WORD
        return self._memory[first : first + _TEXT_WORDS * _WORD].rstrip(b"\0").decode("ascii")

    def _word(self, rank: int, place: int) -> int:
        return self._words[rank * _RANK_WORDS + place]


def _entry(rank: int, number: int) -> int:
    """The first word of an exchange of a rank, by its number from 0."""
    return rank * _RANK_WORDS + 3 + number % _REMEMBERED * _ENTRY_WORDS
