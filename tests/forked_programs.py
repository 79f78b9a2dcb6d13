"""A command at work in the background, as a fork of the warm process, whose output a test reads meanwhile."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from warm_server import TEST_MARK, ForkedProcess, WarmServers

PATIENCE_SECONDS = 90.0


class ForkedProgram:
    """The command, and what it has said so far."""

    def __init__(self, process: ForkedProcess, out: Path, err: Path) -> None:
        self._process, self._out, self._err = process, out, err
        self.pid, self.send_signal, self.kill, self.poll = (
            process.pid,
            process.send_signal,
            process.kill,
            process.poll,
        )

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    def wait(self) -> int:
        """Wait for its end, and give its exit code."""
        return self._process.wait(PATIENCE_SECONDS)

    def communicate(self) -> tuple[str, str]:
        """Wait for its end, and give all that it printed on stdout and on stderr."""
        self.wait()
        return self._out.read_text(), self._err.read_text()

    def read_until(self, words: str) -> None:
        """Wait until it has said these words on stderr."""
        wait_until(lambda: words in self._err.read_text() or self._process.poll() is not None)
        said = self._err.read_text()
        assert words in said, f"{words!r} was never said: {said}"


@contextmanager
def forked_program(
    servers: WarmServers, words: Sequence[str | Path], environment: Mapping[str, str]
) -> Iterator[ForkedProgram]:
    """`tunectl` with these words; it is killed at the end of the block."""
    with tempfile.TemporaryDirectory() as place:
        out, err = Path(place) / "out", Path(place) / "err"
        with out.open("w") as printed, err.open("w") as said:
            process = servers.start_program([*map(str, words)], environment, printed, said)
        try:
            yield ForkedProgram(process, out, err)
        finally:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def started_for(folder: Path) -> list[int]:
    """The living processes of a command whose variable `TUNECTL_TEST` names this folder, but for this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                marked = f"{TEST_MARK}={folder}".encode() in (entry / "environ").read_bytes().split(b"\0")
                if marked and (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                    found.append(int(entry.name))
            except OSError:
                continue
    return found
