"""Reading the output of a trained trial of own code again, because the study now reads it in another way.

Nothing is trained. The trial's files are kept in its folder `earlier` before they are changed.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from tunectl.core import real_folders, regular_files
from tunectl.core.files import write_bytes
from tunectl.core.folders import TrialFolder
from tunectl.core.line_file import LineFile
from tunectl.core.log_reader import Tail, log_bytes
from tunectl.core.measurements import Measurement, TrialSeconds
from tunectl.core.own_code_request import OUTPUT, CommandRequest, FunctionRequest
from tunectl.core.path_errors import path_errors
from tunectl.core.records import NO_METRIC, AttemptEnd, TrialResult
from tunectl.programs.collected_metrics import Collector
from tunectl.programs.command_trial import Reading, reading_of
from tunectl.programs.kept_checkpoints import CheckpointPattern, KeptCheckpoints
from tunectl.programs.metric_files import Source
from tunectl.programs.objective_values import UPDATES_REMEDY, no_value
from tunectl.programs.program_outcome import INFEASIBLE_PREFIX, loss_verdict, outcome_of
from tunectl.programs.program_start import placeholder_values
from tunectl.programs.running_program import RunningProgram
from tunectl.programs.unread_output import Beginning, beginnings
from tunectl.store.checkpoint_names import ExistingCheckpoints
from tunectl.store.trial_files import (
    TrialFiles,
    append_attempt,
    counted,
    read_trial,
    write_measurements,
    write_request,
    write_result,
)

_EXIT_CODE = re.compile(r"exit_code_(\d+)")
_NOT_ZERO = 1  # in place of the exit code of a failed program, if it is not known

_UNFINISHED = "it ended early because of a metric that the changed study does not read; it goes on"


@dataclass(frozen=True, slots=True)
class _EndedProcess:
    """Replaces the process of a program that ended long ago."""

    returncode: int = 0


def read_again(
    before: CommandRequest | FunctionRequest, now: CommandRequest | FunctionRequest, folder: TrialFolder
) -> bool:
    """Read the files of a trial by the request `now`, which differs from its own only in how they are read.

    Measurements, result and request are written again, the request last: it shows that the trial has been read. False,
    and nothing is changed, if it cannot be read again because it had several attempts and it is not known where each
    began in the log. Raises FolderError if its folder cannot be written, WorkloadError if a package is missing that
    reads its files.
    """
    files = read_trial(folder)
    if isinstance(now, FunctionRequest) or isinstance(before, FunctionRequest):
        _keep_result(folder, files, _recorded_result(now, folder, files), is_copied=False)
    else:
        begun = _beginnings(folder, files, now)
        # Where only the judgement of the training losses differs, the log is not needed.
        is_read_alike = before == replace(now, baseline_loss=before.baseline_loss, no_progress=before.no_progress)
        if is_read_alike and not (begun and folder.log.exists()):
            _keep_result(folder, files, _recorded_result(now, folder, files), is_copied=False)
        elif files.attempt and not begun:
            return False
        elif begun:
            _read(before, now, folder, files, begun)
    write_request(folder, now)
    return True


def _recorded_result(
    request: CommandRequest | FunctionRequest, folder: TrialFolder, files: TrialFiles
) -> TrialResult | None:
    """The result of a trial by its present measurements."""
    if files.result is None:
        return None
    result = replace(files.result, baseline_loss=request.baseline_loss)
    if isinstance(request, FunctionRequest) and result.state == "failed" and result.reason == NO_METRIC:
        # A function records all its metrics, whatever the objective is.
        collector = Collector(lambda: 0.0)
        collector.begin_with(files.measurements)
        if request.objective.metric not in collector.names:
            return result
        without = no_value(collector, request.objective, UPDATES_REMEDY)
        if without is not None:
            state, reason, message, step = without
            return replace(result, state=state, reason=reason, message=message, infeasible_step=step)
    elif result.state != "completed" and not _is_by_losses(result):
        return result
    found = loss_verdict(request, folder)
    if found is not None:
        state, step = "infeasible", result.final_step
        return replace(result, state=state, reason=found.reason, message=found.message, infeasible_step=step)
    if result.state == "completed":
        return result
    return replace(result, state="completed", reason="", message="", infeasible_step=None)


def _is_by_losses(result: TrialResult) -> bool:
    """Whether the trial came to its end, and is infeasible only because of its training losses."""
    if result.state != "infeasible" or result.reason not in ("diverged", "no_progress"):
        return False
    # `tunectl.Infeasible`, or a pattern of the study, may give the same reasons.
    return result.message != result.reason and not result.message.startswith(INFEASIBLE_PREFIX)


def _beginnings(folder: TrialFolder, files: TrialFiles, request: CommandRequest) -> list[Beginning]:
    """How the attempts began, from the last one without a checkpoint on; [] if that is not known."""
    known = beginnings(folder)
    if not known and files.attempt == 1:
        known = [Beginning(None, 0)]
    fresh = [index for index, item in enumerate(known) if item.step is None and not item.mark]
    found = known[fresh[-1] :] if fresh else []
    if any(item.step is None or item.lost for item in found[1:]):
        return []  # the step where it resumed is not known, or a part of the log is missing
    files_of_metrics = [
        item for item in request.program.sources if item.source_kind != "regex" and item.where != OUTPUT
    ]
    counted = any(item.every is not None for item in files_of_metrics)
    # A file with several attempts, each of which went back some steps, cannot be counted.
    return [] if len(found) > 1 and counted else found


def _read(
    before: CommandRequest, now: CommandRequest, folder: TrialFolder, files: TrialFiles, begun: Sequence[Beginning]
) -> None:
    values = placeholder_values(now, folder, None)
    scratch = TrialFolder(folder.path / ".again")
    real_folders.remove_all(scratch.path, folder.study)
    real_folders.made(scratch.path, folder.study)
    try:
        running = _read_attempts(now, folder, scratch, values, begun)
        found = read_trial(scratch).measurements
    finally:
        with contextlib.suppress(OSError):
            real_folders.remove_all(scratch.path, folder.study)
    if now.program.checkpoints != before.program.checkpoints:
        _forget_links(folder)
    measurements = _completed(found, files, _checkpoints(now, folder, values, found), folder)
    is_other = measurements != list(files.measurements)
    if is_other:
        _copy(folder)
        write_measurements(folder, measurements)
    # Judged by what the folder says now.
    _keep_result(folder, files, _outcome(running, files), is_copied=is_other)


def _read_attempts(
    request: CommandRequest,
    folder: TrialFolder,
    scratch: TrialFolder,
    values: Mapping[str, str],
    begun: Sequence[Beginning],
) -> RunningProgram:
    """The program after its log and its files were read, attempt by attempt; its measurements are in `scratch`."""
    running: RunningProgram | None = None
    ends = [*(item.log_bytes for item in begun[1:]), None]
    for attempt, end in zip(begun, ends, strict=True):
        reading = reading_of(request, values, lambda: 0.0)
        if running is not None and attempt.step is not None:
            kept = [item for item in read_trial(scratch).measurements if item.step <= attempt.step]
            write_measurements(scratch, kept)
            reading.collector.begin_with(kept)
            bad = running.collector.first_nan
            reading.collector.first_nan = bad if bad is not None and bad[0] <= attempt.step else None
            reading.reader.go_on_from(attempt.step)
        kept_bytes = log_bytes(scratch.measurements)
        with contextlib.closing(LineFile(scratch.measurements, kept_bytes)) as measurements:
            # The files have the metrics of all attempts.
            files = [*(file for _, file in reading.files), reading.recorded] if end is None else []
            running = _ended_run(
                request, folder, reading, measurements, Tail(folder.log, attempt.log_bytes, end), files
            )
            running.update(ended=True)
    assert running is not None, "a trial that was launched has at least one attempt"
    return running


def _ended_run(
    request: CommandRequest,
    folder: TrialFolder,
    reading: Reading,
    measurements: LineFile,
    output: Tail,
    files: list[Source],
) -> RunningProgram:
    return RunningProgram(
        request=request,
        folder=folder,
        process=cast("subprocess.Popen[bytes]", _EndedProcess()),
        stop=lambda: False,
        output=output,
        reader=reading.reader,
        files=files,
        recorded=reading.recorded,
        collector=reading.collector,
        kept=None,
        flusher=None,
        measurements=measurements,
        log_offset=output.offset,
        patterns=[re.compile(text) for text in request.program.infeasible.patterns],
    )


def _outcome(running: RunningProgram, files: TrialFiles) -> TrialResult | None:
    """The trial's result by what was read now; None if it has none, or if the trial must go on."""
    old = files.result and replace(files.result, baseline_loss=running.request.baseline_loss)
    if old is None:
        last = files.attempts[-1] if files.attempts else None
        if last is None or not last.final or last.reason != "crashed":
            return None
        # A program killed by a signal has a result only if a pattern of `infeasible` matches its output.
        new = _ended_by(running, _NOT_ZERO, TrialSeconds())
        return replace(new, attempt=last.attempt, device=last.device) if new.state == "infeasible" else None
    if old.reason == "error" or old.state == "stopped":  # a trial that was stopped early has not come to its end
        return old
    code = _exit_code(old)
    if code is None and running.collector.first_nan is None and old.reason == "nan_metric":
        return None
    new = _ended_by(
        running, _NOT_ZERO if code is None else code, TrialSeconds(old.train_seconds, 0.0, old.startup_seconds)
    )
    if code is None and new.reason == f"exit_code_{_NOT_ZERO}":
        return old
    same = {name: getattr(old, name) for name in ("eval_seconds", "device", "attempt", "exit_code")}
    return replace(new, **same)


def _ended_by(running: RunningProgram, code: int, seconds: TrialSeconds) -> TrialResult:
    running.process = cast("subprocess.Popen[bytes]", _EndedProcess(code))
    result = outcome_of(running, seconds, dies=False)
    assert result is not None, "only a trial that was stopped has no result"
    return result


def _exit_code(result: TrialResult) -> int | None:
    """The exit code of the program, None if it is not known."""
    if result.exit_code is not None:
        return result.exit_code
    if result.state == "completed" or result.reason == NO_METRIC or _is_by_losses(result):
        return 0
    match = _EXIT_CODE.fullmatch(result.reason)
    return int(match[1]) if match else None


def _checkpoints(
    request: CommandRequest, folder: TrialFolder, values: Mapping[str, str], found: Sequence[Measurement]
) -> Mapping[int, str]:
    """The names of the existing checkpoints by step, each with its link; none is removed."""
    if request.program.checkpoints is None or request.program.checkpoints.is_one:
        return {}
    pattern = CheckpointPattern.of(request.program.checkpoints, values)
    by_step = {item.step: item.metrics.get(request.objective.metric) for item in found}
    every_one = len(pattern.found())
    kept = KeptCheckpoints(pattern, folder, request.objective, every_one)
    return kept.tidy(by_step.get, None, ended=False)


def _forget_links(folder: TrialFolder) -> None:
    """Remove the links to checkpoints: with another pattern their names may be those of others."""
    with contextlib.suppress(FileNotFoundError):
        for path in folder.checkpoints.iterdir():
            if path.is_symlink() or (path.is_file() and path.stat().st_nlink > 1):
                real_folders.remove(path, folder.study)


def _completed(
    found: Sequence[Measurement], files: TrialFiles, checkpoints: Mapping[int, str], folder: TrialFolder
) -> list[Measurement]:
    """The measurements that were read, with their times and checkpoints, as far as these are known."""
    known = {item.step: item for item in files.measurements}
    there = ExistingCheckpoints(folder)
    last, seconds = (
        max((item.step for item in found), default=None),
        files.result.train_seconds if files.result else 0.0,
    )
    completed = []
    for item in found:
        before = known.get(item.step)
        elapsed = before.elapsed_seconds if before is not None else seconds if item.step == last else 0.0
        name = checkpoints.get(item.step)
        if name is None and before is not None and before.checkpoint in there:
            name = before.checkpoint
        completed.append(item._replace(elapsed_seconds=elapsed, checkpoint=name))
    return completed


def _keep_result(folder: TrialFolder, files: TrialFiles, result: TrialResult | None, *, is_copied: bool) -> None:
    """Write the result if it has changed, and keep the files before in the trial's `earlier`."""
    if result is None or files.result is None:
        is_same = result is files.result
    else:
        # The number of its measurements is compared, too, if it is known.
        lines = files.result.measurements
        is_same = result == files.result and lines in (None, counted(folder, result).measurements)
    if is_same:
        return
    if not is_copied:
        _copy(folder)
    with path_errors(folder.result, "written"):
        if result is not None:
            write_result(folder, result)
        elif files.result is not None:
            if files.result.attempt > (files.attempts[-1].attempt if files.attempts else 0):
                append_attempt(
                    folder, AttemptEnd(files.result.attempt, "cancelled", _UNFINISHED, False, files.result.device)
                )
            real_folders.remove(folder.result, folder.study)


def _copy(folder: TrialFolder) -> None:
    """Keep a copy of the files that will be written again."""
    with path_errors(folder.earlier, "written"):
        real_folders.made(folder.earlier, folder.study)
        numbers = [int(path.name) for path in folder.earlier.iterdir() if path.name.isdecimal()]
        place = folder.earlier / str(max(numbers, default=0) + 1)
        real_folders.made(place, folder.study, exist_ok=False)
        for path in (folder.measurements, folder.result, folder.request):
            with contextlib.suppress(FileNotFoundError):
                kept = regular_files.content(path, largest=regular_files.LARGEST_LINES_BYTES, within=folder.study)
                write_bytes(place / path.name, kept, within=folder.study)
