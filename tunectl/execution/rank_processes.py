"""The processes of a trial on several devices: one for each, under the trial's first process, which only watches them.

They are forked before anything of the trial is loaded or touches a device, stay in the trial's process group, and die
with the first process. That one passes a stop on, waits for all, and gives the one end that the trial has: where a rank
ends by an exception or a signal, the others, which wait for it in an exchange, end too or are killed, and the trial has
the words of that rank.
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, NoReturn

from tunectl.core import parent_death
from tunectl.core.files import unnamed_file
from tunectl.core.shortages import patiently
from tunectl.execution import failures, interpreter_end, process_launch, processes
from tunectl.execution.backends.backend import ProcessEnded
from tunectl.execution.protocol import EXIT_BROKEN, EXIT_CRASHED, Assignment
from tunectl.execution.trial_ends import TrialEnd

_GRACE_SECONDS = 10.0
"""How long the other ranks may go on when one has failed: to notice it, and to write what they have measured."""

_ENDING_SECONDS = 300.0
"""The same where one has come to an end of the trial, which they usually come to by themselves."""

_LEAST_WAIT = 10.0  # milliseconds, when processes were killed
_WAKEUP_BYTES = 4096

_OPEN_FILES = Path("/proc/self/fd")
_OWN_DEVICES = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a process among those of a trial: its rank of `count`, and the file in which they meet."""

    rank: int = 0
    count: int = 1
    meeting: str = ""


ONE_PLACE = Place()
"""That of the process of a trial on one device."""


@dataclass(slots=True)
class _Rank:
    """A process, and its end: what it said, None where it said nothing, and the status with which it ended."""

    rank: int
    pid: int
    answer: IO[bytes]
    said: TrialEnd | None = None
    status: int | None = None
    is_killed: bool = False

    def reap(self) -> bool:
        """Note the end of the process; gives whether it has ended now."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            return False
        self.status = status
        self.answer.seek(0)
        with contextlib.suppress(ValueError):  # it was killed while it wrote
            self.said = TrialEnd.from_json(json.loads(self.answer.read()))
        return True

    @property
    def is_cause(self) -> bool:
        """Whether it ended for a reason of its own, for which the trial cannot go on."""
        return not self.is_killed and (self.said is None or not (self.said.is_lost or self.said.is_of_all))

    @property
    def others_may_take(self) -> float:
        """Seconds that the others may take to end, too."""
        if self.said is not None and self.said.is_of_all:
            return math.inf
        result = None if self.said is None else self.said.result
        return _GRACE_SECONDS if result is None or result.state == "failed" else _ENDING_SECONDS

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
        meeting = _meeting(opened)
        ranks: list[_Rank] = []
        try:
            for rank in range(count):
                answer = opened.enter_context(unnamed_file())
                start = partial(_forked, Place(rank, count, meeting), _of_device(assignment, rank), answer, run)
                ranks.append(_Rank(rank, patiently(start), answer))
            return _watched(ranks, stop)
        except OSError as error:
            return TrialEnd(EXIT_CRASHED, message=f"a process of its {count} devices could not be started: {error}")
        finally:
            _kill(ranks)


def _meeting(opened: contextlib.ExitStack) -> str:
    """The path of an empty file in which the processes meet; where the system can, it has no name of its own."""
    if _OPEN_FILES.exists():
        return str(_OPEN_FILES / str(opened.enter_context(unnamed_file()).fileno()))
    return opened.enter_context(tempfile.NamedTemporaryFile()).name


def _of_device(assignment: Assignment, rank: int) -> Assignment:
    """The assignment of a rank, which sees its own device alone, as a trial on one device does."""
    visible = assignment.environment.get(_OWN_DEVICES, "").split(",")
    if assignment.device == "cpu" or len(visible) == 1:
        return assignment
    return replace(assignment, environment={**assignment.environment, _OWN_DEVICES: visible[rank]})


def _forked(
    place: Place, assignment: Assignment, answer: IO[bytes], run: Callable[[Assignment, Place], TrialEnd]
) -> int:
    parent = os.getpid()
    process_launch.flush_standard_streams()
    pid = os.fork()
    if pid == 0:
        _run_forked(parent, answer, partial(run, assignment, place), assignment.environment)
    return pid


def _run_forked(
    parent: int, answer: IO[bytes], run: Callable[[], TrialEnd], environment: Mapping[str, str]
) -> NoReturn:
    code = EXIT_BROKEN
    try:
        parent_death.die_with_parent(parent)
        processes.adopt_orphans()
        os.environ.update(environment)
        end = run()
        answer.write(json.dumps(end.to_json()).encode("ascii"))
        answer.flush()
        code = end.code
        interpreter_end.end_as_a_program(code)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        process_launch.flush_standard_streams()
        os._exit(code)


def _watched(ranks: Sequence[_Rank], stop: Callable[[], bool]) -> TrialEnd:
    """Wait until all have ended, and pass a stop on; kill the others some time after one has ended for good."""
    reading, writing = socket.socketpair()
    with reading, writing:
        for end in (reading, writing):
            end.setblocking(False)
        old = signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        try:
            return _end_of(ranks, stop, reading)
        finally:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, old)


def _end_of(ranks: Sequence[_Rank], stop: Callable[[], bool], wakeup: socket.socket) -> TrialEnd:
    poller = select.poll()
    poller.register(wakeup, select.POLLIN)
    deadline, was_stopped = math.inf, False
    causes: list[_Rank] = []  # in the order of their ends
    while True:
        for rank in ranks:
            if rank.status is None and rank.reap():
                deadline = min(deadline, time.monotonic() + rank.others_may_take)
                causes += [rank] if rank.is_cause else []
        running = [rank for rank in ranks if rank.status is None]
        if not running:
            return _deciding(ranks, causes).end()
        if stop() and not was_stopped:
            was_stopped = True
            for rank in running:
                os.kill(rank.pid, signal.SIGTERM)
        left = deadline - time.monotonic()
        if left <= 0:
            _kill(running)
        poller.poll(None if left in (math.inf, -math.inf) else max(_LEAST_WAIT, left * 1000))
        with contextlib.suppress(BlockingIOError):
            while wakeup.recv(_WAKEUP_BYTES):
                pass


def _deciding(ranks: Sequence[_Rank], causes: Sequence[_Rank]) -> _Rank:
    """The rank whose end is that of the trial: rank 0, which writes its files, unless it ended because of another one;
    then the one of those that ended first.
    """
    said = ranks[0].said
    return ranks[0] if not causes or (said is not None and not said.is_lost) else causes[0]


def _kill(ranks: Sequence[_Rank]) -> None:
    for rank in ranks:
        if rank.status is None:
            rank.is_killed = True
            processes.kill(rank.pid)
