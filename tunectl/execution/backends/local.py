"""The local backend: trials on this machine, each a fork of a server that has loaded the workload."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunectl.core.errors import TunectlError
from tunectl.core.files import unnamed_file
from tunectl.core.folders import TrialFolder
from tunectl.core.own_code_request import Request
from tunectl.core.parent_death import MARK
from tunectl.core.path_errors import system_reason
from tunectl.core.probed_trial import ProbedTrial
from tunectl.core.records import Scalar, WorkloadReference
from tunectl.core.shortages import patiently
from tunectl.execution import processes
from tunectl.execution.backends.backend import BackendEvent, BackendReady, ProcessEnded, ProcessStarted
from tunectl.execution.backends.server_answers import backend_ready, probed_trial, process_ended, workload_error
from tunectl.execution.backends.server_process import ServerProcess, StartedProcess, start_server
from tunectl.execution.devices import find_devices
from tunectl.execution.protocol import Assignment, Connection
from tunectl.execution.shared_places import Places, open_places, sharing_rules
from tunectl.execution.slots import Slot, make_slots, thread_environment

if TYPE_CHECKING:
    from tunectl.language.study_spec import ResourcesSection

_CLOSE_SECONDS = 15.0
_GROUP_GONE_SECONDS = 10.0
_POLL_SECONDS = 0.01
_STOP_CHECK_SECONDS = 0.1  # time between two checks for a stop request while the workload loads or is probed
_OUTPUT_TAIL_BYTES = 4000


class LocalBackend:
    """Processes on this machine, under a fork server (tunectl.execution.server).

    The server loads the workload once. `environ` is the environment of all processes (default: that of this process).
    `worker` is the name of the worker module. `launch_mode` is "fork" or, where forking would be unsafe, "spawn".
    """

    name = "local"

    def __init__(self, environ: Mapping[str, str] | None = None, worker: str = "tunectl.execution.worker") -> None:
        self._workload: WorkloadReference | None = None
        self._arguments: Mapping[str, Scalar] = {}
        self._code: tuple[WorkloadReference, ...] = ()
        self._environ = environ
        self._worker = worker
        self._server: ServerProcess | None = None
        self._processes: dict[int, StartedProcess] = {}
        self._held: list[int] = []
        self._places: Places | None = None
        self._events: list[BackendEvent] = []
        self._answers: dict[int, Mapping[str, Any]] = {}
        self._probes = 0
        self._starts = 0
        self._mark = ""
        self._died_loading = 0
        self._own_code = False
        self.launch_mode = ""

    def slots(self, resources: ResourcesSection, count: int | None = None) -> tuple[Slot, ...]:
        """The GPUs inside CUDA_VISIBLE_DEVICES, or the cores; see Backend."""
        devices = find_devices(resources.devices, os.environ if self._environ is None else self._environ)
        return make_slots(
            devices,
            resources.trials_per_device,
            resources.threads_per_trial,
            count,
            devices_per_trial=resources.devices_per_trial,
        )

    def places(
        self, resources: ResourcesSection, slots: Sequence[Slot], say: Callable[[str], None], *, waits: bool = True
    ) -> Places:
        """The cores and GPUs, shared with other runs by locks; see Backend."""
        if self._places is None:
            environ = os.environ if self._environ is None else self._environ
            self._places = open_places(environ, sharing_rules(resources, slots, waits=waits), say, self.hold)
        self._places.say_by(say)
        return self._places

    def start(self, *, own_code: bool = False) -> None:
        """Start the server and return. Only in the main thread: while it loads, a server dies with the thread that
        started it.

        Raises TunectlError where the system cannot start another process.
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
            self.load(self._workload, self._arguments, self._code)

    def _start(self) -> None:
        self._starts += 1
        self._mark = f"{processes.mark_of(os.getpid(), processes.start_time(os.getpid()))}{id(self)}.{self._starts}."
        inherited = os.environ if self._environ is None else self._environ
        environment = {**inherited, **server_environment(), MARK: self._mark}
        with contextlib.ExitStack() as opened:
            output = opened.enter_context(unnamed_file())
            ours, theirs = (opened.enter_context(end) for end in socket.socketpair())
            arguments = [self._worker, str(os.getpid()), *(["own"] if self._own_code else [])]
            process = start_server(arguments, theirs, output, environment)
            opened.pop_all()  # closed with the server
            theirs.close()
        self._server = ServerProcess(process, Connection(ours), output)

    def load(
        self,
        workload: WorkloadReference,
        arguments: Mapping[str, Scalar],
        code: Sequence[WorkloadReference] = (),
    ) -> None:
        """Let the server load the workload, after its libraries."""
        self._workload, self._arguments, self._code = workload, dict(arguments), tuple(code)
        named = {"workload": asdict(workload), "code": [asdict(reference) for reference in code]}
        for fd in self._held:  # one by one: a message has only a few
            self._send({"op": "hold"}, (fd,))
        self._send({"op": "load", **named, "arguments": self._arguments})

    def wait_ready(self, stop_requested: Callable[[], int] = lambda: 0) -> BackendReady | None:
        """Wait until trials can start; see Backend."""
        server = self._running_server()
        if self._workload is None:
            raise RuntimeError("call load() before wait_ready()")
        while server.ready is None:
            if stop_requested():
                return None
            self._receive(_STOP_CHECK_SECONDS)
            if server.refused is not None:
                self._raise_refused(server.refused)
            if server.ready is None and server.connection.closed:
                server = self._load_once_more(server)
        return server.ready

    def probe(self, request: Request, slot: Slot, stop_requested: Callable[[], int] = lambda: 0) -> ProbedTrial | None:
        """Build the workload in a new process and try it; see Backend."""
        ending = self._probed(request, slot, stop_requested)
        if ending is not None and ending["signal"] == signal.SIGKILL and not stop_requested():
            # As while the workload loads: one kill may have nothing to do with the workload.
            if self._server is None:
                self.start()
            ending = self._probed(request, slot, stop_requested)
        return None if ending is None or stop_requested() else probed_trial(ending)

    def _probed(self, request: Request, slot: Slot, stop_requested: Callable[[], int]) -> Mapping[str, Any] | None:
        """How the process of a probe ended; None where a stop was requested."""
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
                how = self._end_server()
                self._kill_remaining()
                killed = signal.SIGKILL if how == processes.describe_exit(None, signal.SIGKILL) else None
                return {"signal": killed, "code": None, "message": f"lost its fork server, which {how}"}
            if stop_requested():
                self._send({"op": "signal", "task": "probe", "number": number, "signal": signal.SIGKILL, "group": True})
                return None
            self._receive(_STOP_CHECK_SECONDS)
        return self._answers.pop(number)

    def hold(self, fd: int) -> None:
        """Give a copy of the descriptor to the server, and so to every process that it starts from now on."""
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
        message = {"op": "launch", "assignment": assignment.to_json()}
        self._processes[trial] = StartedProcess(launched, message, files.result)
        self._send(message)

    def poll(self, timeout_seconds: float) -> Sequence[BackendEvent]:
        """What happened; starts another server where this one died. Raises TunectlError where that one cannot load."""
        server = self._running_server()
        self._receive(0.0 if self._events else timeout_seconds)
        if server.connection.closed:
            self._replace_server(server)
        events, self._events = self._events, []
        return events

    def end_recorded(self, trial: int) -> None:
        """Nothing: only `poll` says how a process of this backend ended."""

    def stop(self, trial: int) -> None:
        """Send SIGTERM to the trial's first process."""
        self._signal(trial, signal.SIGTERM, group=False)

    def kill(self, trial: int) -> None:
        """Send SIGKILL to the trial's process group."""
        self._signal(trial, signal.SIGKILL, group=True)

    def close(self) -> None:
        """End the server, which ends every trial; kill the process groups where the server does not."""
        try:
            self._close_server()
        finally:
            if self._places is not None:
                self._places.close()
                self._places, self._held = None, []

    def _close_server(self) -> None:
        if self._server is None:
            return
        # A server that still loads has no trials to end, and reads its socket only when it has loaded.
        self._receive(0.0)
        wait_seconds = _POLL_SECONDS if self._server.ready is None else _CLOSE_SECONDS
        self._server.connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._server.process.wait(wait_seconds)
        self._end_server()
        self._kill_remaining()
        self._processes.clear()

    def _running_server(self) -> ServerProcess:
        if self._server is None:
            raise RuntimeError("call start() first")
        return self._server

    def _send(self, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        self._running_server().connection.send(message, fds)

    def _signal(self, trial: int, number: int, *, group: bool) -> None:
        if trial in self._processes:
            self._processes[trial].signalled = True
        self._send({"op": "signal", "task": "trial", "number": trial, "signal": int(number), "group": group})

    def _receive(self, timeout_seconds: float | None) -> None:
        server = self._running_server()
        if server.connection.fileno() < 0:
            return
        poller = select.poll()
        poller.register(server.connection, select.POLLIN)
        timeout = None if timeout_seconds is None else max(0.0, timeout_seconds) * 1000
        # What a server sent before it died is still read: the end of file comes last.
        while poller.poll(timeout):
            for message in server.connection.receive()[0]:
                self._handle(server, message)
            if server.connection.closed:
                return
            timeout = 0.0

    def _handle(self, server: ServerProcess, message: Mapping[str, Any]) -> None:
        event = message["event"]
        if event == "ready":
            self.launch_mode = message["mode"]
            server.ready = backend_ready(message)
            self._died_loading = 0
            self._events.append(server.ready)
        elif event == "refused":
            server.refused = message
        elif message["task"] == "probe":
            if event == "ended":
                self._answers[message["number"]] = message
        elif event == "launched":
            known = self._processes[message["number"]]
            known.pid, known.started = message["pid"], message["started"]
            self._events.append(ProcessStarted(message["number"], message["pid"]))
        else:
            del self._processes[message["number"]]
            self._events.append(process_ended(message))

    def _replace_server(self, server: ServerProcess) -> None:
        """Kill what a server that died left behind, report its trials as lost, and start another server."""
        if server.refused is not None:
            self._raise_refused(server.refused)
        if server.ready is None:
            self._load_once_more(server)
            return
        how = self._end_server()
        self._kill_remaining()
        self._start_again(how)

    def _kill_remaining(self) -> None:
        """Kill the trials' process groups, and what left its group but has the server's mark; wait for all."""
        # A group keeps its leader's pid as long as a process of it is left. Where another process has that pid (its
        # start time differs), the group is empty.
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
            # A process that is dying has no environment any more, but may still hold files open.
            dying = any(processes.is_alive(pid, started) for pid, started in killed.items())
            if not (groups or strays or dying) or time.monotonic() > deadline:
                return
            time.sleep(_POLL_SECONDS)

    def _end_server(self) -> str:
        """Make sure that the server has ended and was waited for; say in words how it ended."""
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
        self._kill_remaining()
        raise workload_error("the workload could not be loaded", refused)

    def _load_once_more(self, server: ServerProcess) -> ServerProcess:
        """Start another server after one was killed while it loaded; raises TunectlError the second time.

        One kill may have come from outside, or from a short lack of memory.
        """
        tail = processes.output_tail(server.output, _OUTPUT_TAIL_BYTES)
        how = self._end_server()
        self._kill_remaining()
        self._died_loading += 1
        if self._died_loading > 1 or how != processes.describe_exit(None, signal.SIGKILL):
            raise TunectlError(
                f"the process that loads the workload {how}" + (f"; its last output:\n{tail}" if tail else "")
            )
        self._start_again(how)
        return self._running_server()

    def _start_again(self, how: str) -> None:
        """Start another server, and launch again the trials that the last one never started; the others are lost."""
        now = time.monotonic()
        for trial, known in sorted(self._processes.items()):
            if not known.never_ran:
                message = f"the fork server {how}, and the trial with it"
                self._events.append(ProcessEnded(trial, None, None, now - known.launched, lost=True, message=message))
                del self._processes[trial]
        self.start()
        for _, known in sorted(self._processes.items()):
            known.sent += 1
            self._send(known.message)


def server_environment() -> dict[str, str]:
    """What a server's environment has beside that of the runner.

    One thread, so that it can be forked; and no CUDA context where an import asks whether there is a GPU.
    """
    return {**thread_environment(1), "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
