"""The state of a trial, made of its request and of what was saved of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch

from tunectl.core.exception_text import first_line
from tunectl.core.folders import TrialFolder
from tunectl.core.line_file import LineFile, opened_lines
from tunectl.core.measurements import TrialSeconds
from tunectl.core.records import TrialRequest
from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.averaging import WeightAverages
from tunectl.training.batch_norm_statistics import BatchNormGatherer
from tunectl.training.batches import Batches, batches_of
from tunectl.training.checkpoints import BestCheckpoints, UnusableResume
from tunectl.training.curvature.curvature_meter import CurvatureMeter
from tunectl.training.curvature.measured_examples import MeasuredExamples
from tunectl.training.curvature.refusals import why_unmeasurable
from tunectl.training.data_loaders import loader_death
from tunectl.training.evaluated_splits import evaluated_splits
from tunectl.training.evaluation import fixed_batch
from tunectl.training.evaluation_batches import Evaluator
from tunectl.training.evaluation_files import EvaluationFiles, remove_later_files
from tunectl.training.feasibility import FIXED_BATCH_EXAMPLES, tail_updates
from tunectl.training.first_rank import on_first
from tunectl.training.initialisation.initialisation import Initialisation
from tunectl.training.memory_errors import is_out_of_memory
from tunectl.training.optimizers import trainable_parameters, workload_optimizer
from tunectl.training.precision import LossScaler
from tunectl.training.predictions import PredictionKeeper
from tunectl.training.rank_agreement import together, unlike_gpus
from tunectl.training.ranks import Ranks
from tunectl.training.saved_trial import load_parts
from tunectl.training.seeds import Purpose, seed_everything, sequence
from tunectl.training.synchronised_batch_norm import SynchronisedBatchNorm
from tunectl.training.training_state import Clock, TrialState
from tunectl.training.trial_progress import TrialProgress
from tunectl.training.update_series import StepSeries
from tunectl.workloads.workload import Workload

_NOT_MEASURED = "the curvature was not measured"
_UNLIKE_GPUS = "the GPUs of the trial are of different types, so that another run may differ in the last digits"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Attempt:
    """A call that trains a trial, from its beginning or from what was saved; see `trial.run_trial`."""

    request: TrialRequest
    folder: TrialFolder
    factory: Callable[..., Workload]
    device: torch.device
    seconds: TrialSeconds
    clock: Clock
    prepare: Callable[[Workload], Workload]
    ranks: Ranks

    @property
    def writes(self) -> bool:
        """Whether this process writes the trial's files."""
        return self.ranks.rank == 0


def assembled(
    attempt: Attempt,
    workload: Workload,
    parts: dict[str, Any] | None,
    progress: TrialProgress,
    stack: contextlib.ExitStack,
) -> TrialState:
    """The trial in the state of these parts of `resume.pt`, or at its beginning; raises UnusableResume."""
    request, folder, device, ranks = attempt.request, attempt.folder, attempt.device, attempt.ranks
    configuration, writes = TrainingConfiguration(**request.configuration), attempt.writes
    evaluator = _evaluator(workload, request, configuration, device, ranks=ranks)
    # Before files are opened: it may raise.
    predictions = PredictionKeeper.of_request(request.predictions, evaluator, folder, parts or {}, writes=writes)
    entries = parts["best"] if parts else ()
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
        best=BestCheckpoints(folder, request.objective, request.keep_checkpoints, entries, writes=writes),
        measurements=opened_lines(folder.measurements, parts["measurements_offset"] if parts else 0, writes=writes),
        steps=opened_lines(folder.steps, parts["steps_offset"] if parts else 0, writes=writes),
        recoveries=_recoveries(attempt, parts),
        good=parts["good"] if parts and request.recovery else None,
        clock=attempt.clock,
        batch_norm=BatchNormGatherer.of_request(request, workload, device, ranks),
        predictions=predictions,
        files=EvaluationFiles.of(request, evaluator, folder),
        ranks=ranks,
        synchronised=SynchronisedBatchNorm(workload.model, ranks) if _synchronises(request, ranks) else None,
        epochs=(epochs := dict[int, str]()),
        # The last one: it may start processes, which would be left running if a later step failed.
        batches=batches_from_step(workload, request, configuration, progress.step, device, ranks, epochs),
    )
    stack.callback(state.close)
    _note_unlike_gpus(state)
    state.curvature, state.initialisation = _curvature(state), _initialisation(state)
    _continue_from(state, parts)
    return state


def _continue_from(state: TrialState, parts: dict[str, Any] | None) -> None:
    """Put a new state into that of these parts of `resume.pt`, and remove the files of later steps."""
    request, progress, rank = state.request, state.progress, state.ranks.rank
    of_rank = (rank, progress.step) if rank else ()
    seed_everything(sequence(request.seed, Purpose.TRAINING, *of_rank), state.device)
    if parts is not None:
        together(state.ranks, lambda: fitting(lambda: load_parts(state, parts)))
    if request.recovery is not None:
        progress.recent_updates = tail_updates(state.total_steps)
        state.best.hold(step for step, _ in (state.good or {"best": ()})["best"])
    state.best.prune()
    if rank == 0:
        remove_later_files(state.folder, -1 if parts is None else progress.step)


def _synchronises(request: TrialRequest, ranks: Ranks) -> bool:
    return request.sync_batch_norm and ranks.count > 1


def _evaluator(
    workload: Workload,
    request: TrialRequest,
    configuration: TrainingConfiguration,
    device: torch.device,
    *,
    ranks: Ranks,
) -> Evaluator:
    splits = evaluated_splits(workload, request.train_examples, request.split_examples)
    size, precision = configuration.eval_batch_size, configuration.precision
    workers, prefetch = request.data_workers, request.prefetch_batches
    return Evaluator(workload, splits, size, request.seed, device, workers, precision, prefetch, ranks)


def _averages(workload: Workload, configuration: TrainingConfiguration) -> WeightAverages | None:
    decay = configuration.polyak_decay
    return None if decay is None else WeightAverages(trainable_parameters(workload.model), decay)


def _initialisation(state: TrialState) -> Initialisation | None:
    if state.configuration.initialisation == "none":
        return None
    return Initialisation(state.workload, state.configuration, seed=state.request.seed, device=state.device)


def _note_unlike_gpus(state: TrialState) -> None:
    unlike = unlike_gpus(state.ranks, state.device)
    if unlike:
        state.notes[_UNLIKE_GPUS] = unlike


def _curvature(state: TrialState) -> CurvatureMeter | None:
    settings, workload, device = state.request.curvature, state.workload, state.device
    if settings is None:
        return None
    # Where it is needed, the probe has refused what cannot be measured. All ranks measure, or none.
    test = partial(why_unmeasurable, workload, settings, device)
    refused = "" if state.request.curvature_needed else on_first(state.ranks, test)
    if refused:
        state.notes[_NOT_MEASURED] = refused
        return None
    examples = MeasuredExamples.of(workload, settings.examples, device)
    return CurvatureMeter(settings, workload, examples, device=device, seed=state.request.seed)


def _recoveries(attempt: Attempt, parts: dict[str, Any] | None) -> LineFile | None:
    if attempt.request.recovery is None:
        return None
    offset = parts["recoveries_offset"] if parts else 0
    return opened_lines(attempt.folder.recoveries, offset, writes=attempt.writes)


def batches_from_step(
    workload: Workload,
    request: TrialRequest,
    configuration: TrainingConfiguration,
    first: int,
    device: torch.device,
    ranks: Ranks,
    epochs: dict[int, str],
) -> Batches:
    """The batches of the updates from the step `first` on; `epochs` gets digests of the orders that a sampler gives."""
    updates = range(first, configuration.total_steps(request.trained_steps))
    # One device compares them with no other.
    noted = epochs if ranks.count > 1 else None
    return batches_of(request, workload, configuration, device, updates=updates, ranks=ranks, epochs=noted)


def fitting(load: Callable[[], _T]) -> _T:
    """What `load` makes of a part of `resume.pt`; raises UnusableResume where it does not fit."""
    try:
        return load()
    except Exception as error:
        if is_out_of_memory(error) or loader_death(error) is not None:
            raise
        raise UnusableResume(f"resume.pt does not fit ({type(error).__name__}: {first_line(error)})") from error
