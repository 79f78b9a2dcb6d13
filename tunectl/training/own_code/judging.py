"""What the end of a program means for its trial."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal

from tunectl.core import jsontext
from tunectl.core.folders import TrialFolder
from tunectl.core.programs import OUTPUT, FunctionRequest, ProgramRequest
from tunectl.core.records import TrialResult, TrialSeconds
from tunectl.store.trial_files import read_trial
from tunectl.training.own_code.at_work import PLACE, ProgramRun
from tunectl.training.own_code.lines import last_lines
from tunectl.training.own_code.told_losses import ToldVerdict, verdict_on
from tunectl.training.own_code.torchrun import RANKS, cause_of, said_by_rank

_TAIL_LINES = 20
_OUT_OF_MEMORY = re.compile("out of memory", re.IGNORECASE)


def judged(run: ProgramRun, seconds: TrialSeconds) -> TrialResult | None:
    """What the program's end means; see `run_command`."""
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
            where=_place(tail) if state == "failed" else "",
            traceback="\n".join(tail) + "\n" if state == "failed" else "",
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
        found = None if missing else told_verdict(run.request, run.folder)
        if found is not None:
            return result("infeasible", found.reason, found.message, collector.last_step)
        if not missing:
            notes = (_left_out(run), "" if run.kept is None else run.kept.note)
            return result("completed", "", "; ".join(note for note in notes if note))
        tail = last_lines(run.folder.log, run.log_offset, _TAIL_LINES)
        return result("failed", "no_metric", missing)
    last = tail[-1] if tail else "it printed nothing"
    if code in ends.exit_codes:
        return result("infeasible", f"exit_code_{code}", f"{last} (exit code {code})", collector.last_step)
    if run.said:
        reason = "out_of_memory" if _OUT_OF_MEMORY.search(run.said) else jsontext.one_line(run.said)[:80]
        return result("infeasible", reason, f"it said: {run.said}", collector.last_step)
    if code < 0:
        _die_by(-code)
    return result("failed", f"exit_code_{code}", f"{last} (exit code {code})")


def told_verdict(request: ProgramRequest | FunctionRequest, folder: TrialFolder) -> ToldVerdict | None:
    """What the training losses of a trial that came to its end say of it; see `verdict_on`."""
    return verdict_on(
        read_trial(folder).measurements,
        request.objective.metric,
        baseline=request.baseline_loss,
        no_progress=request.no_progress,
    )


def _left_out(run: ProgramRun) -> str:
    """The first thing that was told and could not be read, "" where all could."""
    unread = next((text for text in (run.reader.unread, *(file.unread for file in run.files)) if text), "")
    return f"some of what it told is left out: {unread}" if unread else ""


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
    return cause.code, cause.lines[-_TAIL_LINES:]


def _missing(run: ProgramRun) -> str:
    """What is wrong where the objective, or what else the study declares, was never told; "" where all was."""
    metric, names, sources = run.request.objective.metric, run.collector.names, run.request.program.sources
    silent = _silent(run) if metric in names else ""
    if metric in names and not silent:
        return ""
    tail = last_lines(run.folder.log, run.log_offset, 3)
    said = f"its last lines were: {' / '.join(tail)}" if tail else "it printed nothing"
    left_out = _left_out(run)
    said = f"{left_out}; {said}" if left_out else said
    if silent:
        return f"it ended without telling {silent}; {said}"
    wanted = "; ".join(f"{item.kind} {item.where}" for item in sources) or "tunectl.record"
    if names:
        told = ", ".join(sorted(names)[:10])
        return (
            f"it ended without telling the objective {metric}; it told {told}: rename one with `names`; looked for: "
            f"{wanted}; {said}"
        )
    return f"it ended without telling any metric; looked for: {wanted}; {said}"


def _silent(run: ProgramRun) -> str:
    """The first thing that the study declares and the program never told, and where it was looked for; "" for none."""
    files = [item for item in run.request.program.sources if item.kind != "regex" and item.where != OUTPUT]
    # The last reader is of what `tunectl.record` writes, which nobody declares.
    unheard = [source for source, file in zip(files, run.files, strict=False) if not file.heard]
    for source in (*unheard, *run.reader.unheard()):
        return f"anything by {source.kind} {source.where}, where the study looks for metrics"
    for source in run.request.program.sources:
        never = ", ".join(sorted(source.named() - run.collector.names))
        if never:
            what = "the expression" if source.kind == "regex" else source.kind
            return f"{never}, for which the study has {what} {source.where!r}"
    return ""


def _place(tail: list[str]) -> str:
    """file:line of the last frame that a Python traceback among these lines names."""
    found = [match for line in tail if (match := PLACE.match(line))]
    return f"{found[-1]['file']}:{found[-1]['line']}" if found else ""


def _die_by(number: int) -> None:
    """End this process by the signal that ended the program: to the runner both are one."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
