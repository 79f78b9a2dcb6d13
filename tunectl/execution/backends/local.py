"""Trials on this machine, forked off one server that has loaded the workload."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from tunectl.core.errors import TunectlError
from tunectl.core.files import unnamed_file
from tunectl.core.folders import TrialFolder
from tunectl.core.own_code_request import Request
from tunectl.core.parent_death import MARK
from tunectl.core.path_errors import system_reason
from tunectl.core.records import WorkloadReference
from tunectl.core.shortages import patiently
from tunectl.execution import processes
from tunectl.execution.backends import Ended, Report, Started
from tunectl.execution.backends.server_answers import checkpoint_bytes, signature_of, trial_end, workload_error
from tunectl.execution.events import ServerReady
from tunectl.execution.protocol import Assignment, Connection
from tunectl.execution.slots import Slot, thread_environment

_CLOSE_SECONDS = 15.0
_GROUP_GONE_SECONDS = 10.0
_POLL_SECONDS = 0.01
_SECONDS_BETWEEN_LOOKS = 0.1  # how often a stop is looked for while the workload loads or is tried
_OUTPUT_TAIL_BYTES = 4000
_MOST_ORDERS = 3
"""How often a trial is launched that no server lived to start: the launch itself may be what kills them."""


@dataclass(slots=True)
class _Process:
    """What the runner knows of a trial's process: the order by which it was launched, how often that was sent, and
    whether a signal was; `pid` 0 until the server has told.
    """

    launched: float
    order: Mapping[str, Any]
    result: Path
    orders: int = 1
    signalled: bool = False
    pid: int = 0
    started: int | None = None

    @property
    def never_ran(self) -> bool:
        """Whether the launch can be ordered again as if nothing had been: no sign of it, and no wish to end it."""
        seen = self.pid or self.signalled or self.result.exists()
        # Without /proc nobody can be found by the mark, and the process may be there unseen.
        return not seen and self.orders < _MOST_ORDERS and processes.PROC.exists()


@dataclass(slots=True)
class _ServerProcess:
    process: subprocess.Popen[bytes]
    connection: Connection
    output: IO[bytes]
    ready: ServerReady | None = None
    refused: Mapping[str, Any] | None = None


class LocalBackend:
    """The processes of this machine, under a fork server (tunectl.execution.server).

    The workload is loaded once, by the server. `environ` is the environment of all that is started (default: this
    process's). `worker` names the module that does the work.
    """

    def __init__(self, environ: Mapping[str, str] | None = None, worker: str = "tunectl.execution.worker") -> None:
        self._workload: WorkloadReference | None = None
        self._environ = environ
        self._worker = worker
        self._server: _ServerProcess | None = None
        self._processes: dict[int, _Process] = {}
        self._held: list[int] = []
        self._reports: list[Report] = []
        self._answers: dict[int, Mapping[str, Any]] = {}
        self._probes = 0
        self._starts = 0
        self._mark = ""
        self._died_loading = 0
        self._own_code = False

    def start(self, *, own_code: bool = False) -> None:
        """Start the server and return. From the main thread: a loading server dies with the thread that started it.

        Raises TunectlError where the system has no room for it.
        """
        self._own_code = self._own_code or own_code
        try:
            patiently(self._start)
        except OSError as error:
            raise TunectlError(
                f"the fork server cannot be started: {system_reason(error)}; the system may be short of processes, "
                "open files or memory"
            ) from error
        if self._workload is not None:
            self.load(self._workload)

    def _start(self) -> None:
        self._starts += 1
        self._mark = f"{processes.mark_of(os.getpid(), processes.start_time(os.getpid()))}{id(self)}.{self._starts}."
        inherited = os.environ if self._environ is None else self._environ
        environment = {**inherited, **_server_environment(), MARK: self._mark}
        # -P: a user's random.py in the current folder must not replace Python's. The workload's folders are added when
        # it is loaded.
        with contextlib.ExitStack() as opened:
            output = opened.enter_context(unnamed_file())
            ours, theirs = (opened.enter_context(end) for end in socket.socketpair())
            arguments = [str(theirs.fileno()), self._worker, str(os.getpid()), *(["own"] if self._own_code else [])]
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tunectl.execution.server", *arguments],
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
            )
            opened.pop_all()  # closed with the server
            theirs.close()
        self._server = _ServerProcess(process, Connection(ours), output)

    def load(self, workload: WorkloadReference) -> None:
        """Let the server load the workload, now or once it has loaded its libraries."""
        self._workload = workload
        self._send({"op": "load", "workload": asdict(workload)}, self._held)

    def wait_ready(self, stop_requested: Callable[[], int] = lambda: 0) -> ServerReady | None:
        """Wait until trials can start; see Backend."""
        server = self._running_server()
        if self._workload is None:
            raise RuntimeError("load() comes first")
        while server.ready is None:
            if stop_requested():
                return None
            self._receive(_SECONDS_BETWEEN_LOOKS)
            if server.refused is not None:
                self._raise_refused(server.refused)
            if server.ready is None and server.connection.closed:
                server = self._load_once_more(server)
        return server.ready

    def probe(self, request: Request, slot: Slot, stop_requested: Callable[[], int] = lambda: 0) -> int | None:
        """Build and try the workload in a process of its own; see Backend."""
        ending = self._probed(request, slot, stop_requested)
        if ending is not None and ending["signal"] == signal.SIGKILL and not stop_requested():
            # As while the workload loads: the one kill may say nothing about the workload.
            if self._server is None:
                self.start()
            ending = self._probed(request, slot, stop_requested)
        return None if ending is None or stop_requested() else checkpoint_bytes(ending)

    def _probed(self, request: Request, slot: Slot, stop_requested: Callable[[], int]) -> Mapping[str, Any] | None:
        """How the process of a probe ended; None when a stop was asked for."""
        self._probes += 1
        number = self._probes
        assignment = Assignment(
            "probe", number, slot.torch_device, slot.device.label, slot.environment, request=request.to_json()
        )
        if self.wait_ready(stop_requested) is None:
            return None
        server = self._running_server()
        self._send({"op": "launch", "assignment": assignment.to_json()})
        while number not in self._answers:
            if server.connection.closed:
                return self._ended_with_server()
            if stop_requested():
                self._send({"op": "signal", "kind": "probe", "number": number, "signal": signal.SIGKILL, "group": True})
                return None
            self._receive(_SECONDS_BETWEEN_LOOKS)
        return self._answers.pop(number)

    def _ended_with_server(self) -> Mapping[str, Any]:
        """How a probe ended whose server died."""
        how = self._end_server()
        self._kill_what_is_left()
        killed = signal.SIGKILL if how == processes.describe_exit(None, signal.SIGKILL) else None
        return {"signal": killed, "code": None, "message": f"lost its fork server, which {how}"}

    def hold(self, fd: int) -> None:
        """Let the server, and every process it starts from now on, hold a copy of the descriptor."""
        self._held.append(fd)
        if self._server is not None:
            self._send({"op": "hold"}, (fd,))

    def launch(self, trial: int, folder: Path, slot: Slot, attempt: int) -> None:
        """Start a trial; see Backend."""
        launched = time.monotonic()
        files = TrialFolder(folder.absolute())
        assignment = Assignment(
            "trial",
            trial,
            slot.torch_device,
            slot.device.label,
            slot.environment,
            folder=str(files.path),
            log=str(files.log),
            attempt=attempt,
            launched=launched,
        )
        order = {"op": "launch", "assignment": assignment.to_json()}
        self._processes[trial] = _Process(launched, order, files.result)
        self._send(order)

    def poll(self, timeout_seconds: float) -> Sequence[Report]:
        """What has happened; starts another server where this one died. Raises TunectlError where that cannot load."""
        server = self._running_server()
        self._receive(0.0 if self._reports else timeout_seconds)
        if server.connection.closed:
            self._replace_server(server)
        reports, self._reports = self._reports, []
        return reports

    def stop(self, trial: int) -> None:
        """SIGTERM to the trial's first process."""
        self._signal(trial, signal.SIGTERM, group=False)

    def kill(self, trial: int) -> None:
        """SIGKILL to the trial's process group."""
        self._signal(trial, signal.SIGKILL, group=True)

    def close(self) -> None:
        """End the server and, through it, every trial; kills the groups itself where the server does not."""
        if self._server is None:
            return
        # A server that still loads has no trials to end, and does not look at its socket before it has loaded.
        self._receive(0.0)
        patience = _POLL_SECONDS if self._server.ready is None else _CLOSE_SECONDS
        self._server.connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._server.process.wait(patience)
        self._end_server()
        self._kill_what_is_left()
        self._processes.clear()

    def _running_server(self) -> _ServerProcess:
        if self._server is None:
            raise RuntimeError("start() comes first")
        return self._server

    def _send(self, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        self._running_server().connection.send(message, fds)

    def _signal(self, trial: int, number: int, *, group: bool) -> None:
        if trial in self._processes:
            self._processes[trial].signalled = True
        self._send({"op": "signal", "kind": "trial", "number": trial, "signal": int(number), "group": group})

    def _receive(self, timeout_seconds: float | None) -> None:
        server = self._running_server()
        if server.connection.fileno() < 0:
            return
        poller = select.poll()
        poller.register(server.connection, select.POLLIN)
        timeout = None if timeout_seconds is None else max(0.0, timeout_seconds) * 1000
        # What a dead server said before it died is still read: the socket gives the end of file last.
        while poller.poll(timeout):
            for message in server.connection.receive()[0]:
                self._note(server, message)
            if server.connection.closed:
                return
            timeout = 0.0

    def _note(self, server: _ServerProcess, message: Mapping[str, Any]) -> None:
        event = message["event"]
        if event == "ready":
            server.ready = ServerReady(
                message["seconds"],
                message["mode"],
                message["reason"],
                signature_of(message["signature"]),
                tuple(message["shadowed"]),
            )
            self._died_loading = 0
            self._reports.append(server.ready)
        elif event == "refused":
            server.refused = message
        elif message["kind"] == "probe":
            if event == "ended":
                self._answers[message["number"]] = message
        elif event == "launched":
            known = self._processes[message["number"]]
            known.pid, known.started = message["pid"], message["started"]
            self._reports.append(Started(message["number"], message["pid"]))
        else:
            del self._processes[message["number"]]
            self._reports.append(trial_end(message))

    def _replace_server(self, server: _ServerProcess) -> None:
        """Report every trial of a server that died as lost, once its group is gone, and start another server."""
        if server.refused is not None:
            self._raise_refused(server.refused)
        if server.ready is None:
            self._load_once_more(server)
            return
        how = self._end_server()
        self._kill_what_is_left()
        self._start_again(how)

    def _kill_what_is_left(self) -> None:
        """Kill the trials' groups, and what left its group but bears the server's mark; wait until all are gone."""
        # The leader's pid names the group as long as anything of the group is left; another process under that pid
        # (another start time) means that nothing is.
        groups = [
            known.pid
            for known in self._processes.values()
            if known.pid and processes.start_time(known.pid) in (known.started, None)
        ]
        deadline = time.monotonic() + _GROUP_GONE_SECONDS
        killed: dict[int, int | None] = {}
        while True:
            groups = [
                group
                for group in groups
                if processes.signal_group(group, signal.SIGKILL) and processes.group_is_running(group)
            ]
            strays = processes.with_mark(self._mark)
            for pid in strays:
                killed.setdefault(pid, processes.start_time(pid))
                processes.kill(pid)
            # One that is dying has no environment any more, and may still hold files open.
            dying = any(processes.is_alive(pid, started) for pid, started in killed.items())
            if not (groups or strays or dying) or time.monotonic() > deadline:
                return
            time.sleep(_POLL_SECONDS)

    def _end_server(self) -> str:
        """Make sure that the server is gone and reaped, and say in words how it ended."""
        server = self._running_server()
        server.connection.close()
        if server.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.process.wait(_POLL_SECONDS)
        if server.process.poll() is None:
            processes.signal_group(server.process.pid, signal.SIGKILL)
        code = server.process.wait()
        server.output.close()
        self._server = None
        return processes.describe_exit(code, -code if code < 0 else None)

    def _raise_refused(self, refused: Mapping[str, Any]) -> None:
        self._end_server()
        self._kill_what_is_left()
        raise workload_error("the workload could not be loaded", refused)

    def _load_once_more(self, server: _ServerProcess) -> _ServerProcess:
        """Start another server in place of one that was killed while it loaded; raises TunectlError at the second.

        The one kill may have come from outside, or have met a machine that was short of memory for a moment.
        """
        tail = processes.output_tail(server.output, _OUTPUT_TAIL_BYTES)
        how = self._end_server()
        self._kill_what_is_left()
        self._died_loading += 1
        if self._died_loading > 1 or how != processes.describe_exit(None, signal.SIGKILL):
            raise TunectlError(
                f"the process that loads the workload {how}" + (f"; its last output:\n{tail}" if tail else "")
            )
        self._start_again(how)
        return self._running_server()

    def _start_again(self, how: str) -> None:
        """Start another server, and order again the launches that the last one did not live to see; the other trials
        are lost.
        """
        now = time.monotonic()
        for trial, known in sorted(self._processes.items()):
            if not known.never_ran:
                message = f"the fork server {how} and took the trial with it"
                self._reports.append(Ended(trial, None, None, now - known.launched, lost=True, message=message))
                del self._processes[trial]
        self.start()
        for _, known in sorted(self._processes.items()):
            known.orders += 1
            self._send(known.order)


def _server_environment() -> dict[str, str]:
    # One thread, so that it can be forked; and no CUDA context where an import asks whether there is a GPU.
    return {**thread_environment(1), "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
