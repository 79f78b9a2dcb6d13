"""A trial that runs a command: the program is started, read while it runs, and judged by how it ends."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tunectl.core.errors import ShortageError
from tunectl.core.failure_line import failure_line
from tunectl.core.files import flush_file
from tunectl.core.folders import TrialFolder
from tunectl.core.line_file import LineFile
from tunectl.core.log_reader import Tail, last_lines
from tunectl.core.measurements import Measurement, TrialSeconds
from tunectl.core.own_code_request import OUTPUT, CommandRequest, MetricSource
from tunectl.core.recorded_metrics import RECORDED
from tunectl.core.records import TrialResult
from tunectl.core.shortages import disk_shortage, shortage_said
from tunectl.language.placeholders import filled
from tunectl.programs.checkpoint_steps import is_other_unit
from tunectl.programs.collected_metrics import Collector
from tunectl.programs.flushed_output import Flushed, Flusher, SavedPoint, note_flushed, read_flushed
from tunectl.programs.kept_checkpoints import CheckpointPattern, KeptCheckpoints
from tunectl.programs.metric_files import JsonLinesFile, Source, file_source
from tunectl.programs.output_reader import OutputReader
from tunectl.programs.overwritten_checkpoint import OverwrittenCheckpoint
from tunectl.programs.program_outcome import outcome_of, signal_of
from tunectl.programs.program_start import placeholder_values, started, write_hyperparameters
from tunectl.programs.resumed_checkpoint import (
    Resume,
    checkpoint_to_resume,
    has_set_aside,
    later_checkpoints,
    mark_of,
    put_back,
    remove_put_away,
)
from tunectl.programs.running_program import RunningProgram, waiter_for_end
from tunectl.programs.unread_output import Beginning, catch_up, last_beginning, note_beginning
from tunectl.store.trial_files import read_trial, write_measurements

_UPDATE_SECONDS = 0.2
_CHECK_SECONDS = 0.01
"""How often new output and files are checked for, if the exact time matters."""

_POLL_SECONDS = 0.05
_TAIL_LINES = 400


_BY_ITSELF = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGSYS}
"""The signals that a program gets through what it does. Others come from others, and say nothing of its checkpoint."""

_RECORDED = MetricSource("json_lines", "")


def run_command(
    request: CommandRequest,
    folder: TrialFolder,
    *,
    stop: Callable[[], bool],
    seconds: TrialSeconds,
    log: int = 1,
) -> TrialResult | None:
    """Run the program of a trial to its end; its output goes to the descriptor `log`, which must be the trial's log.

    Gives None if the trial was stopped before the program ended by itself. If a signal kills the program, the same
    signal ends this process. Raises WorkloadError if the program cannot be started, OSError if the machine is short of
    what a process needs or if the program failed because the study's disk is full, and ShortageError if it failed
    because the machine was short of something else.
    """
    began = time.monotonic()
    resume, reading, kept_bytes = prepare_attempt(request, folder, lambda: time.monotonic() - began)
    seconds.train_seconds += reading.collector.before_seconds  # of what it goes on from
    values = placeholder_values(request, folder, None if resume is None else resume.path)
    write_hyperparameters(request, Path(values["trial.hyperparameters"]))
    offset = os.fstat(log).st_size
    with contextlib.ExitStack() as stack:
        measurements = LineFile(folder.measurements, kept_bytes)
        stack.callback(measurements.close)
        # Metrics of the attempt before are written before the beginning of this one is noted.
        reading.collector.write(measurements)
        beginning = _beginning(request, resume, folder, offset)
        note_beginning(folder, beginning, durable=request.program.can_resume)
        seconds.startup_seconds += time.monotonic() - began
        running = RunningProgram(
            request=request,
            folder=folder,
            process=started(request, values, log),
            stop=stop,
            output=Tail(folder.log, offset),
            reader=reading.reader,
            files=[file for _, file in reading.all_files],
            recorded=reading.recorded,
            collector=reading.collector,
            kept=_kept(request, folder, values, reading.collector, beginning.skipped),
            flusher=_flusher(request, folder, resume),
            measurements=measurements,
            log_offset=offset,
            values_before=reading.collector.values_seen,
            patterns=[re.compile(text) for text in request.program.infeasible.patterns],
        )
        stack.callback(lambda: running.measurements.close())
        try:
            _watch(running)
        finally:
            seconds.train_seconds += time.monotonic() - began
        running.measurements.sync()
        _flush_at_the_end(running)
    return _concluded(running, beginning, seconds)


def _concluded(running: RunningProgram, beginning: Beginning, seconds: TrialSeconds) -> TrialResult | None:
    """The result of a program that has ended; see `run_command`."""
    _raise_if_the_machine_is_to_blame(running)
    result = outcome_of(running, seconds, failed=lambda code: _note_failure(running, beginning, code))
    if result is not None and result.state != "failed":
        remove_put_away(running.request, running.folder)
    return result


@dataclass(frozen=True, slots=True)
class Reading:
    """The readers of a program's output and files, and the collector of their metrics."""

    collector: Collector
    reader: OutputReader
    files: list[tuple[MetricSource, Source]]
    recorded: JsonLinesFile
    by_rank: bool

    @property
    def all_files(self) -> list[tuple[MetricSource, Source]]:
        """The declared files, and the one of `tunectl.record`, which is always read."""
        return [*self.files, (_RECORDED, self.recorded)]

    def catch_up(
        self,
        folder: TrialFolder,
        step: int,
        before: Beginning | None,
        earlier: Sequence[Measurement],
        *,
        is_whole: bool,
    ) -> bool:
        """Add the metrics up to `step` that the attempt before printed; see `unread_output.catch_up`."""
        return catch_up(
            self.collector,
            step,
            folder,
            before,
            earlier,
            by_rank=self.by_rank,
            reader=self.reader,
            files=self.all_files,
            is_whole=is_whole,
        )


def reading_of(request: CommandRequest, values: Mapping[str, str], now_seconds: Callable[[], float]) -> Reading:
    """The readers for a trial's program, whose placeholders have these values; raises what `file_source` raises."""
    collector = Collector(now_seconds, counts=request.program.prints_no_step, ends_on_nan=_ends_it(request))
    reader = OutputReader(request.program.sources, request.objective.metric)
    # What `tunectl.record` writes needs no declaration.
    recorded = JsonLinesFile.at(str(Path(glob.escape(values["trial.dir"])) / RECORDED), _RECORDED)
    return Reading(collector, reader, _files(request, values), recorded, by_rank=request.program.devices > 1)


def _watch(running: RunningProgram) -> None:
    """Wait for the program's end, and read its output meanwhile."""
    wait = _CHECK_SECONDS if isinstance(running.kept, OverwrittenCheckpoint) else _UPDATE_SECONDS
    looked = 0.0
    with waiter_for_end(running.process) as has_ended:
        # The last update is below, after the end.
        while not has_ended(wait):
            if not running.is_quiet() or time.monotonic() - looked >= _UPDATE_SECONDS:
                running.update()
                looked = time.monotonic()
            running.stop_if_wanted()
    if running.stop_sent and running.stop():
        _stop_the_others(running.process.pid)
    running.update(ended=True)


def _raise_if_the_machine_is_to_blame(running: RunningProgram) -> None:
    """Raise OSError if the program failed because the trial's disk is full, ShortageError for other shortages.

    These are not failures of the program itself.
    """
    code = running.process.returncode
    if code == 0 or running.stop_sent:
        return
    lines = last_lines(running.folder.log, running.log_offset, _TAIL_LINES)
    error = disk_shortage(running.folder.path, "\n".join(lines))
    if error is not None:
        raise error
    lack = shortage_said(failure_line(lines)) if code not in running.request.program.infeasible.exit_codes else ""
    if lack:
        raise ShortageError(lack)


def _stop_the_others(group: int) -> None:
    """Stop the processes that a program left running, and wait for them, so that they may save, too.

    A shell or a launcher may end at SIGTERM before the processes that it started. The runner kills all of them after
    `resources.grace_seconds`.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGTERM)
        while True:
            # Orphans become children of this process; zombies still count as members of the group.
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-group, os.WNOHANG)[0]:
                    pass
            os.killpg(group, 0)
            time.sleep(_POLL_SECONDS)


def _ends_it(request: CommandRequest) -> Callable[[str], bool]:
    """Which metrics end a trial when they are NaN: the objective, and those that the study marks.

    Others must not: a gradient norm is NaN whenever mixed precision skips an update, and training goes on.
    """
    marked = {request.objective.metric, *request.program.infeasible.metrics}
    return lambda name: name in marked


def _beginning(request: CommandRequest, resume: Resume | None, folder: TrialFolder, offset: int) -> Beginning:
    skipped = later_checkpoints(request, folder, resume)
    if resume is None:
        return Beginning(None, offset, skipped=skipped)
    return Beginning(
        resume.step,
        offset,
        mark=mark_of(resume.path, folder),
        lost=not resume.is_log_whole,
        number=resume.number,
        failures=resume.failures,
        went_back=resume.went_back,
        skipped=skipped,
    )


def _note_failure(running: RunningProgram, beginning: Beginning, code: int) -> None:
    """Note that the program failed with `code`, where that may be because of its checkpoint: by itself, before it
    measured anything. So, too, without one where there was one that was set aside.
    """
    number = signal_of(code)
    is_by_itself = not number or number in _BY_ITSELF
    had_checkpoint = bool(beginning.mark) or has_set_aside(running.folder)
    if had_checkpoint and is_by_itself and running.collector.values_seen == running.values_before:
        note_beginning(running.folder, replace(beginning, failures=beginning.failures + 1))


def _flusher(request: CommandRequest, folder: TrialFolder, resume: Resume | None) -> Flusher | None:
    """The flusher of the trial's lines, if the trial can resume; notes that they are on the disk so far."""
    if not request.program.can_resume:
        return None
    point = None if resume is None else SavedPoint.of(resume.number, resume.path)
    note_flushed(folder, point)
    return Flusher(folder, point)


def _flush_at_the_end(running: RunningProgram) -> None:
    """Flush the log, which a changed study may read again; note this if the trial can resume."""
    flush_file(running.folder.log)
    if running.flusher is not None:
        running.flusher.end()


def _is_known(
    request: CommandRequest, folder: TrialFolder, before: Beginning | None, noted: Flushed | None
) -> Callable[[SavedPoint], bool]:
    """Whether everything is known that the attempt before, which was cut off, printed before a checkpoint."""
    reading = reading_of(request, placeholder_values(request, folder, None), lambda: 0.0)
    collector, measurements, metric = reading.collector, read_trial(folder).measurements, request.objective.metric
    collector.begin_with(measurements)
    reading.catch_up(folder, sys.maxsize, before, measurements, is_whole=False)
    last, distance = collector.last_step_of(metric), collector.least_distance(metric)
    # Without a note an earlier version ran it, and nothing can be known of a file without a number.
    is_earlier, holds = noted is None and before is not None, noted is not None and noted.holds(folder)

    def is_known(point: SavedPoint) -> bool:
        is_noted = noted.covers(point) if noted is not None and holds else is_earlier and point.number is None
        if point.number is None or last is None or is_other_unit([point.number], last, request.max_train_steps):
            return is_noted
        if distance is None:
            return is_noted or point.number <= last
        # The program may print the next evaluation before or after it saves a checkpoint of the same step.
        following = last + distance
        return point.number < following or (is_noted and point.number > following)

    return is_known


def prepare_attempt(
    request: CommandRequest, folder: TrialFolder, now_seconds: Callable[[], float]
) -> tuple[Resume | None, Reading, int]:
    """The checkpoint from which the program resumes, None if it starts over; the readers, with the metrics up to that
    step; and how many bytes of the measurements are kept.

    The measurements are cut back to the step of the checkpoint, and metrics that were printed but not read are added.
    If the step is not known, they are cut back when the program prints its first step. Counting goes on from the step.
    """
    was_put_back = put_back(folder)
    before, noted = last_beginning(folder), read_flushed(folder)
    is_there = noted is not None and noted.holds(folder)
    is_whole = is_there and noted is not None and noted.is_all
    # Without a power cut everything that was written is there, but the last line may be incomplete after a kill.
    is_safe = is_whole or (is_there and noted is not None and noted.is_of_this_boot)
    is_known = (lambda _point: True) if is_safe else _is_known(request, folder, before, noted)
    resume = checkpoint_to_resume(request, folder, is_known, was_put_back=was_put_back)
    reading = reading_of(
        request, placeholder_values(request, folder, None if resume is None else resume.path), now_seconds
    )
    if resume is None:
        return None, reading, 0
    measurements = read_trial(folder).measurements
    step = sys.maxsize if resume.step is None else resume.step
    kept = [item for item in measurements if item.step <= step]
    write_measurements(folder, kept)
    reading.collector.begin_with(kept)
    is_log_whole = reading.catch_up(folder, step, before, measurements, is_whole=is_whole)
    reading.collector.resumes_at_unknown_step = resume.step is None
    for _, file in reading.all_files:
        file.go_on_from(resume.step or 0)
    reading.reader.go_on_from(resume.step or 0)
    return resume._replace(is_log_whole=is_log_whole), reading, folder.measurements.stat().st_size


def _files(request: CommandRequest, values: Mapping[str, str]) -> list[tuple[MetricSource, Source]]:
    """The readers of the files that the study declares."""
    # Names of folders have no wildcards.
    home = Path(glob.escape(request.program.folder))
    plain = {name: glob.escape(text) for name, text in values.items()}
    return [
        (item, file_source(item, str(home / filled(item.where, plain)), request.objective.metric))
        for item in request.program.sources
        if item.source_kind != "regex" and item.where != OUTPUT
    ]


def _kept(
    request: CommandRequest,
    folder: TrialFolder,
    values: Mapping[str, str],
    collector: Collector,
    skipped: frozenset[str],
) -> KeptCheckpoints | OverwrittenCheckpoint | None:
    if request.program.checkpoints is None:
        return None
    if request.program.checkpoints.is_one:
        path = Path(filled(request.program.checkpoints.path, values))
        keep, length = request.keep_checkpoints, request.max_train_steps
        one = OverwrittenCheckpoint(path, folder, request.objective, keep, length)
        one.begin(collector)
        return one
    pattern = CheckpointPattern.of(request.program.checkpoints, values, skipped)
    return KeptCheckpoints(pattern, folder, request.objective, request.keep_checkpoints, request.max_train_steps)
