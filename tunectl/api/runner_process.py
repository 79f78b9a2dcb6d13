"""The runner of `tunectl.run` as its caller sees it: started, listened to, interrupted."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import IO, Any

from tunectl.core import errors
from tunectl.core.errors import EXIT_FOLDER, EXIT_INTERRUPTED, FolderError, Problem, StudyError, TunectlError
from tunectl.core.files import unnamed_file
from tunectl.core.path_errors import system_reason
from tunectl.core.safe_text import escaped

# All SIGHUPs count as one request, beside a signal that a batch system sends to every process of a job; and the kernel
# sends one when this process dies. The other two count one each, which is a second request for sure.
_OF_AN_INTERRUPT = ((signal.SIGHUP,), (signal.SIGTERM, signal.SIGINT))

_GO_ON = "; call tunectl.run again to go on"


def run_to_its_end(asked: Mapping[str, Any], *, progress: bool) -> str:
    """Run what is asked of `api/runner.py`, and give the study folder.

    Raises KeyboardInterrupt where this process was interrupted, and what the runner raised as TunectlErrors.
    """
    with unnamed_file() as stderr:
        try:
            runner = _Runner(asked, stderr)
        except OSError as error:
            raise TunectlError(f"the runner could not be started: {system_reason(error)}") from error
        interrupts = runner.wait(progress=progress)
        stderr.seek(0)
        printed = stderr.read().decode("utf-8", "replace")
    if runner.end:
        _show(printed.rstrip())
    left = runner.end.get("ended", {}).get("left", "")
    if interrupts:
        raise KeyboardInterrupt(f"{left}{_GO_ON}" if left else "interrupted")
    return _folder(runner, left, printed)


def _folder(runner: _Runner, left: str, printed: str) -> str:
    if "refused" in runner.end:
        raise _refusal(runner.end["refused"])
    if "ended" not in runner.end:
        code = runner.process.returncode
        if code < 0:
            raise TunectlError(f"the runner was ended by {signal.Signals(-code).name}{_GO_ON}")
        raise RuntimeError(f"the runner ended with exit code {code}, by a bug of tunectl:\n{printed}")
    ended = runner.end["ended"]
    if ended["exit_code"] == EXIT_INTERRUPTED:
        raise TunectlError(f"{left}, by a signal to the runner{_GO_ON}")
    folder: str = ended["folder"]
    return folder


def _refusal(refused: Mapping[str, Any]) -> TunectlError:
    """The error of the runner, as an exception of the same class with the same text."""
    if refused["problems"]:
        return StudyError([Problem(**problem) for problem in refused["problems"]])
    kind = getattr(errors, refused["kind"], None)
    if not (isinstance(kind, type) and issubclass(kind, TunectlError)):
        kind = FolderError if refused["exit_code"] == EXIT_FOLDER else TunectlError
    return kind(refused["text"])


class _Runner:
    """The process of `api/runner.py`; `end` has the last thing that it said, by its kind, once it has ended.

    It has a session of its own, so that Ctrl-C in a terminal, and the interrupt of a notebook, reach only this process,
    which passes them on once each.
    """

    def __init__(self, asked: Mapping[str, Any], stderr: IO[bytes]) -> None:
        # -P: a json.py in the current folder, which may be someone else's, must not run.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tunectl.api.runner"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
        self.end: dict[str, Any] = {}
        self._asked = json.dumps(asked).encode("ascii") + b"\n"
        self._said: queue.SimpleQueue[tuple[str, str] | None] = queue.SimpleQueue()
        # Lines are read in a thread: an interrupt in the middle of one would lose it.
        threading.Thread(target=self._listen, name="tunectl-runner", daemon=True).start()

    def _listen(self) -> None:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            with stdin:
                stdin.write(self._asked)
        except OSError:
            pass  # it has died, which is seen by its exit code
        with stdout:
            for line in stdout:
                ((kind, content),) = json.loads(line).items()
                if kind in ("ended", "refused"):
                    self.end[kind] = content
                else:
                    self._said.put((kind, content))
        self._said.put(None)

    def wait(self, *, progress: bool) -> int:
        """Show what the runner says until it has ended; gives how often this process was interrupted."""
        interrupts, is_talking = 0, True
        try:
            while True:
                try:
                    while is_talking:
                        said = self._said.get()
                        is_talking = said is not None
                        if said is not None and (progress or said[0] == "message"):
                            _show(said[1])
                    self.process.wait()
                    return interrupts
                except KeyboardInterrupt:
                    interrupts += 1
                    for number in _OF_AN_INTERRUPT[min(interrupts, len(_OF_AN_INTERRUPT)) - 1]:
                        self.process.send_signal(number)
        finally:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGHUP)
                self.process.wait()


def _show(text: str) -> None:
    if text and sys.stderr is not None:
        sys.stderr.write(f"{escaped(text)}\n")
        sys.stderr.flush()
