"""A trial from its request to its result."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import torch

from tunectl.core import real_folders
from tunectl.core.errors import Infeasible, LoaderError, WorkloadError
from tunectl.core.exception_text import first_line
from tunectl.core.folders import TrialFolder
from tunectl.core.line_file import LineFile
from tunectl.core.measurements import TrialSeconds
from tunectl.core.records import TrialRequest, TrialResult
from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.averaging import WeightAverages
from tunectl.training.batch_norm_statistics import BatchNormGatherer
from tunectl.training.batches import Batches, batches_of
from tunectl.training.built_workload import build_workload
from tunectl.training.cached_examples import with_cached_examples
from tunectl.training.checkpoints import BestCheckpoints, UnusableResume, keep_resume, load_resume, remove_resume
from tunectl.training.curvature.curvature_meter import CurvatureMeter
from tunectl.training.curvature.measured_examples import MeasuredExamples
from tunectl.training.curvature.refusals import why_unmeasurable
from tunectl.training.data_loaders import loader_death, loader_deaths_raised
from tunectl.training.end_measurements import measure_at_end
from tunectl.training.evaluated_splits import evaluated_splits
from tunectl.training.evaluation import Evaluator, fixed_batch
from tunectl.training.evaluation_files import EvaluationFiles, remove_later_files
from tunectl.training.feasibility import FIXED_BATCH_EXAMPLES, judge, tail_updates
from tunectl.training.initialisation.initialisation import Initialisation
from tunectl.training.initialisation_step import NotInitialised, initialise
from tunectl.training.input_dependence import NotExchanged, exchange
from tunectl.training.loop import Ending, train
from tunectl.training.memory_errors import has_asked_for_too_much, is_out_of_memory
from tunectl.training.optimizers import trainable_parameters, workload_optimizer
from tunectl.training.precision import LossScaler
from tunectl.training.predictions import PredictionKeeper
from tunectl.training.recovery import go_back, rate_factor
from tunectl.training.running_statistics import running_statistics
from tunectl.training.saved_trial import load_parts, sync_lines
from tunectl.training.seeds import Purpose, seed_everything, sequence
from tunectl.training.training_state import Clock, TrialState, flush
from tunectl.training.trial_progress import TrialProgress
from tunectl.training.update_series import BadUpdate, StepSeries
from tunectl.workloads.workload import Workload

_BY_LOSSES = (
    "progress was judged by the losses alone: it could not be tested whether the predictions depend on the input"
)

_NOT_MEASURED = "the curvature was not measured"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Verdict:
    step: int
    reason: str
    message: str


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
) -> TrialResult | None:
    """Train one trial, from its beginning or from its `resume.pt`, and give its result.

    Gives None where `stop()` became true: the state is saved, and the same call goes on from there. The caller writes
    the result. It is infeasible where the hyperparameters cannot work: a loss or a gradient is not finite, the training
    loss ends far above its start or flat at the loss of a constant prediction, the workload raises `Infeasible`, or the
    memory is too small. Other exceptions of the workload's code pass, and so do OSError where the folder cannot be
    written, and LoaderError where a data-loader process died. `seconds` has the start-up time; also where an exception
    passes, the times of training and evaluation are added to it. `prepare` gives the workload that is trained in place
    of the one that was built.
    """
    torch.backends.cudnn.benchmark = False
    attempt = _Attempt(
        request,
        folder,
        workload_factory,
        torch.device(device),
        seconds,
        clock if clock is not None else Clock(),
        prepare,
    )
    with loader_deaths_raised():
        try:
            return _run(attempt, stop, fresh=False)
        except UnusableResume as reason:
            kept = keep_resume(folder)
            _say(f"{reason}: trial {request.trial} starts from the beginning{kept}")
            return _run(attempt, stop, fresh=True)


def _say(line: str) -> None:
    sys.stderr.write(f"tunectl: {line}\n")


@dataclass(frozen=True, slots=True)
class _Attempt:
    request: TrialRequest
    folder: TrialFolder
    factory: Callable[..., Workload]
    device: torch.device
    seconds: TrialSeconds
    clock: Clock
    prepare: Callable[[Workload], Workload]


def _run(attempt: _Attempt, stop: Callable[[], bool], *, fresh: bool) -> TrialResult | None:
    attempt.clock.start()
    progress = TrialProgress()
    try:
        # Before the workload is built: the time of earlier attempts counts even where building fails.
        parts = None if fresh else load_resume(attempt.folder, attempt.request, _say)
        if parts is not None:
            progress = _fitting(partial(TrialProgress.from_state, parts["progress"], attempt.device))
        _account(attempt.seconds, progress)
        built = attempt.prepare(build_workload(attempt.factory, attempt.request, attempt.device))
        workload = with_cached_examples(built, attempt.request)
        if parts is None:
            # Before the lines are cut: a resume.pt that is left would rely on lines that are not there.
            remove_resume(attempt.folder)
        with contextlib.ExitStack() as stack:
            state = _assembled(attempt, workload, parts, progress, stack)
            del parts  # a second copy of the model and the optimizer
            stack.callback(_account, attempt.seconds, progress)
            ending = _trained(state, stop)
            if ending == "stopped":
                return None
            verdict = _marked(state, _verdict(state, ending))
            if verdict is None and not measure_at_end(state, stop):
                return None
            result = _result(attempt, state.progress, verdict)
            if result.state == "completed" and state.notes:
                said = "; ".join(f"{note} ({detail})" for note, detail in state.notes.items())
                result = replace(result, notes=state.notes, message=said)
            examples = len(workload.data["train"])  # type: ignore[arg-type]
            sizes = {name: len(split) for name, split in state.evaluator.splits.items()}  # type: ignore[arg-type]
            result = replace(result, train_examples=examples, evaluated_examples=sizes)
            return replace(result, baseline_loss=workload.baseline_loss)
    except Infeasible as error:
        return _result(attempt, progress, _Verdict(progress.step, error.reason, error.reason))
    except Exception as error:
        if not has_asked_for_too_much(error):
            raise
        return _result(attempt, progress, _Verdict(progress.step, "out_of_memory", first_line(error)))


def _account(seconds: TrialSeconds, progress: TrialProgress) -> None:
    seconds.train_seconds, seconds.eval_seconds = progress.train_seconds, progress.eval_seconds


def _assembled(
    attempt: _Attempt,
    workload: Workload,
    parts: dict[str, Any] | None,
    progress: TrialProgress,
    stack: contextlib.ExitStack,
) -> TrialState:
    """The trial in the state of these parts of `resume.pt`, or at its beginning; raises UnusableResume."""
    request, folder, device = attempt.request, attempt.folder, attempt.device
    configuration = TrainingConfiguration(**request.configuration)
    evaluator = _evaluator(workload, request, configuration, device)
    # Before files are opened: it may raise.
    predictions = PredictionKeeper.of_request(request.predictions, evaluator, folder, parts or {})
    state = TrialState(
        request=request,
        configuration=configuration,
        folder=folder,
        device=device,
        workload=workload,
        parameters=trainable_parameters(workload.model),
        optimizer=workload_optimizer(workload, configuration),
        evaluator=evaluator,
        fixed_batch=fixed_batch(evaluator, FIXED_BATCH_EXAMPLES),
        series=StepSeries(configuration.batch_size, configuration.grad_clip_norm),
        scaler=LossScaler(device) if configuration.precision == "float16" else None,
        averages=_averages(workload, configuration),
        progress=progress,
        best=BestCheckpoints(folder, request.objective, request.keep_checkpoints, parts["best"] if parts else ()),
        measurements=LineFile(folder.measurements, parts["measurements_offset"] if parts else 0),
        steps=LineFile(folder.steps, parts["steps_offset"] if parts else 0),
        recoveries=_recoveries(folder, request, parts),
        good=parts["good"] if parts and request.recovery else None,
        clock=attempt.clock,
        batch_norm=BatchNormGatherer.of_request(request, workload, device),
        predictions=predictions,
        files=EvaluationFiles.of(request, evaluator, folder),
        # The last one: it may start processes, which would be left running if a later step failed.
        batches=_batches(workload, request, configuration, progress.step, device),
    )
    stack.callback(state.close)
    state.curvature, state.initialisation = _curvature(state), _initialisation(state)
    _continue_from(state, parts)
    return state


def _continue_from(state: TrialState, parts: dict[str, Any] | None) -> None:
    """Put a new state into that of these parts of `resume.pt`, and remove the files of later steps."""
    request, progress = state.request, state.progress
    seed_everything(sequence(request.seed, Purpose.TRAINING), state.device)
    if parts is not None:
        _fitting(lambda: load_parts(state, parts))
    if request.recovery is not None:
        progress.recent_updates = tail_updates(state.total_steps)
        state.best.hold(step for step, _ in (state.good or {"best": ()})["best"])
    state.best.prune()
    remove_later_files(state.folder, -1 if parts is None else progress.step)


def _evaluator(
    workload: Workload, request: TrialRequest, configuration: TrainingConfiguration, device: torch.device
) -> Evaluator:
    splits = evaluated_splits(workload, request.train_examples, request.split_examples)
    size, precision = configuration.eval_batch_size, configuration.precision
    workers, prefetch = request.data_workers, request.prefetch_batches
    return Evaluator(workload, splits, size, request.seed, device, workers, precision, prefetch)


def _averages(workload: Workload, configuration: TrainingConfiguration) -> WeightAverages | None:
    decay = configuration.polyak_decay
    return None if decay is None else WeightAverages(trainable_parameters(workload.model), decay)


def _initialisation(state: TrialState) -> Initialisation | None:
    if state.configuration.initialisation == "none":
        return None
    return Initialisation(state.workload, state.configuration, seed=state.request.seed, device=state.device)


def _curvature(state: TrialState) -> CurvatureMeter | None:
    settings, workload, device = state.request.curvature, state.workload, state.device
    if settings is None:
        return None
    # Where it is needed, the probe has refused what cannot be measured.
    refused = "" if state.request.curvature_needed else why_unmeasurable(workload, settings, device)
    if refused:
        state.notes[_NOT_MEASURED] = refused
        return None
    examples = MeasuredExamples.of(workload, settings.examples, device)
    return CurvatureMeter(settings, workload, examples, device=device, seed=state.request.seed)


def _recoveries(folder: TrialFolder, request: TrialRequest, parts: dict[str, Any] | None) -> LineFile | None:
    if request.recovery is None:
        return None
    return LineFile(folder.recoveries, parts["recoveries_offset"] if parts else 0)


def _batches(
    workload: Workload, request: TrialRequest, configuration: TrainingConfiguration, first: int, device: torch.device
) -> Batches:
    total = configuration.total_steps(request.trained_steps)
    return batches_of(request, workload, configuration, device, updates=range(first, total))


def _fitting(load: Callable[[], _T]) -> _T:
    try:
        return load()
    except Exception as error:
        if is_out_of_memory(error) or loader_death(error) is not None:
            raise
        raise UnusableResume(f"resume.pt does not fit ({type(error).__name__}: {first_line(error)})") from error


def _trained(state: TrialState, stop: Callable[[], bool]) -> Ending | _Verdict:
    """Train; go back to the last good state where the trial must recover."""
    while True:
        ending = _trained_once(state, stop)
        if not isinstance(ending, BadUpdate) or not go_back(state, ending):
            return ending
        state.batches.close()
        state.batches = _batches(state.workload, state.request, state.configuration, state.progress.step, state.device)


def _trained_once(state: TrialState, stop: Callable[[], bool]) -> Ending | _Verdict:
    """Initialise and train; an exception that the hyperparameters caused becomes the verdict."""
    try:
        return "stopped" if initialise(state, stop) == "stopped" else train(state, stop)
    except NotInitialised as reason:
        return _Verdict(0, "nan_initialisation", str(reason))
    except Exception as error:
        bad = None
        with contextlib.suppress(Exception):  # the error that is being handled is the one to report
            bad = flush(state)
        if bad is not None:
            # The user's code raised because it computed with values that are not finite.
            return bad
        died = loader_death(error)
        if died is not None:
            # First of all: an exception that the workload made of it says nothing about the hyperparameters.
            state.progress.train_seconds += state.clock.lap()
            raise LoaderError(died) from error
        step = state.progress.step
        if isinstance(error, Infeasible):
            return _Verdict(step, error.reason, error.reason)
        if has_asked_for_too_much(error):
            return _Verdict(step, "out_of_memory", first_line(error))
        if not isinstance(error, (OSError, WorkloadError)) and not all(
            bool(torch.isfinite(parameter).all()) for parameter in state.parameters
        ):
            return BadUpdate(step, "nan_loss", math.nan)
        state.progress.train_seconds += state.clock.lap()
        raise
    except BaseException:
        state.progress.train_seconds += state.clock.lap()
        raise


def _verdict(state: TrialState, ending: Ending | _Verdict) -> _Verdict | None:
    state.progress.train_seconds += state.clock.lap()
    if isinstance(ending, BadUpdate):
        what = "minibatch loss" if ending.reason == "nan_loss" else "gradient norm"
        message = f"the {what} of update {ending.update} is {ending.value}"
        ending = _Verdict(ending.update, ending.reason, message)
    if isinstance(ending, _Verdict):
        # No resume.pt is written here, and the lines must be on the disk before the result.json about them.
        sync_lines(state)
        if ending.reason != "out_of_memory":
            # The trial has ended for good; one that ran out of memory may be tried again alone.
            remove_resume(state.folder)
            state.best.resume_removed()
            state.best.prune()
        return ending
    # The end is saved: the state before it is not needed any more.
    real_folders.remove(state.folder.previous_resume, state.folder.study)
    state.best.previous_removed()
    state.best.prune()
    return _judged(state)


def _judged(state: TrialState) -> _Verdict | None:
    """The verdict on a trial after its last step; where predictions could not be exchanged, the message says why."""
    judged = state.request.no_progress
    exchanged = exchange(state.evaluator) if judged else None
    unseen = exchanged if isinstance(exchanged, NotExchanged) else None
    known = None if isinstance(exchanged, NotExchanged) else exchanged
    evidence = state.progress.evidence(
        state.total_steps,
        state.configuration.batch_size,
        known,
        statistics=running_statistics(state.workload.model, state.total_steps, gathered=state.batch_norm is not None),
    )
    found = judge(evidence, baseline=state.workload.baseline_loss, no_progress=judged)
    state.progress.eval_seconds += state.clock.lap()
    if unseen is not None and unseen.is_error:
        state.notes[_BY_LOSSES] = unseen.why
    if found is None:
        return None
    by_losses = unseen is not None and found.reason == "no_progress"
    message = f"{found.message} (judged by the losses alone: {unseen.why})" if by_losses and unseen else found.message
    return _Verdict(state.total_steps, found.reason, message)


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
        return _Verdict(progress.first_bad_update, "recovered", history)
    return replace(verdict, message=f"{verdict.message} ({history})")


def _result(attempt: _Attempt, progress: TrialProgress, verdict: _Verdict | None) -> TrialResult:
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
