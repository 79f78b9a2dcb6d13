"""A trial that is a program: started, read while it runs, and judged by how it ends."""

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
from tunectl.core.full_disk import lack_of_room
from tunectl.core.line_file import LineFile
from tunectl.core.program_request import OUTPUT, MetricSource, ProgramRequest
from tunectl.core.recorded_metrics import RECORDED
from tunectl.core.records import Measurement, TrialResult, TrialSeconds
from tunectl.core.shortages import shortage_said
from tunectl.core.text_lines import Tail, last_lines
from tunectl.language.placeholders import filled
from tunectl.programs.checkpoint_steps import is_other_unit
from tunectl.programs.collected_metrics import Collector
from tunectl.programs.file_sources import JsonLinesFile, Source, file_source
from tunectl.programs.flushed_output import Flushed, Flusher, SavedPoint, note_flushed, read_flushed
from tunectl.programs.kept_checkpoints import CheckpointPattern, KeptCheckpoints
from tunectl.programs.late_output import Beginning, catch_up, last_beginning, note_beginning
from tunectl.programs.output_reader import OutputReader
from tunectl.programs.overwritten_checkpoint import OverwrittenCheckpoint
from tunectl.programs.process_end import awaited_end
from tunectl.programs.program_outcome import judged
from tunectl.programs.program_start import (
    Resume,
    mark_of,
    placeholder_values,
    prepared,
    remove_put_away,
    started,
    write_hyperparameters,
)
from tunectl.programs.running_program import ProgramRun
from tunectl.store.trial_files import read_trial, write_measurements

_LOOK_SECONDS = 0.2
_GLANCE_SECONDS = 0.01
"""How often it is looked whether anything came, where the moment counts."""

_POLL_SECONDS = 0.05
_TAIL_LINES = 400


_RECORDED = MetricSource("json_lines", "")


def run_command(
    request: ProgramRequest,
    folder: TrialFolder,
    *,
    stop: Callable[[], bool],
    seconds: TrialSeconds,
    log: int = 1,
) -> TrialResult | None:
    """Run the program of a trial to its end; its output goes to the descriptor `log`, which must be the trial's log.

    Gives None where it was stopped before it had ended by itself. A program that was killed by a signal ends this
    process by the same one. Raises WorkloadError where it cannot be started, OSError where the machine is short of what
    a process needs, or where the program failed since the study's disk is full, and ShortageError where it failed since
    the machine was short of something.
    """
    began = time.monotonic()
    resume, reading, kept_bytes = gone_on_from(request, folder, lambda: time.monotonic() - began)
    values = placeholder_values(request, folder, resume)
    write_hyperparameters(request, Path(values["trial.hyperparameters"]))
    offset = os.fstat(log).st_size
    with contextlib.ExitStack() as stack:
        measurements = LineFile(folder.measurements, kept_bytes)
        stack.callback(measurements.close)
        # What was caught up with is written before another place in the log is the last one.
        reading.collector.write(measurements)
        flusher, beginning = _flusher(request, folder, resume), _beginning(resume, folder, offset)
        note_beginning(folder, beginning, durable=request.program.goes_on)
        seconds.startup_seconds += time.monotonic() - began
        run = ProgramRun(
            request=request,
            folder=folder,
            process=started(request, values, log),
            stop=stop,
            output=Tail(folder.log, offset),
            reader=reading.reader,
            files=[file for _, file in reading.all_files],
            recorded=reading.recorded,
            collector=reading.collector,
            kept=_kept(request, folder, values, reading.collector),
            flusher=flusher,
            measurements=measurements,
            log_offset=offset,
            patterns=[re.compile(text) for text in request.program.infeasible.patterns],
        )
        stack.callback(lambda: run.measurements.close())
        try:
            _watch(run, beginning)
        finally:
            seconds.train_seconds += time.monotonic() - began
        run.measurements.sync()
        _flush_at_the_end(run)
    _raise_if_the_machine_is_to_blame(run)
    result = judged(run, seconds)
    if result is not None and result.state != "failed":
        remove_put_away(request, folder)
    return result


@dataclass(frozen=True, slots=True)
class Reading:
    """What reads a program's output and files, and puts together what they tell."""

    collector: Collector
    reader: OutputReader
    files: list[tuple[MetricSource, Source]]
    recorded: JsonLinesFile
    by_rank: bool

    @property
    def all_files(self) -> list[tuple[MetricSource, Source]]:
        """The files, and the one of `tunectl.record`, which needs no declaration."""
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
        """Add what the attempt before printed of steps up to `step`; see `catching_up.catch_up`."""
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


def reading_of(request: ProgramRequest, values: Mapping[str, str], now_seconds: Callable[[], float]) -> Reading:
    """What reads a trial's program, whose placeholders have these values; raises what `file_source` does."""
    collector = Collector(now_seconds, counts=request.program.prints_no_step, matters=_ends_it(request))
    reader = OutputReader(request.program.sources, request.objective.metric)
    return Reading(collector, reader, _files(request, values), _recorded(values), by_rank=request.program.devices > 1)


def _watch(run: ProgramRun, beginning: Beginning) -> None:
    """Wait for the program's end, looking at what it tells meanwhile."""
    wait = _GLANCE_SECONDS if isinstance(run.kept, OverwrittenCheckpoint) else _LOOK_SECONDS
    looked, noted = 0.0, not run.request.program.takes_resume
    with awaited_end(run.process) as has_ended:
        # Not looked at once more before the last look.
        while not has_ended(wait):
            if not run.is_quiet() or time.monotonic() - looked >= _LOOK_SECONDS:
                run.look()
                looked = time.monotonic()
            run.press()
            if run.stop_sent and not noted:
                note_beginning(run.folder, replace(beginning, was_stopped=True))
                noted = True
    if run.stop_sent and run.stop():
        _stop_the_others(run.process.pid)
    run.look(ended=True)


def _raise_if_the_machine_is_to_blame(run: ProgramRun) -> None:
    """Raise OSError where a program failed since the disk that holds its trial is full, ShortageError where the machine
    was short of something: these are no failures of its own.
    """
    code = run.process.returncode
    if code == 0 or run.stop_sent:
        return
    lines = last_lines(run.folder.log, run.log_offset, _TAIL_LINES)
    error = lack_of_room(run.folder.path, "\n".join(lines))
    if error is not None:
        raise error
    lack = shortage_said(failure_line(lines)) if code not in run.request.program.infeasible.exit_codes else ""
    if lack:
        raise ShortageError(lack)


def _stop_the_others(group: int) -> None:
    """Let what a program left behind save, too: a shell or a launcher may end at SIGTERM before what it started.

    How long is for the runner to say, which kills them all after the grace.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGTERM)
        while True:
            # Orphans come to this process, and a zombie is a member, too.
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-group, os.WNOHANG)[0]:
                    pass
            os.killpg(group, 0)
            time.sleep(_POLL_SECONDS)


def _ends_it(request: ProgramRequest) -> Callable[[str], bool]:
    """Which metrics end a trial when they are no number: the objective, and what the study marks.

    A gradient norm is NaN wherever mixed precision skips an update, and the training goes on.
    """
    marked = {request.objective.metric, *request.program.infeasible.metrics}
    return lambda name: name in marked


def _beginning(resume: Resume | None, folder: TrialFolder, offset: int) -> Beginning:
    if resume is None:
        return Beginning(None, offset)
    return Beginning(resume.step, offset, mark=mark_of(resume.path, folder), lost=not resume.is_log_whole)


def _flusher(request: ProgramRequest, folder: TrialFolder, resume: Resume | None) -> Flusher | None:
    """What flushes the trial's lines, where it can go on; it is noted that so far they are on the disk."""
    if not request.program.goes_on:
        return None
    point = None if resume is None else SavedPoint.of(resume.number, resume.path)
    note_flushed(folder, point)
    return Flusher(folder, point)


def _flush_at_the_end(run: ProgramRun) -> None:
    """Flush the log, which a changed study may read again, and note that all is on the disk where the trial goes on."""
    flush_file(run.folder.log)
    if run.flusher is not None:
        run.flusher.end()


def _is_known(
    request: ProgramRequest, folder: TrialFolder, before: Beginning | None, noted: Flushed | None
) -> Callable[[SavedPoint], bool]:
    """Whether all that the attempt before, which was cut off, had told when a checkpoint was there is known."""
    reading = reading_of(request, placeholder_values(request, folder, None), lambda: 0.0)
    collector, measurements, metric = reading.collector, read_trial(folder).measurements, request.objective.metric
    collector.begin_with(measurements)
    reading.catch_up(folder, sys.maxsize, before, measurements, is_whole=False)
    last, distance = collector.last_told(metric), collector.least_distance(metric)
    # Where nothing is noted, an earlier version ran it, and of a file without a number nothing can be known.
    is_earlier, holds = noted is None and before is not None, noted is not None and noted.holds(folder)

    def is_known(point: SavedPoint) -> bool:
        is_noted = noted.covers(point) if noted is not None and holds else is_earlier and point.number is None
        if point.number is None or last is None or is_other_unit([point.number], last, request.max_train_steps):
            return is_noted
        if distance is None:
            return is_noted or point.number <= last
        # At the step of the next evaluation it is not known whether the program prints it before or after it saves.
        following = last + distance
        return point.number < following or (is_noted and point.number > following)

    return is_known


def gone_on_from(
    request: ProgramRequest, folder: TrialFolder, now_seconds: Callable[[], float]
) -> tuple[Resume | None, Reading, int]:
    """The checkpoint from which the program goes on, None where it begins anew; what reads it, and holds what is known
    until then; and how many bytes of the measurements stay.

    The measurements are cut back to that step, and what was told and not yet read is added. Where the step is not
    known, they are cut back when the program tells the first one. What is counted goes on from the step.
    """
    before, noted = last_beginning(folder), read_flushed(folder)
    is_there = noted is not None and noted.holds(folder)
    is_whole = is_there and noted is not None and noted.is_all
    # Without a power cut all is there that was written, though a kill may have torn the last line.
    is_safe = is_whole or (is_there and noted is not None and noted.is_of_this_boot)
    resume = prepared(request, folder, (lambda _point: True) if is_safe else _is_known(request, folder, before, noted))
    reading = reading_of(request, placeholder_values(request, folder, resume), now_seconds)
    if resume is None:
        return None, reading, 0
    measurements = read_trial(folder).measurements
    step = sys.maxsize if resume.step is None else resume.step
    kept = [item for item in measurements if item.step <= step]
    write_measurements(folder, kept)
    reading.collector.begin_with(kept)
    is_log_whole = reading.catch_up(folder, step, before, measurements, is_whole=is_whole)
    reading.collector.goes_on = resume.step is None
    for _, file in reading.all_files:
        file.go_on_from(resume.step or 0)
    reading.reader.go_on_from(resume.step or 0)
    return resume._replace(is_log_whole=is_log_whole), reading, folder.measurements.stat().st_size


def _files(request: ProgramRequest, values: Mapping[str, str]) -> list[tuple[MetricSource, Source]]:
    """The readers of the files that the program writes, as declared."""
    # In folders' names nothing is a wildcard.
    home = Path(glob.escape(request.program.folder))
    plain = {name: glob.escape(text) for name, text in values.items()}
    return [
        (item, file_source(item, str(home / filled(item.where, plain)), request.objective.metric))
        for item in request.program.sources
        if item.kind != "regex" and item.where != OUTPUT
    ]


def _recorded(values: Mapping[str, str]) -> JsonLinesFile:
    """The reader of what `tunectl.record` writes, which needs no declaration."""
    return JsonLinesFile.at(str(Path(glob.escape(values["trial.dir"])) / RECORDED), _RECORDED)


def _kept(
    request: ProgramRequest, folder: TrialFolder, values: Mapping[str, str], collector: Collector
) -> KeptCheckpoints | OverwrittenCheckpoint | None:
    if request.program.checkpoints is None:
        return None
    if request.program.checkpoints.is_one:
        path = Path(filled(request.program.checkpoints.path, values))
        keep, length = request.keep_checkpoints, request.max_train_steps
        one = OverwrittenCheckpoint(path, folder, request.objective, keep, length)
        one.begin(collector)
        return one
    pattern = CheckpointPattern.of(request.program.checkpoints, values)
    return KeptCheckpoints(pattern, folder, request.objective, request.keep_checkpoints, request.max_train_steps)
