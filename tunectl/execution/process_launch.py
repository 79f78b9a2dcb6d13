"""Starts a process for an assignment: a fork of the server where that is safe, a new interpreter where it is not."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn, cast

from tunectl.core import parent_death
from tunectl.core.files import unnamed_file
from tunectl.execution import interpreter_end, processes
from tunectl.execution.protocol import EXIT_BROKEN, Assignment, Worker
from tunectl.execution.stop_signals import STOP_SIGNALS


@contextlib.contextmanager
def stop_signals_held_back() -> Iterator[None]:
    """Keep stop signals pending: a new process receives those sent to it when its handlers are set, not before."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def fork(assignment: Assignment, worker: Worker, output: int, close: Iterable[int]) -> int:
    """Fork this process for the assignment; gives the pid. The new process writes its stdout and stderr to `output`.

    It leads a process group, dies with this process, and adopts the orphans among its descendants. It closes the
    descriptors in `close`; others stay open, because a preloaded data set may read from them. Raises OSError where the
    system cannot start another process.
    """
    flush_standard_streams()
    parent = os.getpid()
    with stop_signals_held_back():
        pid = os.fork()
        if pid == 0:
            _run_forked(assignment, worker, output, close, parent)
        # Both processes do it, since either may run first. The second finds it done, or the process ended.
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
    return pid


def _run_forked(assignment: Assignment, worker: Worker, output: int, close: Iterable[int], parent: int) -> NoReturn:
    code = EXIT_BROKEN
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        parent_death.die_with_parent(parent)
        processes.adopt_orphans()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        for fd in {null, output, *close} - {0, 1, 2}:
            os.close(fd)
        interpreter_end.forget_what_is_inherited()
        code = _do(assignment, worker)
    except BaseException:
        _print_traceback()
    finally:
        os._exit(code)


def spawn(assignment: Assignment, worker_name: str, output: int, inherit: Iterable[int]) -> int:
    """Start a new interpreter for the assignment and give its pid; as `fork`, but slower because of the imports.

    The descriptors in `inherit` keep their numbers. The assignment is passed by standard input, since an argument list
    could be too long.
    """
    command = [sys.executable, "-P", "-m", "tunectl.execution.process_launch", worker_name, str(os.getpid())]
    with unnamed_file() as message, stop_signals_held_back():
        message.write(json.dumps(assignment.to_json()).encode("ascii"))
        message.seek(0)
        actions = [
            (os.POSIX_SPAWN_DUP2, source, target)
            for source, target in ((message.fileno(), 0), (output, 1), (output, 2))
        ]
        with _inheritable(inherit):
            return os.posix_spawn(
                sys.executable,
                command,
                {**os.environ, **assignment.environment},
                file_actions=actions,
                setpgroup=0,
                setsigdef=[signal.SIGCHLD, signal.SIGPIPE],
            )


@contextlib.contextmanager
def _inheritable(fds: Iterable[int]) -> Iterator[None]:
    kept = tuple(fds)
    for fd in kept:
        os.set_inheritable(fd, True)
    try:
        yield
    finally:
        for fd in kept:
            os.set_inheritable(fd, False)


def _run_spawned(worker_name: str, parent: int) -> int:
    parent_death.die_with_parent(parent)
    processes.adopt_orphans()
    assignment = Assignment.from_json(json.loads(sys.stdin.buffer.read()))
    os.set_inheritable(assignment.answer, False)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return _do(assignment, cast(Worker, importlib.import_module(worker_name)))


def _do(assignment: Assignment, worker: Worker) -> int:
    """Do the work of a forked or spawned process; gives the worker's exit code, or that of a SystemExit."""
    stop = _stop_flag()
    _open_standard_streams()
    os.environ.update(assignment.environment)
    code = EXIT_BROKEN
    try:
        code = worker.work(assignment, stop)
        if assignment.task == "trial":
            assignment.write_answer(code=code)
        return code
    except SystemExit as request:
        code = _exit_code(request)
        return code
    except BaseException:
        if assignment.task == "trial":
            assignment.write_answer(code=EXIT_BROKEN)
        raise
    finally:
        if assignment.task == "trial":
            interpreter_end.end_as_a_program(code)
        flush_standard_streams()


def _stop_flag() -> Callable[[], bool]:
    stopped = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopped
        stopped = True

    # The runner handles Ctrl-C. The terminal's SIGINT does not reach this session; one that does was sent by mistake.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    return lambda: stopped


def _open_standard_streams() -> None:
    # New ones, whatever the user's module did to sys.stdout, so that a killed trial's log has its last line.
    for name, fd in (("stdout", 1), ("stderr", 2)):
        stream = open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    faulthandler.enable(file=2, all_threads=False)


def _exit_code(request: SystemExit) -> int:
    if request.code is None:
        return 0
    if isinstance(request.code, int):
        return request.code & 0xFF
    with contextlib.suppress(Exception):
        os.write(2, f"{request.code}\n".encode(errors="backslashreplace"))
    return 1


def _print_traceback() -> None:
    # The log may be on a full disk: then the exit code alone shows the failure.
    with contextlib.suppress(Exception):
        os.write(2, traceback.format_exc().encode(errors="backslashreplace"))


def flush_standard_streams() -> None:
    """Write out the buffers of stdout and stderr, whatever state they are in."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _main() -> NoReturn:
    code = EXIT_BROKEN
    try:
        code = _run_spawned(sys.argv[1], int(sys.argv[2]))
    except BaseException:
        _print_traceback()
    finally:
        os._exit(code)


if __name__ == "__main__":
    _main()
