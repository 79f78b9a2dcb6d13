"""The agent of a run (ray_agent) as the runner sees it: a process, the socket to it, and what it printed."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from tunectl.core.files import unnamed_file
from tunectl.execution import processes
from tunectl.execution.protocol import Connection

_TAIL_BYTES = 4000
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # a cluster of our own reports nothing to Ray's makers
    "RAY_DEDUP_LOGS": "0",
}


class AgentProcess:
    """A running agent. It is in a session of its own: a Ctrl-C is the runner's alone.

    Raises OSError where the system cannot start another process.
    """

    def __init__(self) -> None:
        with contextlib.ExitStack() as opened:
            # Short: Ray makes sockets in it, whose paths may have 107 bytes.
            self._folder = tempfile.mkdtemp(prefix="tunectl-ray-", dir="/tmp")
            opened.callback(shutil.rmtree, self._folder, ignore_errors=True)
            self._output = opened.enter_context(unnamed_file())
            ours, theirs = (opened.enter_context(end) for end in socket.socketpair())
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tunectl.execution.engines.ray_agent", str(theirs.fileno()), self._folder],
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                env={**os.environ, **_ENVIRONMENT},
            )
            opened.pop_all()
            theirs.close()
        self._connection = Connection(ours)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it closed its end of the socket, after all that it sent was received."""
        return self._connection.closed

    def send(self, **message: Any) -> None:
        """Send it a message."""
        self._connection.send(message)

    def messages(self, wait_seconds: float = 0.0) -> Iterator[Mapping[str, Any]]:
        """What it has sent; waits for something at most this long."""
        if self._connection.closed:
            return
        poller = select.poll()
        poller.register(self._connection, select.POLLIN)
        while not self._connection.closed and poller.poll(wait_seconds * 1000):
            yield from self._connection.receive()[0]
            wait_seconds = 0.0

    def end(self, wait_seconds: float) -> str:
        """Close the socket, wait for its end, kill it where it does not end; gives how it ended and what it printed."""
        self._connection.close()
        try:
            self._process.wait(wait_seconds)
        except subprocess.TimeoutExpired:
            # A cluster that it started ends with it.
            processes.signal_group(self._process.pid, signal.SIGKILL)
        code = self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
        tail = processes.output_tail(self._output, _TAIL_BYTES)
        self._output.close()
        how = processes.describe_exit(code, -code if code < 0 else None)
        return how + (f"; its last output:\n{tail}" if tail else "")
