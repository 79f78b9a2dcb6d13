"""A trial from its request to its result."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch

from tunectl.core import real_folders
from tunectl.core.errors import Infeasible, LoaderError, LostRankError, WorkloadError
from tunectl.core.exception_text import first_line
from tunectl.core.folders import TrialFolder
from tunectl.core.measurements import TrialSeconds
from tunectl.core.records import TrialRequest, TrialResult
from tunectl.training.assembled_trial import Attempt, assembled, batches_from_step, fitting
from tunectl.training.built_workload import build_workload
from tunectl.training.cached_examples import with_cached_examples
from tunectl.training.checkpoints import UnusableResume, keep_resume, remove_resume
from tunectl.training.data_agreement import refuse_other_data
from tunectl.training.data_loaders import loader_death, loader_deaths_raised
from tunectl.training.device_notes import of_small_share
from tunectl.training.end_measurements import measure_at_end
from tunectl.training.feasibility import judge
from tunectl.training.first_rank import on_first
from tunectl.training.initialisation_step import NotInitialised, initialise
from tunectl.training.input_dependence import NotExchanged, exchange
from tunectl.training.loop import Ending, train
from tunectl.training.memory_errors import has_asked_for_too_much
from tunectl.training.rank_agreement import begin_alike, saved_parts, together
from tunectl.training.ranks import SINGLE, Ranks
from tunectl.training.recovery import go_back, rate_factor
from tunectl.training.running_statistics import running_statistics
from tunectl.training.saved_trial import sync_lines
from tunectl.training.training_state import Clock, TrialState, flush
from tunectl.training.trial_progress import TrialProgress
from tunectl.training.update_reduction import AgreedStop, fails_with_others
from tunectl.training.update_series import BadUpdate
from tunectl.workloads.workload import Workload

_BY_LOSSES = (
    "progress was judged by the losses alone: it could not be tested whether the predictions depend on the input"
)


@dataclass(frozen=True, slots=True)
class _Verdict:
    """`is_of_all`: all devices of the trial come to it, at the same place."""

    step: int
    reason: str
    message: str
    is_of_all: bool = False


def run_trial(
    request: TrialRequest,
    folder: TrialFolder,
    workload_factory: Callable[..., Workload],
    *,
    device: str,
    stop: Callable[[], bool],
    seconds: TrialSeconds,
    clock: Clock | None = None,
    prepare: Callable[[Workload], Workload] = lambda workload: workload,
    ranks: Ranks = SINGLE,
) -> TrialResult | None:
    """Train one trial, from its beginning or from its `resume.pt`, and give its result.

    Gives None where `stop()` became true: the state is saved, and the same call goes on from there. The caller writes
    the result. It is infeasible where the hyperparameters cannot work: a loss or a gradient is not finite, the training
    loss ends far above its start or flat at the loss of a constant prediction, the workload raises `Infeasible`, or the
    memory is too small. Other exceptions of the workload's code pass, and so do OSError where the folder cannot be
    written, and LoaderError where a data-loader process died. `seconds` has the start-up time; also where an exception
    passes, the times of training and evaluation are added to it. `prepare` gives the workload that is trained in place
    of the one that was built. On several devices each of the `ranks` calls it, with the same arguments but its device;
    rank 0 alone writes into the folder.
    """
    torch.backends.cudnn.benchmark = False
    attempt = Attempt(
        request,
        folder,
        workload_factory,
        torch.device(device),
        seconds,
        clock if clock is not None else Clock(),
        prepare,
        ranks,
    )
    stop = stop if ranks.count == 1 else AgreedStop(ranks, stop)
    with loader_deaths_raised():
        try:
            return _run(attempt, stop, fresh=False)
        except UnusableResume as reason:
            if ranks.rank == 0:
                kept = keep_resume(folder)
                _say(f"{reason}: trial {request.trial} starts from the beginning{kept}")
            return _run(attempt, stop, fresh=True)


def _say(line: str) -> None:
    sys.stderr.write(f"tunectl: {line}\n")


def _run(attempt: Attempt, stop: Callable[[], bool], *, fresh: bool) -> TrialResult | None:
    attempt.clock.start()
    progress = TrialProgress()
    try:
        # Before the workload is built: the time of earlier attempts counts even where building fails.
        parts = None if fresh else saved_parts(attempt.ranks, attempt.folder, attempt.request, _say)
        if parts is not None:
            restore = partial(TrialProgress.from_state, parts["progress"], attempt.device)
            progress = together(attempt.ranks, lambda: fitting(restore))
        _account(attempt.seconds, progress)
        built = attempt.prepare(build_workload(attempt.factory, attempt.request, attempt.device))
        workload = with_cached_examples(built, attempt.request)
        notes = _begun_alike(attempt, workload)
        if parts is None and attempt.writes:
            # Before the lines are cut: a resume.pt that is left would rely on lines that are not there.
            remove_resume(attempt.folder)
        with contextlib.ExitStack() as stack:
            state = assembled(attempt, workload, parts, progress, stack)
            state.notes |= notes
            del parts  # a second copy of the model and the optimizer
            stack.callback(_account, attempt.seconds, progress)
            ending = _trained(state, stop)
            if ending == "stopped":
                return None
            verdict = _marked(state, _verdict(state, ending))
            if verdict is None and not measure_at_end(state, stop):
                return None
            if verdict is not None:
                _end_with(state, verdict, is_saved=ending == "finished")
            return _described(_result(attempt, state.progress, verdict), state, workload)
    except Infeasible as error:
        return _result(attempt, progress, _Verdict(progress.step, error.reason, error.reason))
    except Exception as error:
        if not has_asked_for_too_much(error):
            raise
        return _result(attempt, progress, _Verdict(progress.step, "out_of_memory", first_line(error)))


def _described(result: TrialResult, state: TrialState, workload: Workload) -> TrialResult:
    """The result with the trial's notes, the numbers of its examples and the workload's baseline loss."""
    if result.state == "completed" and state.notes:
        said = "; ".join(f"{note} ({detail})" for note, detail in state.notes.items())
        result = replace(result, notes=state.notes, message=said)
    examples = len(workload.data["train"])  # type: ignore[arg-type]
    sizes = {name: len(split) for name, split in state.evaluator.splits.items()}  # type: ignore[arg-type]
    return replace(result, train_examples=examples, evaluated_examples=sizes, baseline_loss=workload.baseline_loss)


def _begun_alike(attempt: Attempt, workload: Workload) -> dict[str, str]:
    """Refuse models and data that differ between the ranks; gives notes about what could not be compared."""
    begin_alike(attempt.ranks, workload)
    return refuse_other_data(attempt.ranks, workload, attempt.request.seed)


def _account(seconds: TrialSeconds, progress: TrialProgress) -> None:
    seconds.train_seconds, seconds.eval_seconds = progress.train_seconds, progress.eval_seconds


def _trained(state: TrialState, stop: Callable[[], bool]) -> Ending | _Verdict:
    """Train; go back to the last good state where the trial must recover."""
    while True:
        ending = _trained_once(state, stop)
        if not isinstance(ending, BadUpdate) or not go_back(state, ending):
            return ending
        state.batches.close()
        state.batches = batches_from_step(
            *(state.workload, state.request, state.configuration, state.progress.step),
            device=state.device,
            ranks=state.ranks,
            epochs=state.epochs,
        )


def _trained_once(state: TrialState, stop: Callable[[], bool]) -> Ending | _Verdict:
    """Initialise and train; an exception that the hyperparameters caused becomes the verdict."""
    try:
        return "stopped" if initialise(state, stop) == "stopped" else train(state, stop)
    except NotInitialised as reason:
        return _Verdict(0, "nan_initialisation", str(reason))
    except Exception as error:
        with_others, bad = fails_with_others(state, error), None
        with contextlib.suppress(Exception):  # the error that is being handled is the one to report
            bad = flush(state)
        if bad is not None:
            # The user's code raised because it computed with values that are not finite.
            return bad if with_others else replace(_of_bad_update(bad), is_of_all=False)
        died = loader_death(error)
        if died is not None:
            # First of all: an exception that the workload made of it says nothing about the hyperparameters.
            state.progress.train_seconds += state.clock.lap()
            raise LoaderError(died) from error
        if isinstance(error, LostRankError):
            # The result, if another rank has come to one, is about these lines.
            sync_lines(state)
            raise
        step = state.progress.step
        if isinstance(error, Infeasible):
            return _Verdict(step, error.reason, error.reason)
        if has_asked_for_too_much(error):
            return _Verdict(step, "out_of_memory", first_line(error))
        if not isinstance(error, (OSError, WorkloadError)) and not all(
            bool(torch.isfinite(parameter).all()) for parameter in state.parameters
        ):
            bad = BadUpdate(step, "nan_loss", math.nan)
            return bad if state.ranks.count == 1 else replace(_of_bad_update(bad), is_of_all=False)
        state.progress.train_seconds += state.clock.lap()
        small = None if state.synchronised is not None else of_small_share(error, state.ranks.count)
        if small is None:
            raise
        raise small from error
    except BaseException:
        state.progress.train_seconds += state.clock.lap()
        raise


def _of_bad_update(bad: BadUpdate) -> _Verdict:
    what = "minibatch loss" if bad.reason == "nan_loss" else "gradient norm"
    return _Verdict(bad.update, bad.reason, f"the {what} of update {bad.update} is {bad.value}", is_of_all=True)


def _verdict(state: TrialState, ending: Ending | _Verdict) -> _Verdict | None:
    state.progress.train_seconds += state.clock.lap()
    if isinstance(ending, BadUpdate):
        ending = _of_bad_update(ending)
    if isinstance(ending, _Verdict):
        # No resume.pt is written here, and the lines must be on the disk before the result.json about them.
        sync_lines(state)
        return ending
    # The end is saved: the state before it is not needed any more.
    if state.ranks.rank == 0:
        real_folders.remove(state.folder.previous_resume, state.folder.study)
    state.best.previous_removed()
    state.best.prune()
    return _judged(state)


def _judged(state: TrialState) -> _Verdict | None:
    """The verdict on a trial after its last step; where predictions could not be exchanged, the message says why."""
    judged = state.request.no_progress
    exchanged = on_first(state.ranks, partial(exchange, state.evaluator)) if judged else None
    unseen = exchanged if isinstance(exchanged, NotExchanged) else None
    known = None if isinstance(exchanged, NotExchanged) else exchanged
    evidence = state.progress.evidence(
        state.total_steps,
        state.configuration.batch_size,
        known,
        statistics=running_statistics(state.workload.model, state.total_steps, gathered=state.batch_norm is not None),
    )
    baseline = state.workload.baseline_loss
    found = on_first(state.ranks, partial(judge, evidence, baseline=baseline, no_progress=judged))
    state.progress.eval_seconds += state.clock.lap()
    if unseen is not None and unseen.is_error:
        state.notes[_BY_LOSSES] = unseen.why
    if found is None:
        return None
    by_losses = unseen is not None and found.reason == "no_progress"
    message = f"{found.message} (judged by the losses alone: {unseen.why})" if by_losses and unseen else found.message
    return _Verdict(state.total_steps, found.reason, message, is_of_all=True)


def _marked(state: TrialState, verdict: _Verdict | None) -> _Verdict | None:
    """The verdict on a trial that recovered: infeasible, since it did not end with its nominal learning rate."""
    progress = state.progress
    if progress.first_bad_update is None:
        return verdict
    times = "once" if progress.recoveries == 1 else f"{progress.recoveries} times"
    history = (
        f"unstable at update {progress.first_bad_update}; it went back to a good state {times} and ended with"
        f" {rate_factor(state):.4g} times its learning rate"
    )
    if verdict is None:
        return _Verdict(progress.first_bad_update, "recovered", history, is_of_all=True)
    return replace(verdict, message=f"{verdict.message} ({history})")


def _end_with(state: TrialState, verdict: _Verdict, *, is_saved: bool) -> None:
    """End the exchanges and remove the state from which the trial would go on, unless it `is_saved` at its end."""
    if verdict.is_of_all:
        # Before anything is removed: where another rank is elsewhere, this is no verdict, and the trial goes on from
        # its resume.pt. A trial that completed may have more to write, and ends its exchanges later.
        state.ranks.finish()
    # The trial has ended for good; one that ran out of memory may be tried again alone.
    if not is_saved and verdict.reason != "out_of_memory":
        if state.ranks.rank == 0:
            remove_resume(state.folder)
        state.best.resume_removed()
        state.best.prune()


def _result(attempt: Attempt, progress: TrialProgress, verdict: _Verdict | None) -> TrialResult:
    return TrialResult(
        trial=attempt.request.trial,
        state="completed" if verdict is None else "infeasible",
        reason="" if verdict is None else verdict.reason,
        message="" if verdict is None else verdict.message,
        infeasible_step=None if verdict is None else verdict.step,
        final_step=progress.evaluated_step,
        train_seconds=progress.train_seconds,
        eval_seconds=progress.eval_seconds,
        startup_seconds=attempt.seconds.startup_seconds,
        device=str(attempt.device),
    )
