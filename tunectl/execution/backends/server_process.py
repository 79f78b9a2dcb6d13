"""What the local backend knows of its server and of each trial's process."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tunectl.execution import processes
from tunectl.execution.backends.backend import BackendReady
from tunectl.execution.protocol import Connection

_MAX_LAUNCHES = 3
"""How many servers are asked to launch a trial when each of them dies first: the launch itself may kill them."""


@dataclass(slots=True)
class StartedProcess:
    """What is known about a trial's process. `message` is what launches it, and was sent `sent` times; `signalled`:
    whether a signal was sent to it. `pid` is 0 until the server reports it.
    """

    launched: float
    message: Mapping[str, Any]
    result: Path
    sent: int = 1
    signalled: bool = False
    pid: int = 0
    started: int | None = None

    @property
    def never_ran(self) -> bool:
        """Whether the trial may be launched again: no sign that it ran, and no signal was sent to it."""
        may_have_run = self.pid or self.signalled or self.result.exists()
        # Without /proc no process can be found by its mark, so it may be there unseen.
        return not may_have_run and self.sent < _MAX_LAUNCHES and processes.PROC.exists()


@dataclass(slots=True)
class ServerProcess:
    """A fork server: its process, the connection to it, what it prints, and its answer when the workload is loaded."""

    process: subprocess.Popen[bytes]
    connection: Connection
    output: IO[bytes]
    ready: BackendReady | None = None
    refused: Mapping[str, Any] | None = None


def start_server(
    arguments: Sequence[str], end: socket.socket, output: IO[bytes], environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a fork server, whose end of the socket pair is `end`, and which prints to `output`.

    `arguments` are the worker's module, the runner's pid, and "own" where the user's own code is expected to train.
    Raises OSError where the system cannot start another process.
    """
    # -P: a user's random.py in the current folder must not replace Python's. The workload's folders are added to the
    # path when it is loaded.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "tunectl.execution.server", str(end.fileno()), *arguments],
        pass_fds=(end.fileno(),),
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=environment,
    )
