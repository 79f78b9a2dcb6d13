"""The result of a trial that runs a command, by how the program ended and what it printed."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import resource
import signal
from collections.abc import Callable
from dataclasses import replace

from tunectl.core import jsontext
from tunectl.core.failure_line import (
    LAST_LINES,
    failure_excerpt,
    failure_line,
    failure_place,
    informative_lines,
)
from tunectl.core.folders import TrialFolder
from tunectl.core.log_reader import last_lines
from tunectl.core.measurements import TrialSeconds
from tunectl.core.own_code_request import OUTPUT, TRAINING_LOSS, CommandRequest, FunctionRequest, ended_early
from tunectl.core.records import NO_METRIC, TrialResult
from tunectl.core.shortages import file_size_remedy
from tunectl.programs.kept_checkpoints import LED_OUT
from tunectl.programs.metric_files import Source
from tunectl.programs.objective_values import no_value
from tunectl.programs.output_reader import OutputReader
from tunectl.programs.running_program import RunningProgram
from tunectl.programs.torchrun import RANKS, cause_of, rank_output
from tunectl.programs.training_losses import LossVerdict, verdict_on
from tunectl.store.trial_files import read_trial

_TAIL_LINES = 400
_KEPT_LINES = 40
_STEPS_REMEDY = "count what is printed with `every: 1`, or add `offset: 1` where its steps begin at 0"
_DEADLY = {
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGILL, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE),
    *(signal.SIGKILL, signal.SIGSEGV, signal.SIGPIPE, signal.SIGALRM, signal.SIGTERM, signal.SIGXCPU, signal.SIGXFSZ),
    *(signal.SIGSYS, signal.SIGUSR1, signal.SIGUSR2),
}
_NO_CHECKPOINT = "no checkpoint of the best evaluation is known"
INFEASIBLE_PREFIX = "it said: "
"""The message of a trial that is infeasible because of a printed line begins like this, also in earlier versions."""
_OUT_OF_MEMORY = re.compile("out of memory", re.IGNORECASE)


def outcome_of(
    running: RunningProgram,
    seconds: TrialSeconds,
    *,
    dies: bool = True,
    failed: Callable[[int], None] = lambda _code: None,
) -> TrialResult | None:
    """The result of a trial whose program has ended, None if the trial was stopped; see `run_command`.

    `dies`: if a signal ended the program, end this process by the same signal. `failed` is called before that with the
    exit code of a program that failed, or of the process of its devices that was the cause.
    """
    collector, ends = running.collector, running.request.program.infeasible
    code, tail = _cause(running)

    def result(state: str, reason: str, message: str, step: int | None = None) -> TrialResult:
        return TrialResult(
            trial=running.request.trial,
            state=state,  # type: ignore[arg-type]
            reason=reason,
            message=jsontext.one_line(message),
            infeasible_step=step,
            final_step=collector.last_step,
            train_seconds=seconds.train_seconds,
            startup_seconds=seconds.startup_seconds,
            where=failure_place(tail) if state == "failed" else "",
            traceback="\n".join(failure_excerpt(tail, _KEPT_LINES)) + "\n" if state == "failed" else "",
            exit_code=None if running.stop_sent or code < 0 else code,
            baseline_loss=running.request.baseline_loss,
        )

    if collector.first_nan is not None:
        step, metric = collector.first_nan
        return result("infeasible", "nan_metric", f"{metric} is NaN at step {step}", step)
    if running.stop() and not (code == 0 and (collector.last_step or 0) >= running.request.max_train_steps):
        return None
    if code == 0:
        if missing := _missing(running):
            tail = last_lines(running.folder.log, running.log_offset, _TAIL_LINES)
            return result("failed", NO_METRIC, missing)
        return _ended_well(running, result)
    last = failure_line(tail) or "it printed nothing"
    if code in ends.exit_codes:
        return result("infeasible", f"exit_code_{code}", f"{last} (exit code {code})", collector.last_step)
    if line := running.infeasible_line:
        reason = "out_of_memory" if _OUT_OF_MEMORY.search(line) else jsontext.one_line(line)[:80]
        return result("infeasible", reason, f"{INFEASIBLE_PREFIX}{line}", collector.last_step)
    failed(code)
    if dies and (number := signal_of(code)):
        _die_by(number)
    limit = f"; {file_size_remedy()}" if "File too large" in last else ""
    return result("failed", f"exit_code_{code}", f"{last} (exit code {code}){limit}")


def _ended_well(running: RunningProgram, result: Callable[..., TrialResult]) -> TrialResult:
    """The result of a program that ended with 0 and printed its objective; `result` creates one."""
    without = no_value(running.collector, running.request.objective, _STEPS_REMEDY)
    if without is not None:
        return result(*without)
    # Reading a million measurements takes seconds.
    found = loss_verdict(running.request, running.folder) if TRAINING_LOSS in running.collector.names else None
    if found is not None:
        return result("infeasible", found.reason, found.message, running.collector.last_step)
    unread = {metric: why for item in _readers(running) for metric, why in item.unread.items()}
    notes = {f"{metric} could not be read": why for metric, why in unread.items()}
    notes |= _silent(running) | _early_end(running)
    kept = "" if running.kept is None else running.kept.note
    texts = [f"{note} ({detail})" if detail else note for note, detail in notes.items()]
    message = "; ".join([*texts, *filter(None, [kept])])
    of_checkpoints = {LED_OUT: ""} if kept == LED_OUT else {_NO_CHECKPOINT: kept}
    return replace(result("completed", "", message), notes=notes | (of_checkpoints if kept else {}))


def loss_verdict(request: CommandRequest | FunctionRequest, folder: TrialFolder) -> LossVerdict | None:
    """The verdict on a trial that came to its end by its training losses; see `verdict_on`."""
    return verdict_on(
        read_trial(folder).measurements,
        request.objective,
        baseline=request.baseline_loss,
        no_progress=request.no_progress,
    )


def _early_end(running: RunningProgram) -> dict[str, str]:
    """The note about a program that ended with 0 long before its last step.

    It may have stopped by itself, or another process may have stopped it, after which it saved and ended with 0.
    """
    last, steps = running.collector.last_step, running.request.max_train_steps
    printed = [0, *(step for step, _ in running.collector.evaluations(running.request.objective.metric))]
    interval = max((after - before for before, after in itertools.pairwise(printed)), default=0)
    if last is None or running.request.program.prints_no_step or not ended_early(last, interval, steps):
        return {}
    detail = (
        f"at step {last:,} of {steps:,}: it stops early by itself, counts other steps, or was stopped by another "
        "process than tunectl"
    )
    return {"the program ended before its last step": detail}


def _cause(running: RunningProgram) -> tuple[int, list[str]]:
    """The exit code, and the last lines if it is not 0.

    On several devices they are those of the rank that failed first. The output of ranks other than 0 is read here.
    """
    code = running.process.returncode
    if code == 0:
        return 0, []
    if running.request.program.devices == 1:
        return code, last_lines(running.folder.log, running.log_offset, _TAIL_LINES)
    ranks = running.folder.files / RANKS
    cause = cause_of(code, running.folder.log, running.log_offset, ranks)
    for rank in range(1, running.request.program.devices):
        running.search(rank_output(ranks, rank))
    return cause.code, cause.lines


def _readers(running: RunningProgram) -> list[OutputReader | Source]:
    return [running.reader, *running.files]


def _missing(running: RunningProgram) -> str:
    """What is wrong if the objective was never printed; "" if it was."""
    metric, names, sources = running.request.objective.metric, running.collector.names, running.request.program.sources
    if metric in names:
        return ""
    tail = informative_lines(last_lines(running.folder.log, running.log_offset, _TAIL_LINES), 3)
    said = f"{LAST_LINES}{' / '.join(tail)}" if tail else "; it printed nothing"
    unread = next((f"{why}; " for item in _readers(running) for why in item.unread.values()), "")
    wanted = "; ".join(f"{item.source_kind} {item.where}" for item in sources) or "tunectl.record"
    if names:
        printed = ", ".join(sorted(names)[:10])
        return (
            f"it ended without printing the objective {metric}; {unread}it printed {printed}: rename one with `names`; "
            f"looked for: {wanted}{said}"
        )
    return f"it ended without printing any metric; {unread}looked for: {wanted}{said}"


def _silent(running: RunningProgram) -> dict[str, str]:
    """Metrics and sources that the study declares but that had no values, each with its place."""
    found: dict[str, str] = {}
    files = [item for item in running.request.program.sources if item.source_kind != "regex" and item.where != OUTPUT]
    # The last reader is for `tunectl.record`, which is not declared.
    silent = [source for source, file in zip(files, running.files, strict=False) if not file.has_found]
    for source in (*silent, *running.reader.silent()):
        found[f"no metric was found by {source.source_kind} {source.where}"] = ""
    for source in running.request.program.sources:
        for name in sorted(source.named() - running.collector.names):
            what = "the expression" if source.source_kind == "regex" else source.source_kind
            found[f"{name} was never printed"] = f"the study has {what} {source.where!r} for it"
    for name in running.request.program.infeasible.metrics:
        if name not in running.collector.names:
            found.setdefault(f"{name} was never printed", "the study has it under infeasible")
    return found


def signal_of(code: int) -> int:
    """The signal that ended a program, or a command in its shell; 0 if there was none.

    A shell, a container or a launcher ends with 128 plus the number of the signal.
    """
    if code < 0:
        return -code
    return code - 128 if code - 128 in _DEADLY else 0


def _die_by(number: int) -> None:
    """End this process by the signal that ended the program, since the runner sees only this process."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
