"""What lets the tests run fast: nothing waits for the disk, and fork servers start as forks of one that is warm.

A server that is started takes 1.5 s to import torch, which is most of the time of a small study. Here one process per
test process imports what servers import, and every server is a fork of it: with its own environment, session, mark and
current folder, and a child of the test process, as if it had been started. `python tests/warm_server.py FD PARENT KIND`
is that one process; there is another one for toys, whose servers need no torch, but half a second to start, and one for
workers whose trials are toys. A whole command can be a fork, too, and then its servers are forks of it. Servers are
started really where `tunectl` is started as a program, and where the environment differs in more than the variables
named here.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn, Self, cast
from unittest import mock

from tunectl.core import parent_death
from tunectl.core.parent_death import MARK, prctl
from tunectl.execution import server, worker
from tunectl.execution.backends.local import server_environment
from tunectl.execution.backends.server_process import start_server

if TYPE_CHECKING:
    from _typeshed import HasFileno

_WORKER = "tunectl.execution.worker"
_TOYS = "toy_worker"
_TOY_PROGRAMS = "toy_worker_program"
_PROGRAMS = "tunectl"
_TESTS = Path(__file__).parent
_PR_SET_CHILD_SUBREAPER = 36
TEST_MARK = "TUNECTL_TEST"
"""The variable that marks, for a test, all processes of a command and what these start."""

_MARK_BYTES = 400
_READ_LATE = ("COLUMNS", MARK, "PYTEST_CURRENT_TEST", "PYTHONDONTWRITEBYTECODE")
"""Variables that neither Python nor a library has read when it is imported; and all that begin with the next."""

_OURS = ("TUNECTL_", "MADE_UP_", "TOY_")
_POLL_SECONDS = 0.001
Start = Callable[[Sequence[str], socket.socket, IO[bytes], Mapping[str, str]], subprocess.Popen[bytes]]


class WarmServers:
    """Starts servers as `start` does; those of the usual worker and of toys, in this environment, as forks of a warm
    process.
    """

    def __init__(self, start: Start, environment: Mapping[str, str]) -> None:
        self._cold = start
        self._environment = {**environment}
        self._warm: dict[str, _WarmProcess] = {}

    def start(
        self, arguments: Sequence[str], end: socket.socket, output: IO[bytes], environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        usual = {**self._environment}
        if arguments[0] == _TOYS:
            usual["PYTHONPATH"] = str(_TESTS)
        is_usual = arguments[0] in (_WORKER, _TOYS) and _read_early(environment) == _read_early(usual)
        if not is_usual or not sys.platform.startswith("linux"):
            return self._cold(arguments, end, output, environment)
        kind = _TOYS if arguments[0] == _TOYS else "own" if "own" in arguments else "usual"
        fds = [end.fileno(), output.fileno()]
        return cast("subprocess.Popen[bytes]", self._of(kind, usual).fork(kind, arguments, environment, fds))

    def start_toy_program(self, words: Sequence[str]) -> ForkedProcess:
        """`tunectl` with these words, in a process and session of its own; the trials of a worker are toys."""
        warm = self._of(_TOY_PROGRAMS, {**self._environment, "PYTHONPATH": str(_TESTS)})
        return warm.fork(_TOY_PROGRAMS, words, os.environ, [1, 2])

    def start_program(
        self, words: Sequence[str], environment: Mapping[str, str], out: IO[str], err: IO[str]
    ) -> ForkedProcess:
        """`tunectl` with these words, in a process and session of its own, which has imported what servers import.

        Its runs draw no pictures. For tests of what several commands do together; what a command imports is another
        matter (test_commands).
        """
        return self._of("usual", self._environment).fork(_PROGRAMS, words, environment, [out.fileno(), err.fileno()])

    def _of(self, kind: str, environment: Mapping[str, str]) -> _WarmProcess:
        if kind not in self._warm:
            self._warm[kind] = _WarmProcess.started(environment, kind)
        return self._warm[kind]

    def close(self) -> None:
        for warm in self._warm.values():
            warm.close()
        self._warm.clear()


class _WarmProcess:
    """The process that has imported what processes of a kind import."""

    def __init__(self, end: socket.socket, wait: Callable[[], int]) -> None:
        self._socket, self._wait = end, wait

    @classmethod
    def started(cls, environment: Mapping[str, str], kind: str) -> Self:
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno()), str(os.getpid()), kind],
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**environment, **dict.fromkeys((MARK, TEST_MARK), " " * _MARK_BYTES)},
            )
        return cls(ours, process.wait)

    @classmethod
    def forked(cls, kind: str) -> Self:
        """A fork of this process, for servers of a kind, which ends with it."""
        parent = os.getpid()
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            try:
                ours.close()
                sys.path.insert(0, str(_TESTS))
                _main(str(theirs.detach()), str(parent), kind)
            finally:
                os._exit(1)
        theirs.close()
        return cls(ours, ForkedProcess(pid).wait)

    def fork(
        self, kind: str, arguments: Sequence[str], environment: Mapping[str, str], fds: Sequence[int]
    ) -> ForkedProcess:
        """A process of this kind, with these descriptors for it: a server's end, if it has one, and for its output."""
        wanted = {
            "kind": kind,
            "arguments": [*arguments],
            "environment": {**environment},
            "cwd": os.getcwd(),  # noqa: PTH109
            "parent": os.getpid(),
        }
        # It is a grandchild of the warm process, whose parent ends at once: so it becomes a child of ours.
        prctl(_PR_SET_CHILD_SUBREAPER, 1)
        try:
            socket.send_fds(self._socket, [_line(wanted)], fds)
            answer = self._socket.makefile("rb", buffering=0).readline()
        finally:
            prctl(_PR_SET_CHILD_SUBREAPER, 0)
        if not answer:
            raise RuntimeError(f"the process that is forked ended with {self._wait()}")
        return ForkedProcess(json.loads(answer)["pid"])

    def close(self) -> None:
        self._socket.close()
        self._wait()


class ForkedProcess:
    """What the backend and tests need of a `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("a forked process", timeout or 0.0)
            time.sleep(_POLL_SECONDS)
        return cast(int, self.returncode)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def unflushed(fd: int | HasFileno) -> None:
    """As `os.fsync`, without waiting for the disk: that has an effect only where a machine loses its power."""
    os.fstat(fd if isinstance(fd, int) else fd.fileno())


def _read_early(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in _READ_LATE and not name.startswith(_OURS)}


def _line(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content) + "\n").encode("ascii")


def _warm_up(kind: str) -> None:
    if kind == _TOYS:
        return
    if kind == _TOY_PROGRAMS:
        sys.path.append(str(_TESTS / "contracts"))
        importlib.import_module(_TOY_PROGRAMS)
        importlib.import_module("pydantic")
        typer: Any = importlib.import_module("typer.main")
        typer.get_command = functools.cache(typer.get_command)
        typer.get_command(importlib.import_module("tunectl.cli.main").app)
        return
    worker.warm_up(own_code=kind == "own")
    if kind == "own":  # a function needs torch as well; what a command prints does not depend on it
        for name in worker._LOADED_BEFORE_A_FUNCTION:
            importlib.import_module(name)
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(worker._IMPORTED_AT_THE_END)


def _serve(end: socket.socket) -> None:
    while True:
        content, fds = b"", list[int]()
        while not content.endswith(b"\n"):
            part, more, _flags, _address = socket.recv_fds(end, 1 << 20, 2)
            if not part:
                return
            content, fds = content + part, fds + more
        end.sendall(_line({"pid": _fork_grandchild(functools.partial(_become, end, json.loads(content), fds))}))
        for fd in fds:
            os.close(fd)


def _fork_grandchild(call: Callable[[], NoReturn]) -> int:
    """Fork twice, and give the pid of the second, which has another parent by then."""
    reading, writing = os.pipe()
    between = os.fork()
    if between == 0:
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            os.close(writing)
            call()
        os.write(writing, str(pid).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:
        os.waitpid(between, 0)
        return int(answer.read())


def _become(end: socket.socket, wanted: Mapping[str, Any], fds: Sequence[int]) -> NoReturn:
    code = 1
    try:
        end.close()
        *ends, output = fds
        if wanted["kind"] in (_PROGRAMS, _TOY_PROGRAMS):
            os.dup2(ends.pop(), 1)
        else:
            os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        os.setsid()
        os.chdir(wanted["cwd"])
        _set_environment(wanted["environment"])
        while os.getppid() != wanted["parent"]:
            time.sleep(_POLL_SECONDS)
        if wanted["kind"] in (_PROGRAMS, _TOY_PROGRAMS):
            _run_program(wanted["kind"], wanted["arguments"])
        sys.argv = [server.__file__, *map(str, ends), *wanted["arguments"]]
        server.main(sys.argv[1:])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _run_program(kind: str, words: Sequence[str]) -> None:
    """Run `tunectl`, whose servers are forks as well; it ends by SystemExit."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    servers = WarmServers(start_server, {**os.environ, **server_environment()})
    servers_of = _TOYS if kind == _TOY_PROGRAMS else "usual"
    servers._warm[servers_of] = _WarmProcess.forked(servers_of)
    mock.patch("tunectl.execution.backends.local.start_server", servers.start).start()
    if words[0] == "run":
        mock.patch("tunectl.report.plots.draw_all", return_value=[]).start()
    sys.argv = ["tunectl", *words]
    if kind == _TOY_PROGRAMS:
        importlib.import_module(_TOY_PROGRAMS).run()
    else:
        importlib.import_module("tunectl.cli.main").main()


@functools.cache
def _place_of(mark: str) -> int:
    """Where a mark is in the environment with which the warm process was started: there it is looked for."""
    library = ctypes.CDLL(None)
    library.getenv.restype = ctypes.c_void_p
    return int(library.getenv(mark.encode()))


def _set_environment(environment: Mapping[str, str]) -> None:
    for mark in (MARK, TEST_MARK):
        value = environment.get(mark, "").encode()
        assert len(value) <= _MARK_BYTES, value
        ctypes.memmove(_place_of(mark), value.ljust(_MARK_BYTES, b"\0"), _MARK_BYTES)
    os.environ.clear()
    os.environ.update(environment)
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))


def _main(fd: str, parent: str, kind: str) -> None:
    parent_death.die_with_parent(int(parent))
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.fsync = unflushed
    _warm_up(kind)
    _serve(socket.socket(fileno=int(fd)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
