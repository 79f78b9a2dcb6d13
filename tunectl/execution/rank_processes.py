"""The processes of a trial on several devices: one for each, under the trial's first process, which only watches them.

They are forked before anything of the trial is loaded or touches a device, stay in the trial's process group, and die
with the first process. That one passes a stop on, waits for all, and gives the one end that the trial has: where a rank
ends by an exception or a signal, the others, which wait for it in an exchange, end too or are killed, and the trial has
the words of that rank. A rank says its end before it has ended: what it does then has a limit.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, NoReturn

from tunectl.core import parent_death
from tunectl.core.files import unnamed_file
from tunectl.core.rank_exchanges import RankExchanges
from tunectl.core.shortages import patiently
from tunectl.execution import failures, interpreter_end, process_launch, processes
from tunectl.execution.backends.backend import ProcessEnded
from tunectl.execution.protocol import EXIT_BROKEN, EXIT_CRASHED, EXIT_STOPPED, Assignment
from tunectl.execution.trial_ends import TrialEnd

_WAITING_SECONDS = 10.0
"""How long a rank may go on that waits in an exchange for one that has ended: to notice it, and to write its lines."""

_WORKING_SECONDS = 30.0
"""The same for a rank that is at work elsewhere, when another one has ended so that the trial cannot go on."""

_ENDING_SECONDS = interpreter_end.MAX_SECONDS + 5.0
"""How long a rank may take to end when it has said its end: somewhat longer than it takes to give up by itself."""

_LEAST_WAIT = 10.0  # milliseconds, when processes were killed
_WAKEUP_BYTES = 4096

_OPEN_FILES = Path("/proc/self/fd")
_OWN_DEVICES = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a process among those of a trial: its rank of `count`, the file in which they meet, and that of
    their RankExchanges.
    """

    rank: int = 0
    count: int = 1
    meeting: str = ""
    exchanges: str = ""


ONE_PLACE = Place()
"""That of the process of a trial on one device."""


@dataclass(slots=True)
class _Rank:
    """A process, and its end: what it said, None where it said nothing, and the status with which it ended.

    `ended_at` is when it said its end, or ended without a word; in seconds of the monotonic clock.
    """

    rank: int
    pid: int
    answer: IO[bytes]
    said: TrialEnd | None = None
    status: int | None = None
    is_killed: bool = False
    ended_at: float | None = None

    def look(self, now: float) -> bool:
        """Note what the process has said, and that it has ended; gives whether its end is known only now."""
        was_known = self.ended_at is not None
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = status if pid else None
        if self.said is None:
            # Its place in the file is also that of the process, which may be writing.
            content = os.pread(self.answer.fileno(), os.fstat(self.answer.fileno()).st_size, 0)
            with contextlib.suppress(ValueError):  # nothing yet, or a part
                self.said = TrialEnd.from_json(json.loads(content))
        if not was_known and (self.said is not None or self.status is not None):
            self.ended_at = now
            return True
        return False

    @property
    def is_cause(self) -> bool:
        """Whether it ended for a reason of its own, for which the trial cannot go on."""
        if self.said is None:
            return self.status is not None and not self.is_killed
        return not (self.said.is_lost or self.said.is_of_all)

    @property
    def is_stopped(self) -> bool:
        """Whether it ended since it was asked to."""
        return self.said is not None and self.said.code == EXIT_STOPPED

    @property
    def has_failed(self) -> bool:
        """Whether it ended by an exception for which the trial has failed."""
        return self.said is not None and self.said.result is not None and self.said.result.state == "failed"

    def end(self) -> TrialEnd:
        """The end of the trial as this rank came to it."""
        if self.said is not None:
            return self.said.on_rank(self.rank)
        assert self.status is not None
        code = os.waitstatus_to_exitcode(self.status)
        is_exit = code >= 0
        how = ProcessEnded(0, code if is_exit else None, None if is_exit else -code, 0.0, is_users=code != EXIT_BROKEN)
        return TrialEnd(EXIT_CRASHED, message=f"rank {self.rank} {failures.explain_end(how)}")


def run_ranks(
    count: int, assignment: Assignment, stop: Callable[[], bool], run: Callable[[Assignment, Place], TrialEnd]
) -> TrialEnd:
    """Run a trial in `count` processes, and give the end of the one that decides.

    In each of them `run(assignment, place)` is called, with the assignment of its device.
    """
    with contextlib.ExitStack() as opened:
        files = _shared_file(opened), _shared_file(opened)
        exchanges = opened.enter_context(contextlib.closing(RankExchanges(files[1], count)))
        reading, writing = (opened.enter_context(end) for end in socket.socketpair())
        for each in (reading, writing):
            each.setblocking(False)
        ranks: list[_Rank] = []
        try:
            for rank in range(count):
                answer = opened.enter_context(unnamed_file())
                child = _Child(Place(rank, count, *files), _of_device(assignment, rank), answer, writing, exchanges)
                ranks.append(_Rank(rank, patiently(partial(_forked, child, run)), answer))
            return _watched(ranks, exchanges, stop, (reading, writing))
        except OSError as error:
            return TrialEnd(EXIT_CRASHED, message=f"a process of its {count} devices could not be started: {error}")
        finally:
            _kill(ranks)


@dataclass(frozen=True, slots=True)
class _Child:
    """What a process of a rank has: its place, its assignment, the file for its end, and a socket that wakes the first
    process.
    """

    place: Place
    assignment: Assignment
    answer: IO[bytes]
    wakeup: socket.socket
    exchanges: RankExchanges

    def say(self, end: TrialEnd) -> None:
        """Say its end to the first process, before it has ended."""
        self.answer.write(json.dumps(end.to_json()).encode("ascii"))
        self.answer.flush()
        self.exchanges.close_rank(self.place.rank)
        with contextlib.suppress(OSError):  # full: it wakes up anyway
            self.wakeup.send(b"\0")


def _shared_file(opened: contextlib.ExitStack) -> str:
    """The path of an empty file that all the processes can open; where the system can, it has no name of its own."""
    if _OPEN_FILES.exists():
        return str(_OPEN_FILES / str(opened.enter_context(unnamed_file()).fileno()))
    return opened.enter_context(tempfile.NamedTemporaryFile()).name


def _of_device(assignment: Assignment, rank: int) -> Assignment:
    """The assignment of a rank, which sees its own device alone, as a trial on one device does."""
    visible = assignment.environment.get(_OWN_DEVICES, "").split(",")
    if assignment.device == "cpu" or len(visible) == 1:
        return assignment
    return replace(assignment, environment={**assignment.environment, _OWN_DEVICES: visible[rank]})


def _forked(child: _Child, run: Callable[[Assignment, Place], TrialEnd]) -> int:
    parent = os.getpid()
    process_launch.flush_standard_streams()
    pid = os.fork()
    if pid == 0:
        _run_forked(parent, child, run)
    return pid


def _run_forked(parent: int, child: _Child, run: Callable[[Assignment, Place], TrialEnd]) -> NoReturn:
    code = EXIT_BROKEN
    try:
        parent_death.die_with_parent(parent)
        processes.adopt_orphans()
        os.environ.update(child.assignment.environment)
        end = run(child.assignment, child.place)
        child.say(end)
        code = end.code
        interpreter_end.end_as_a_program(code)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        process_launch.flush_standard_streams()
        os._exit(code)


def _watched(
    ranks: Sequence[_Rank],
    exchanges: RankExchanges,
    stop: Callable[[], bool],
    wakeup: tuple[socket.socket, socket.socket],
) -> TrialEnd:
    """Wait until all have ended, and pass a stop on; kill those that go on too long after another one's end."""
    reading, writing = wakeup
    old = signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    try:
        return _end_of(ranks, exchanges, stop, reading)
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, old)


def _end_of(
    ranks: Sequence[_Rank], exchanges: RankExchanges, stop: Callable[[], bool], wakeup: socket.socket
) -> TrialEnd:
    poller = select.poll()
    poller.register(wakeup, select.POLLIN)
    was_stopped = False
    causes: list[_Rank] = []  # in the order of their ends
    while True:
        now = time.monotonic()
        for rank in ranks:
            if rank.look(now):
                exchanges.close_rank(rank.rank)
                causes += [rank] if rank.is_cause else []
        running = [rank for rank in ranks if rank.status is None]
        if not running:
            return _deciding(ranks, causes).end()
        if stop() and not was_stopped:
            was_stopped = True
            for rank in running:
                os.kill(rank.pid, signal.SIGTERM)
        deadlines = {rank.rank: _deadline(rank, ranks, exchanges) for rank in running if not rank.is_killed}
        _kill([rank for rank in running if deadlines.get(rank.rank, math.inf) <= now])
        left = min(deadlines.values(), default=math.inf) - now
        poller.poll(None if left == math.inf else max(_LEAST_WAIT, left * 1000))
        with contextlib.suppress(BlockingIOError):
            while wakeup.recv(_WAKEUP_BYTES):
                pass


def _deadline(rank: _Rank, ranks: Sequence[_Rank], exchanges: RankExchanges) -> float:
    """When a rank that has not ended is killed, on the monotonic clock.

    What it does for the trial has no limit, however slow it is, as long as the trial can go on.
    """
    if rank.ended_at is not None:
        return rank.ended_at + _ENDING_SECONDS
    found = math.inf
    for other in ranks:
        if other.ended_at is not None:
            if exchanges.waits_for(rank.rank, other.rank):
                found = min(found, other.ended_at + _WAITING_SECONDS)
            elif not (other.said is not None and other.said.is_of_all):
                found = min(found, other.ended_at + _WORKING_SECONDS)
    return found


def _deciding(ranks: Sequence[_Rank], causes: Sequence[_Rank]) -> _Rank:
    """The rank whose end is that of the trial: rank 0, which writes its files, unless it ended because of another one;
    then the one of those that ended first.
    """
    first = ranks[0]
    if first.said is not None and not first.said.is_lost:
        # An exception of rank 0 may come of the death of another one, which had no words.
        return causes[0] if first.has_failed and causes and causes[0].said is None else first
    return next(iter([*causes, *(rank for rank in ranks if rank.is_stopped)]), first)


def _kill(ranks: Sequence[_Rank]) -> None:
    for rank in ranks:
        if rank.status is None:
            rank.is_killed = True
            processes.kill(rank.pid)
