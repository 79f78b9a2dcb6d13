"""The fork server: loads the workload once, forks a process for each trial, and leaves no process behind.

The runner's main thread starts it as `python -P -m tunectl.execution.server FD WORKER PID [own]`, in a new session. FD
is the server's end of a socket pair. When the other end closes, however the runner ended, the server kills every
trial's process group, waits for it, and ends.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any, NoReturn, cast

from tunectl.core import parent_death, regular_files
from tunectl.core.files import UNWRITABLE, unnamed_file
from tunectl.core.folders import TrialFolder
from tunectl.core.path_errors import system_reason
from tunectl.core.records import FactorySignature, WorkloadReference
from tunectl.core.shortages import patiently
from tunectl.execution import failures, fork_hazards, interpreter_end, process_launch, processes
from tunectl.execution.protocol import EXIT_UNWRITTEN, Assignment, Connection, Worker
from tunectl.execution.stop_signals import STOP_SIGNALS
from tunectl.workloads.data import data_notes
from tunectl.workloads.imported_files import imported_files
from tunectl.workloads.shadowed_modules import shadowed

_GROUP_CHECK_MILLISECONDS = 5
_OUTPUT_TAIL_BYTES = 2000
_OTHER_CHILDREN_SECONDS = 5.0


@dataclass(slots=True)
class _Child:
    """A process that the server started, from its launch until its whole process group has ended."""

    assignment: Assignment
    pid: int
    launched: float
    answer: IO[bytes] | None = None
    output: IO[bytes] | None = None
    status: int | None = None


@dataclass(frozen=True, slots=True)
class _Wakeup:
    """A socket that becomes readable when a child dies, and the descriptor that the signal writes to."""

    reading: socket.socket
    writing: int

    def fileno(self) -> int:
        return self.reading.fileno()

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self.reading.recv(4096):
                pass


class _NoLogError(OSError):
    """The log of a trial cannot be written, since its disk is full, read-only or broken."""


@dataclass(slots=True)
class _Server:
    connection: Connection
    worker: Worker
    worker_name: str
    hazard: str
    wakeup: _Wakeup
    other_children: frozenset[int]
    children: dict[tuple[str, int], _Child] = field(default_factory=dict)
    held: list[int] = field(default_factory=list)

    def serve(self, early: Iterable[Mapping[str, Any]]) -> None:
        """Handle the runner's messages, `early` first, until its end of the socket closes; then end every child."""
        poller = select.poll()
        poller.register(self.connection, select.POLLIN)
        poller.register(self.wakeup, select.POLLIN)
        try:
            self.handle(early)
            while not self.connection.closed:
                is_ending = any(child.status is not None for child in self.children.values())
                for fd, _events in poller.poll(_GROUP_CHECK_MILLISECONDS if is_ending else None):
                    if fd == self.connection.fileno():
                        messages, fds = self.connection.receive()
                        self.held += fds
                        self.handle(messages)
                self._report_ended()
        finally:
            self._end_all()

    def handle(self, messages: Iterable[Mapping[str, Any]]) -> None:
        """Do what these messages ask; raises ValueError for an unknown operation."""
        for message in messages:
            match message["op"]:
                case "launch":
                    self._launch(Assignment.from_json(message["assignment"]))
                case "signal":
                    self._signal(message)
                case "load" | "hold":
                    pass  # the workload is loaded already; `held` has had the file descriptors since the message came
                case op:
                    raise ValueError(f"expected launch, signal, load or hold, got {op!r}")

    def _launch(self, assignment: Assignment) -> None:
        launched = time.monotonic()
        child = _Child(assignment, 0, launched)
        try:
            child = patiently(lambda: self._start(assignment, launched))
        except _NoLogError as error:
            # As a trial ends that cannot write its files: the disk is at fault, and the next one would end so, too.
            answer = json.dumps({"code": EXIT_UNWRITTEN, "message": f"its log cannot be written: {error}"})
            self._send_ended(child, {"answer": answer})
            return
        except OSError as error:
            self._send_ended(child, {"code": None, "message": f"its process could not be started: {error}"})
            return
        key = (assignment.task, assignment.number)
        self.children[key] = child
        started = processes.start_time(child.pid)
        self.connection.send(
            {"event": "launched", "task": key[0], "number": key[1], "pid": child.pid, "started": started}
        )

    def _start(self, assignment: Assignment, launched: float) -> _Child:
        with contextlib.ExitStack() as opened:
            answer = opened.enter_context(unnamed_file())
            assignment = replace(assignment, answer=answer.fileno())
            if assignment.task == "trial":
                within = TrialFolder(Path(assignment.folder)).study
                log = _opened_log(Path(assignment.log), within)
                try:
                    child = _Child(assignment, self._new_process(assignment, log), launched, answer)
                finally:
                    os.close(log)
            else:
                output = opened.enter_context(unnamed_file())
                pid = self._new_process(assignment, output.fileno())
                child = _Child(assignment, pid, launched, answer, output)
            opened.pop_all()  # closed when the end of the child is sent
            return child

    def _new_process(self, assignment: Assignment, output: int) -> int:
        if self.hazard:
            return process_launch.spawn(assignment, self.worker_name, output, (*self.held, assignment.answer))
        own = (self.connection.fileno(), self.wakeup.fileno(), self.wakeup.writing)
        return process_launch.fork(assignment, self.worker, output, own)

    def _signal(self, message: Mapping[str, Any]) -> None:
        child = self.children.get((message["task"], message["number"]))
        # Once its status is known, the pid may belong to another process; its group is killed anyway.
        if child is None or child.status is not None:
            return
        if message["group"]:
            processes.signal_group(child.pid, message["signal"])
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, message["signal"])

    def _report_ended(self) -> None:
        """Wait for children that ended, kill what they left running, and report those of which nothing is left."""
        self.wakeup.clear()
        self._reap()
        ended = [child for child in self.children.values() if child.status is not None]
        if not ended:
            return
        # A running trial adopts the orphans among its descendants. So any other child of the server was left by a trial
        # that ended, even where it has left the trial's group and session.
        leaders = {child.pid for child in self.children.values() if child.status is None}
        strays = processes.children() - leaders - self.other_children
        for pid in strays:
            processes.kill(pid)
        for child in ended:
            if not processes.signal_group(child.pid, signal.SIGKILL) and not strays:
                del self.children[child.assignment.task, child.assignment.number]
                code = os.waitstatus_to_exitcode(cast(int, child.status))
                self._send_ended(child, {"code": code} if code >= 0 else {"signal": -code})
                self.worker.catch_up()

    def _reap(self) -> None:
        by_pid = {child.pid: child for child in self.children.values() if child.status is None}
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid in by_pid:
                    by_pid[pid].status = status
                    processes.signal_group(pid, signal.SIGKILL)

    def _send_ended(self, child: _Child, ending: Mapping[str, Any]) -> None:
        seconds = time.monotonic() - child.launched
        event = {"event": "ended", "task": child.assignment.task, "number": child.assignment.number, "seconds": seconds}
        with contextlib.ExitStack() as files:
            if child.answer is not None:
                files.enter_context(child.answer)
                child.answer.seek(0)
                event["answer"] = child.answer.read().decode("utf-8", "replace")
            if child.output is not None:
                files.enter_context(child.output)
                event["output"] = processes.output_tail(child.output, _OUTPUT_TAIL_BYTES)
        self.connection.send({**event, "pid": child.pid, "code": None, "signal": None, "message": "", **ending})

    def _end_all(self) -> None:
        for child in self.children.values():
            if child.status is None:
                processes.signal_group(child.pid, signal.SIGKILL)
        poller = select.poll()
        poller.register(self.wakeup, select.POLLIN)
        while self.children:
            poller.poll(_GROUP_CHECK_MILLISECONDS)
            self._report_ended()


def _opened_log(path: Path, within: Path) -> int:
    """The descriptor of a trial's log; raises _NoLogError where the disk takes no file, or another OSError."""
    try:
        return regular_files.open_to_append(path, within=within)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise _NoLogError(error.errno, system_reason(error), error.filename) from error


def _end_other_children() -> None:
    """Kill the processes that loading the workload left running, and wait for them."""
    deadline = time.monotonic() + _OTHER_CHILDREN_SECONDS
    while left := processes.children() - {_resource_tracker()}:
        for pid in left:
            processes.kill(pid)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        if time.monotonic() > deadline:
            return
        time.sleep(_GROUP_CHECK_MILLISECONDS / 1000)


def _resource_tracker() -> int | None:
    # multiprocessing starts it: it frees shared memory when the server has ended, and then ends by itself.
    tracker = getattr(sys.modules.get("multiprocessing.resource_tracker"), "_resource_tracker", None)
    return getattr(tracker, "_pid", None)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What was loaded: the factory's signature (None where it was not loaded), warnings (each file of the user that a
    loaded module hides; what is unusual about the data), the messages that the runner sent meanwhile, and the files of
    the user that were imported.
    """

    signature: FactorySignature | None
    warnings: Sequence[str]
    messages: Sequence[Mapping[str, Any]]
    fds: list[int]
    files: Sequence[str] = ()


def _load(worker: Worker, connection: Connection, *, own_code: bool) -> _Loaded | failures.Failure | None:
    """Load the libraries while the runner reads the study, then the workload; None where the runner has ended."""
    in_this_process = not fork_hazards.platform_hazard()
    try:
        if in_this_process:
            worker.warm_up(own_code=own_code)
        messages, fds = _messages_until_load(connection)
        load = next((message for message in messages if message["op"] == "load"), None)
        if load is None:
            return None
        reference, *code = (
            WorkloadReference(**{**content, "search_path": tuple(content["search_path"])})
            for content in (load["workload"], *load["code"])
        )
        if not in_this_process:
            return _Loaded(None, (), messages, fds)
        before = set(sys.modules)
        signature = worker.preload(reference, load["arguments"], code)
        warnings = [*shadowed(reference.search_path), *data_notes.taken()]
        return _Loaded(signature, warnings, messages, fds, imported_files(before))
    except SystemExit as wish:
        message = f"loading the workload called sys.exit({wish.code!r})"
        described = failures.describe(wish)
        return failures.Failure(message, described.where, described.text)
    except BaseException as error:
        return failures.describe(error)


def _listen_for_children() -> _Wakeup:
    # After the preload, which may have set other handlers.
    reading, writing = socket.socketpair()
    for end in (reading, writing):
        end.setblocking(False)
    wakeup = _Wakeup(reading, writing.detach())
    signal.signal(signal.SIGCHLD, _nothing)
    signal.set_wakeup_fd(wakeup.writing, warn_on_full_buffer=False)
    return wakeup


def _ignore_stop_signals() -> None:
    for number in STOP_SIGNALS:
        # Under nohup SIGHUP stays ignored, also in the programs that trials start.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _nothing)
    # A batch system sends this one to all processes of a job some time before its end. It is for the worker that
    # started this server, and would kill a program of a trial; ignored, it is ignored in programs, too.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def _nothing(_number: int, _frame: object) -> None:
    """Unlike SIG_IGN, a handler is not inherited by programs that are started, and a blocked signal stays pending."""


def _messages_until_load(connection: Connection) -> tuple[list[dict[str, Any]], list[int]]:
    """The messages up to the one that names the workload."""
    messages: list[dict[str, Any]] = []
    fds: list[int] = []
    while not any(message["op"] == "load" for message in messages) and not connection.closed:
        more, more_fds = connection.receive()
        messages += more
        fds += more_fds
    return messages, fds


def _run(end: socket.socket, worker_name: str, *, own_code: bool) -> None:
    begun = time.monotonic()
    processes.adopt_orphans()
    connection = Connection(end)
    worker = cast(Worker, importlib.import_module(worker_name))
    loaded = _load(worker, connection, own_code=own_code)
    if loaded is None:
        return
    if isinstance(loaded, failures.Failure):
        connection.send(
            {"event": "refused", "message": loaded.message, "where": loaded.where, "traceback": loaded.text}
        )
        return
    _ignore_stop_signals()
    hazard = fork_hazards.fork_hazard()
    gc.collect()
    interpreter_end.remember_open_files()
    gc.freeze()
    wakeup = _listen_for_children()
    server = _Server(connection, worker, worker_name, hazard, wakeup, frozenset(processes.children()), held=loaded.fds)
    parent_death.outlive_parent()
    mode = "spawn" if hazard else "fork"
    ready = {"event": "ready", "seconds": time.monotonic() - begun, "mode": mode, "reason": hazard}
    signature = loaded.signature and asdict(loaded.signature)
    connection.send({**ready, "signature": signature, "warnings": list(loaded.warnings), "files": list(loaded.files)})
    server.serve(loaded.messages)


def main(arguments: Sequence[str]) -> NoReturn:
    """Serve, and end the process; `arguments` are the file descriptor, the worker's module, the runner's pid, and
    "own" where the user's own code is expected to train.
    """
    # Until it serves, it dies with the runner, even in the middle of a long import.
    parent_death.die_with_parent(int(arguments[2]))
    _ignore_stop_signals()
    end = socket.socket(fileno=int(arguments[0]))
    end.set_inheritable(False)
    code = 1
    try:
        _run(end, arguments[1], own_code="own" in arguments[3:])
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        _end_other_children()
        process_launch.flush_standard_streams()
        os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
