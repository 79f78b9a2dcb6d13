"""One worker on a node of a Ray cluster: what the actor of Ray does there, and the program that it starts.

`python -m tunectl.execution.engines.ray_node PARENT ARGUMENT…` becomes `python ARGUMENT…`, the worker, which the kernel
asks to save and end when the actor's process, with pid PARENT, dies: then Ray gives its GPUs to others.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tunectl.core import regular_files
from tunectl.core.files import unnamed_file
from tunectl.core.parent_death import stop_with_parent
from tunectl.execution import processes

LINGER_SECONDS = 20.0
"""How long an actor whose worker has ended waits to be asked how: a run that was left does not ask."""

_TAIL_BYTES = 2000
_LOOK_SECONDS = 1.0


class WorkerOnNode:
    """A worker as a process of its own, in its own process group. No method waits.

    `arguments` are those of this node's Python. `environment` is added to that of the actor, in which Ray has set which
    GPUs the worker has. Its output goes to the file `log`, and where that cannot be written (the study folder is not on
    this node) to a file without a name.
    """

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], log: str) -> None:
        self._output, self._log = _opened(Path(log))
        command = [sys.executable, "-P", "-m", __name__, str(os.getpid()), *arguments]
        # In this thread, which lives as long as the process: the kernel looks at the thread that started a process.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,
            env={**os.environ, **environment},
        )
        threading.Thread(target=self._end_unasked, name="end", daemon=True).start()

    def state(self) -> dict[str, Any]:
        """How the worker is: `code` is None while it runs, and negative where a signal killed it."""
        code = self._process.poll()
        # The log in the study folder is read by the run.
        tail = "" if code in (None, 0) or self._log else processes.output_tail(self._output, _TAIL_BYTES)
        return {"code": code, "host": socket.gethostname(), "pid": self._process.pid, "log": self._log, "tail": tail}

    def stop(self) -> None:
        """Ask the worker to let its trials save, give them back and end."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the worker; its trials end with it."""
        if self._process.poll() is None:
            processes.signal_group(self._process.pid, signal.SIGKILL)

    def _end_unasked(self) -> None:
        # The actor holds the GPUs until it ends.
        while self._process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_LOOK_SECONDS)
        time.sleep(LINGER_SECONDS)
        os._exit(0)


def _opened(log: Path) -> tuple[IO[bytes], str]:
    try:
        descriptor = regular_files.open_to_append(log, within=log.parent.parent)
    except OSError:
        return unnamed_file(), ""
    return os.fdopen(descriptor, "ab"), str(log)


def main(arguments: Sequence[str]) -> None:
    """Become the worker, bound to the parent's life; see the module."""
    parent, *rest = arguments
    stop_with_parent(int(parent), signal.SIGTERM)
    os.execv(sys.executable, [sys.executable, *rest])


if __name__ == "__main__":
    main(sys.argv[1:])
