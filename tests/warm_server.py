"""What lets the tests run fast: nothing waits for the disk, and fork servers start as forks of one that is warm.

A server that is started takes 1.5 s to import torch, which is most of the time of a small study. Here one process per
test process imports what servers import, and every server is a fork of it: with its own environment, session, mark and
current folder, and a child of the test process, as if it had been started. `python tests/warm_server.py FD PARENT KIND`
is that one process; there is another one for toys, whose servers need no torch, but half a second to start. Servers are
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
from typing import IO, TYPE_CHECKING, Any, NoReturn, cast

from tunectl.core import parent_death
from tunectl.core.parent_death import MARK, prctl
from tunectl.execution import server, worker

if TYPE_CHECKING:
    from _typeshed import HasFileno

_WORKER = "tunectl.execution.worker"
_TOYS = "toy_worker"
_PR_SET_CHILD_SUBREAPER = 36
_MARK_BYTES = 200
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
            usual["PYTHONPATH"] = str(Path(__file__).parent)
        is_usual = arguments[0] in (_WORKER, _TOYS) and _read_early(environment) == _read_early(usual)
        if not is_usual or not sys.platform.startswith("linux"):
            return self._cold(arguments, end, output, environment)
        kind = _TOYS if arguments[0] == _TOYS else "own" if "own" in arguments else "usual"
        if kind not in self._warm:
            self._warm[kind] = _WarmProcess(usual, kind)
        return cast("subprocess.Popen[bytes]", self._warm[kind].fork(arguments, end, output, environment))

    def close(self) -> None:
        for warm in self._warm.values():
            warm.close()
        self._warm.clear()


class _WarmProcess:
    """The process that has imported what servers of a kind (usual, own, toys) import, in `environment`."""

    def __init__(self, environment: Mapping[str, str], kind: str) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno()), str(os.getpid()), kind],
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**environment, MARK: " " * _MARK_BYTES},
            )

    def fork(
        self, arguments: Sequence[str], end: socket.socket, output: IO[bytes], environment: Mapping[str, str]
    ) -> _ForkedServer:
        wanted = {"arguments": [*arguments], "environment": {**environment}, "cwd": os.getcwd(), "parent": os.getpid()}  # noqa: PTH109
        # The server is a grandchild of the warm process, whose parent ends at once: so it becomes a child of ours.
        prctl(_PR_SET_CHILD_SUBREAPER, 1)
        try:
            socket.send_fds(self._socket, [_line(wanted)], [end.fileno(), output.fileno()])
            answer = self._socket.makefile("rb", buffering=0).readline()
        finally:
            prctl(_PR_SET_CHILD_SUBREAPER, 0)
        if not answer:
            raise RuntimeError(f"the process that forks servers ended with {self._process.wait()}")
        return _ForkedServer(json.loads(answer)["pid"])

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


class _ForkedServer:
    """What the backend needs of a `subprocess.Popen`."""

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
                raise subprocess.TimeoutExpired("a forked server", timeout or 0.0)
            time.sleep(_POLL_SECONDS)
        return cast(int, self.returncode)


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
        end.sendall(_line({"pid": _fork_grandchild(functools.partial(_become_server, end, json.loads(content), fds))}))
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


def _become_server(end: socket.socket, wanted: Mapping[str, Any], fds: Sequence[int]) -> NoReturn:
    try:
        end.close()
        ours, output = fds
        for target in (1, 2):
            os.dup2(output, target)
        os.close(output)
        os.setsid()
        os.chdir(wanted["cwd"])
        _set_environment(wanted["environment"])
        while os.getppid() != wanted["parent"]:
            time.sleep(_POLL_SECONDS)
        sys.argv = [server.__file__, str(ours), *wanted["arguments"]]
        server.main(sys.argv[1:])
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(1)


def _set_environment(environment: Mapping[str, str]) -> None:
    # The mark is looked for in the environment with which a process was started, which has room for it.
    library = ctypes.CDLL(None)
    library.getenv.restype = ctypes.c_void_p
    ctypes.memmove(library.getenv(MARK.encode()), environment[MARK].encode().ljust(_MARK_BYTES, b"\0"), _MARK_BYTES)
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
