"""What the end of a program means for its trial."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import resource
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace

from tunectl.core import jsontext
from tunectl.core.failure_line import (
    LAST_LINES,
    failure_excerpt,
    failure_line,
    failure_place,
    telling_lines,
)
from tunectl.core.folders import TrialFolder
from tunectl.core.program_request import OUTPUT, TRAINING_LOSS, FunctionRequest, ProgramRequest, ended_early
from tunectl.core.records import TrialResult, TrialSeconds
from tunectl.core.shortages import file_size_remedy
from tunectl.core.text_lines import last_lines
from tunectl.programs.file_sources import Source
from tunectl.programs.kept_checkpoints import LED_OUT
from tunectl.programs.objective_values import no_value
from tunectl.programs.output_reader import OutputReader
from tunectl.programs.running_program import ProgramRun
from tunectl.programs.torchrun import RANKS, cause_of, said_by_rank
from tunectl.programs.training_losses import ToldVerdict, verdict_on
from tunectl.store.trial_files import read_trial

_TAIL_LINES = 400
_KEPT_LINES = 40
_STEPS_REMEDY = "count what is printed with `every: 1`, or add `offset: 1` where its steps begin at 0"
_DEADLY = {
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGILL, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE),
    *(signal.SIGKILL, signal.SIGSEGV, signal.SIGPIPE, signal.SIGALRM, signal.SIGTERM, signal.SIGXCPU, signal.SIGXFSZ),
    signal.SIGSYS,
}
_NO_CHECKPOINT = "no checkpoint of the best evaluation is known"
SAID = "it said: "
"""How the message of a trial begins that is infeasible by what it printed."""
_OUT_OF_MEMORY = re.compile("out of memory", re.IGNORECASE)


def judged(run: ProgramRun, seconds: TrialSeconds, *, dies: bool = True) -> TrialResult | None:
    """What the program's end means; see `run_command`.

    `dies`: this process ends by the signal that ended the program.
    """
    collector, ends = run.collector, run.request.program.infeasible
    code, tail = _cause(run)

    def result(state: str, reason: str, message: str, step: int | None = None) -> TrialResult:
        return TrialResult(
            trial=run.request.trial,
            state=state,  # type: ignore[arg-type]
            reason=reason,
            message=jsontext.one_line(message),
            infeasible_step=step,
            final_step=collector.last_step,
            train_seconds=seconds.train_seconds,
            startup_seconds=seconds.startup_seconds,
            where=failure_place(tail) if state == "failed" else "",
            traceback="\n".join(failure_excerpt(tail, _KEPT_LINES)) + "\n" if state == "failed" else "",
            exit_code=None if run.stop_sent or code < 0 else code,
            baseline_loss=run.request.baseline_loss,
        )

    if collector.bad is not None:
        step, metric = collector.bad
        return result("infeasible", "nan_metric", f"{metric} is no number at step {step}", step)
    if run.stop() and not (code == 0 and (collector.last_step or 0) >= run.request.max_train_steps):
        return None
    if code == 0:
        missing = _missing(run)
        if missing:
            tail = last_lines(run.folder.log, run.log_offset, _TAIL_LINES)
            return result("failed", "no_metric", missing)
        return _ended_well(run, result)
    last = failure_line(tail) or "it printed nothing"
    if code in ends.exit_codes:
        return result("infeasible", f"exit_code_{code}", f"{last} (exit code {code})", collector.last_step)
    if run.said:
        reason = "out_of_memory" if _OUT_OF_MEMORY.search(run.said) else jsontext.one_line(run.said)[:80]
        return result("infeasible", reason, f"{SAID}{run.said}", collector.last_step)
    if dies and (number := _signal_of(code)):
        _die_by(number)
    limit = f"; {file_size_remedy()}" if "File too large" in last else ""
    return result("failed", f"exit_code_{code}", f"{last} (exit code {code}){limit}")


def _ended_well(run: ProgramRun, result: Callable[..., TrialResult]) -> TrialResult:
    """The result of a program that ended with 0 and printed its objective; `result` makes one."""
    without = no_value(run.collector, run.request.objective, _STEPS_REMEDY)
    if without is not None:
        return result(*without)
    # Reading a million measurements takes seconds.
    found = told_verdict(run.request, run.folder) if TRAINING_LOSS in run.collector.names else None
    if found is not None:
        return result("infeasible", found.reason, found.message, run.collector.last_step)
    notes, kept = _left_out(run), "" if run.kept is None else run.kept.note
    message = "; ".join([*_in_words(notes), *filter(None, [kept])])
    of_checkpoints = {LED_OUT: ""} if kept == LED_OUT else {_NO_CHECKPOINT: kept}
    return replace(result("completed", "", message), notes=notes | (of_checkpoints if kept else {}))


def told_verdict(request: ProgramRequest | FunctionRequest, folder: TrialFolder) -> ToldVerdict | None:
    """What the training losses of a trial that came to its end say of it; see `verdict_on`."""
    return verdict_on(
        read_trial(folder).measurements,
        request.objective,
        baseline=request.baseline_loss,
        no_progress=request.no_progress,
    )


def _in_words(notes: Mapping[str, str]) -> list[str]:
    return [f"{note} ({detail})" if detail else note for note, detail in notes.items()]


def _left_out(run: ProgramRun) -> dict[str, str]:
    """What could not be read, and what the study declares and the program never told: each with its detail."""
    unread = {metric: why for item in _readers(run) for metric, why in item.unread.items()}
    return {f"{metric} could not be read": why for metric, why in unread.items()} | _silent(run) | _early_end(run)


def _early_end(run: ProgramRun) -> dict[str, str]:
    """Where a program ended well long before its last step: it may have stopped by itself, or somebody else stopped it,
    and saving and ending with 0 is then the right answer.
    """
    last, steps = run.collector.last_step, run.request.max_train_steps
    told = [0, *(step for step, _ in run.collector.evaluations(run.request.objective.metric))]
    interval = max((after - before for before, after in itertools.pairwise(told)), default=0)
    if last is None or run.request.program.prints_no_step or not ended_early(last, interval, steps):
        return {}
    detail = (
        f"at step {last:,} of {steps:,}: it stops early by itself, counts other steps, or was told to end by another "
        "process than tunectl"
    )
    return {"the program ended before its last step": detail}


def _cause(run: ProgramRun) -> tuple[int, list[str]]:
    """The exit code, and the last lines where that is not 0.

    On several devices they are those of the rank that failed first; what others than rank 0 said is heard here.
    """
    code = run.process.returncode
    if code == 0:
        return 0, []
    if run.request.program.devices == 1:
        return code, last_lines(run.folder.log, run.log_offset, _TAIL_LINES)
    ranks = run.folder.files / RANKS
    cause = cause_of(code, run.folder.log, run.log_offset, ranks)
    for rank in range(1, run.request.program.devices):
        run.search(said_by_rank(ranks, rank))
    return cause.code, cause.lines


def _readers(run: ProgramRun) -> list[OutputReader | Source]:
    return [run.reader, *run.files]


def _missing(run: ProgramRun) -> str:
    """What is wrong where the objective was never told; "" where it was."""
    metric, names, sources = run.request.objective.metric, run.collector.names, run.request.program.sources
    if metric in names:
        return ""
    tail = telling_lines(last_lines(run.folder.log, run.log_offset, _TAIL_LINES), 3)
    said = f"{LAST_LINES}{' / '.join(tail)}" if tail else "; it printed nothing"
    unread = next((f"{why}; " for item in _readers(run) for why in item.unread.values()), "")
    wanted = "; ".join(f"{item.kind} {item.where}" for item in sources) or "tunectl.record"
    if names:
        told = ", ".join(sorted(names)[:10])
        return (
            f"it ended without printing the objective {metric}; {unread}it printed {told}: rename one with `names`; "
            f"looked for: {wanted}{said}"
        )
    return f"it ended without printing any metric; {unread}looked for: {wanted}{said}"


def _silent(run: ProgramRun) -> dict[str, str]:
    """What the study declares and the program never told, with where it was looked for."""
    found: dict[str, str] = {}
    files = [item for item in run.request.program.sources if item.kind != "regex" and item.where != OUTPUT]
    # The last reader is of what `tunectl.record` writes, which nobody declares.
    unheard = [source for source, file in zip(files, run.files, strict=False) if not file.heard]
    for source in (*unheard, *run.reader.unheard()):
        found[f"no metric was found by {source.kind} {source.where}"] = ""
    for source in run.request.program.sources:
        for name in sorted(source.named() - run.collector.names):
            what = "the expression" if source.kind == "regex" else source.kind
            found[f"{name} was never printed"] = f"the study has {what} {source.where!r} for it"
    for name in run.request.program.infeasible.metrics:
        if name not in run.collector.names:
            found.setdefault(f"{name} was never printed", "the study has it under infeasible")
    return found


def _signal_of(code: int) -> int:
    """The signal that ended a program, or what a shell ran for it: 0 where none did.

    A shell, and what imitates one (containers, launchers), ends with 128 and the number.
    """
    if code < 0:
        return -code
    return code - 128 if code - 128 in _DEADLY else 0


def _die_by(number: int) -> None:
    """End this process by the signal that ended the program: to the runner both are one."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
