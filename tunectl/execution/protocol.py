"""The messages between the runner and the fork server: JSON lines over a socket pair."""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from tunectl.core.records import FactorySignature, Scalar, WorkloadReference

EXIT_STOPPED = 75
"""Exit code of a trial that was stopped and has saved its state (EX_TEMPFAIL of sysexits.h)."""

EXIT_UNWRITTEN = 74
"""Exit code of a trial whose result could not be written (EX_IOERR)."""

EXIT_BROKEN = 70
"""Exit code of a trial's process that failed outside the user's code (EX_SOFTWARE)."""

EXIT_CRASHED = 71
"""Exit code of a trial that could not go on although its code is right, as if it had been killed (EX_OSERR).

One of its data-loader processes died, the machine was short of a resource, or its folder was removed.
"""

_RECEIVE_BYTES = 65536
_MAX_FDS = 8


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a process is started for: to train a trial, or to probe the workload.

    `number` is the trial's id, or counts the probes. A trial has a `folder` (with its request.json) and a `log`; a
    probe has its `request`. Both write their answer to the file descriptor `answer`. `device` is torch's name of the
    device, `label` the name in the tables; `environment` is added to the server's. `launched` is the time of the launch
    on the monotonic clock, in seconds.
    """

    task: Literal["trial", "probe"]
    number: int
    device: str
    label: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: str = ""
    log: str = ""
    attempt: int = 1
    request: Mapping[str, Any] = field(default_factory=dict)
    answer: int = -1
    launched: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The assignment as a message."""
        return asdict(self)

    def write_answer(self, **content: Any) -> None:
        """Write an object that the server sends to the runner when this process has ended."""
        if self.answer >= 0:
            # The file is in memory, so this works when no disk can be written.
            os.write(self.answer, (json.dumps(content) + "\n").encode("ascii"))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Assignment:
        """The assignment of a message."""
        return cls(**content)


class Worker(Protocol):
    """The functions of a worker module, such as tunectl.execution.worker; an argument of the server names it."""

    def warm_up(self, *, own_code: bool) -> None:
        """Import what every trial needs, whatever its workload; `own_code`: the user's own code does the training."""
        ...

    def preload(
        self, workload: WorkloadReference, arguments: Mapping[str, Scalar], code: Sequence[WorkloadReference]
    ) -> FactorySignature | None:
        """Load the workload, and give what its factory takes; raises what the user's code raises.

        `arguments` are those that the factory gets in every trial, `code` is what the study names besides.
        """
        ...

    def catch_up(self) -> None:
        """Import what processes that have ended had to import late: no later one has to."""
        ...

    def work(self, assignment: Assignment, stop: Callable[[], bool]) -> int:
        """Do the work in this process and give its exit code; `stop` says whether SIGTERM was received."""
        ...


class Connection:
    """One end of the socket pair. `closed` is true once the other end has closed."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self.closed = False
        self._received = b""

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self.socket.fileno()

    def send(self, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        """Send a message, with copies of file descriptors; does nothing where the other end has closed."""
        # ensure_ascii: paths that are not UTF-8 are sent as lone surrogates.
        line = (json.dumps(message) + "\n").encode("ascii")
        try:
            if fds:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
                line = line[self.socket.sendmsg([line], rights) :]
            self.socket.sendall(line)
        except (BrokenPipeError, ConnectionResetError):
            pass  # what the other end sent before it closed is still to be read; then comes the end of file

    def receive(self) -> tuple[list[dict[str, Any]], list[int]]:
        """The complete messages that were received, with their file descriptors; waits where there is none.

        Descriptors are not inherited by programs that this process starts.
        """
        try:
            content, fds, _flags, _address = socket.recv_fds(self.socket, _RECEIVE_BYTES, _MAX_FDS)
        except ConnectionResetError:
            content, fds = b"", []
        for fd in fds:
            os.set_inheritable(fd, False)
        if not content:
            self.closed = True
        *lines, self._received = (self._received + content).split(b"\n")
        return [json.loads(line) for line in lines], list(fds)

    def close(self) -> None:
        """Close this end; the other one then reads the end of file."""
        self.closed = True
        self.socket.close()
