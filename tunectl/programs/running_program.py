"""A program at work: what it tells is read, its checkpoints are looked after, and it is told when to end."""

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
"""How long a program whose metric is no number may take to end before it is killed: its result is known."""


@dataclass(slots=True)
class RunningProgram:
    """A program at work, and what is known of it."""

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
    patterns: list[re.Pattern[str]] = field(default_factory=list)
    said: str = ""
    is_source: bool = False
    stop_sent: bool = False
    deadline: float | None = None

    def look(self, *, ended: bool = False) -> None:
        """Read what has come, write the measurements, tidy the checkpoints."""
        one = self.kept if isinstance(self.kept, OverwrittenCheckpoint) else None
        if one is not None:
            one.glance()
        # Before what was printed is read: all that was printed before the checkpoint was there is read then.
        point = self._last_checkpoint() if self.flusher is not None and not ended else None
        if ended:
            self._read_to_the_end()
        for _ in range(_MOST_CHUNKS if not ended else 0):
            lines = self.output.read()
            if not lines:
                break
            self._hear_all(lines)
        for file in self.files:
            for told in file.read(to_the_end=ended):
                self.collector.take(*told)
                if one is not None and file is not self.recorded and self.request.objective.metric in told.metrics:
                    one.distrust()
        if ended:
            self.collector.settle()
        if self.flusher is not None and point is not None:
            self._flush(self.flusher, point)
        for step, name in self._checkpoints(ended=ended).items():
            self.collector.name_checkpoint(step, name)
        self._write()

    def _last_checkpoint(self) -> SavedPoint | None:
        """The last checkpoint there is, if it is time to flush what was printed before it."""
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
        """Flush what was read, which is on the disk before earlier checkpoints are removed for this one."""
        if flusher.wants(point):
            self._write()
            flusher.begin(point)

    def _write(self) -> None:
        """Write what is new."""
        if self.collector.was_cut:
            self._write_anew()
        self.collector.write(self.measurements)

    def is_quiet(self) -> bool:
        """Whether nothing was printed, recorded or saved since the last look, of which the moment counts."""
        if not isinstance(self.kept, OverwrittenCheckpoint) or not self.kept.is_timely:
            return True
        has_more = log_bytes(self.output.path) > self.output.offset or self.recorded.has_more
        return not self.kept.glance(is_quiet=not has_more)

    def _checkpoints(self, *, ended: bool) -> Mapping[int, str | None]:
        match self.kept:
            case None:
                return {}
            case KeptCheckpoints():
                if self.flusher is not None:
                    self.kept.spare_what_is_known(self.collector, self.flusher.covered, ended=ended)
                return self.kept.look(self.collector, ended=ended)
            case OverwrittenCheckpoint():
                return self.kept.look(self.collector, ended=ended, stopping=self.stop_sent)

    def _write_anew(self) -> None:
        """Write the measurements without those that happen again."""
        self.measurements.close()
        write_measurements(self.folder, self.collector.measurements())
        self.measurements = LineFile(self.folder.measurements, self.folder.measurements.stat().st_size)
        self.collector.was_cut = False

    def _read_to_the_end(self) -> None:
        """Read what a program that has ended had printed by now: what it left behind may print for ever."""
        end = log_bytes(self.output.path)
        while self.output.offset < end and (lines := self.output.read()):
            self._hear_all(lines)
            self._write()  # one that prints faster than it is read leaves much: it is not kept in memory
        self._hear_all(self.output.read(to_the_end=True))
        for told in self.reader.told_at_the_end():
            self.collector.take(*told)

    def _hear_all(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._hear(line)

    def _hear(self, line: str) -> None:
        if self.request.program.devices > 1:
            line = without_rank(line)
        for told in self.reader.told(line):
            self.collector.take(*told)
        if self.patterns:
            self.search([line])

    def search(self, lines: Iterable[str]) -> None:
        """Note the last line that says that the hyperparameters are at fault; no source line that a traceback shows."""
        for line in lines:
            if not self.is_source and any(pattern.search(line) for pattern in self.patterns):
                self.said = line.strip()
            self.is_source = PLACE.match(line) is not None

    def press(self) -> None:
        """Tell the program to end, where the trial was told to, or where its result is known already."""
        if not self.stop_sent and (self.stop() or self.collector.bad is not None):
            self.stop_sent = True
            # To the program alone: what it started must live while it saves.
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)
            if not self.stop():
                self.deadline = time.monotonic() + _STOP_SECONDS
        if self.deadline is not None and time.monotonic() > self.deadline:
            self.process.kill()


@contextlib.contextmanager
def awaited_end(process: subprocess.Popen[bytes]) -> Iterator[Callable[[float], bool]]:
    """Gives the function that waits up to some seconds for the end of a program, and says whether it has ended."""
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
        process.wait(seconds)  # looks every 50 ms at the latest
    except subprocess.TimeoutExpired:
        return False
    return True
