"""A running program: its output is read, its checkpoints are kept, and it is stopped if needed."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tunectl.core.failure_line import PLACE
from tunectl.core.folders import TrialFolder
from tunectl.core.line_file import LineFile
from tunectl.core.log_reader import Tail, log_bytes
from tunectl.core.own_code_request import CommandRequest
from tunectl.programs.collected_metrics import Collector
from tunectl.programs.flushed_output import Flusher, SavedPoint
from tunectl.programs.kept_checkpoints import KeptCheckpoints
from tunectl.programs.metric_files import JsonLinesFile, Source
from tunectl.programs.output_reader import OutputReader
from tunectl.programs.overwritten_checkpoint import OverwrittenCheckpoint
from tunectl.programs.torchrun import without_rank
from tunectl.store.trial_files import write_measurements

_MOST_CHUNKS = 16
_STOP_SECONDS = 10.0
"""How long a program may take to end after a NaN decided its result, before it is killed."""


@dataclass(slots=True)
class RunningProgram:
    """A running program, and what is known about it.

    `values_before` is how many values the collector had seen when the program started.
    """

    request: CommandRequest
    folder: TrialFolder
    process: subprocess.Popen[bytes]
    stop: Callable[[], bool]
    output: Tail
    reader: OutputReader
    files: list[Source]
    recorded: JsonLinesFile
    collector: Collector
    kept: KeptCheckpoints | OverwrittenCheckpoint | None
    flusher: Flusher | None
    measurements: LineFile
    log_offset: int
    values_before: int = 0
    patterns: list[re.Pattern[str]] = field(default_factory=list)
    infeasible_line: str = ""
    is_source: bool = False
    stop_sent: bool = False
    deadline: float | None = None

    def update(self, *, ended: bool = False) -> None:
        """Read new output, write the measurements, and keep or remove checkpoints."""
        one = self.kept if isinstance(self.kept, OverwrittenCheckpoint) else None
        if one is not None:
            one.check()
        # Checked before the output is read, so that all that was printed before the checkpoint is read then.
        point = self._last_checkpoint() if self.flusher is not None and not ended else None
        if ended:
            self._read_the_rest()
        for _ in range(_MOST_CHUNKS if not ended else 0):
            lines = self.output.read()
            if not lines:
                break
            self._read_lines(lines)
        for file in self.files:
            for found in file.read(to_the_end=ended):
                self.collector.add(*found)
                if one is not None and file is not self.recorded and self.request.objective.metric in found.metrics:
                    one.distrust()
        if ended:
            self.collector.finish()
        if self.flusher is not None and point is not None:
            self._flush(self.flusher, point)
        for step, name in self._checkpoints(ended=ended).items():
            self.collector.name_checkpoint(step, name)
        self._write()

    def _last_checkpoint(self) -> SavedPoint | None:
        """The last checkpoint, if it is time to flush what was printed before it."""
        if self.flusher is None or not self.flusher.is_ready:
            return None
        match self.kept:
            case KeptCheckpoints():
                number, path = max(self.kept.pattern.found().items(), default=(None, None))
                return None if path is None else SavedPoint.of(number, path)
            case OverwrittenCheckpoint():
                return SavedPoint.of(None, self.kept.path) if self.kept.path.exists() else None
            case None:
                return None

    def _flush(self, flusher: Flusher, point: SavedPoint) -> None:
        """Flush what was read: it must be on the disk before earlier checkpoints are removed for this one."""
        if flusher.wants(point):
            self._write()
            flusher.begin(point)

    def _write(self) -> None:
        """Write the new measurements."""
        if self.collector.was_cut:  # without the steps that are repeated
            self.measurements.close()
            write_measurements(self.folder, self.collector.measurements())
            self.measurements = LineFile(self.folder.measurements, self.folder.measurements.stat().st_size)
            self.collector.was_cut = False
        self.collector.write(self.measurements)

    def is_quiet(self) -> bool:
        """Whether nothing was printed, recorded or saved since the last update whose exact time matters."""
        if not isinstance(self.kept, OverwrittenCheckpoint) or not self.kept.is_timely:
            return True
        has_more = log_bytes(self.output.path) > self.output.offset or self.recorded.has_more
        return not self.kept.check(is_quiet=not has_more)

    def _checkpoints(self, *, ended: bool) -> Mapping[int, str | None]:
        match self.kept:
            case None:
                return {}
            case KeptCheckpoints():
                if self.flusher is not None:
                    self.kept.spare_what_is_known(self.collector, self.flusher.covered, ended=ended)
                return self.kept.update(self.collector, ended=ended)
            case OverwrittenCheckpoint():
                return self.kept.update(self.collector, ended=ended, stopping=self.stop_sent)

    def _read_the_rest(self) -> None:
        """Read the output up to its present end: a process that the program left running may print without end."""
        end = log_bytes(self.output.path)
        while self.output.offset < end and (lines := self.output.read()):
            self._read_lines(lines)
            self._write()  # much may be left unread, which must not be kept in memory
        self._read_lines(self.output.read(to_the_end=True))
        for found in self.reader.read_rest():
            self.collector.add(*found)

    def _read_lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._read_line(line)

    def _read_line(self, line: str) -> None:
        if self.request.program.devices > 1:
            line = without_rank(line)
        for found in self.reader.read(line):
            self.collector.add(*found)
        if self.patterns:
            self.search([line])

    def search(self, lines: Iterable[str]) -> None:
        """Keep the last line that matches a pattern of `infeasible`, unless a traceback shows it as source code."""
        for line in lines:
            if not self.is_source and any(pattern.search(line) for pattern in self.patterns):
                self.infeasible_line = line.strip()
            self.is_source = PLACE.match(line) is not None

    def stop_if_wanted(self) -> None:
        """Stop the program if its trial is stopped, or if a NaN has decided its result."""
        if not self.stop_sent and (self.stop() or self.collector.first_nan is not None):
            self.stop_sent = True
            # Only to the program: the processes that it started must live while it saves.
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)
            if not self.stop():
                self.deadline = time.monotonic() + _STOP_SECONDS
        if self.deadline is not None and time.monotonic() > self.deadline:
            self.process.kill()


@contextlib.contextmanager
def waiter_for_end(process: subprocess.Popen[bytes]) -> Iterator[Callable[[float], bool]]:
    """A function that waits for the end of a program for some seconds, and gives whether it has ended.

    Older kernels have no file descriptor for a process, with which to wait.
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        # Not Linux, a kernel before 5.3 (ENOSYS), an old container (EPERM), or no descriptor left (EMFILE).
        yield lambda seconds: _has_ended_within(process, seconds)
        return
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)

    def wait(seconds: float) -> bool:
        poller.poll(seconds * 1000)
        return process.poll() is not None

    try:
        yield wait
    finally:
        os.close(descriptor)


def _has_ended_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)  # checks at least every 50 ms
    except subprocess.TimeoutExpired:
        return False
    return True
