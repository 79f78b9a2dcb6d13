"""The state of a trial in training: its parts, its files and its clock."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tunectl.core.folders import TrialFolder
from tunectl.core.line_file import LineFile
from tunectl.core.records import TrialRequest
from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.averaging import WeightAverages
from tunectl.training.batch_norm_statistics import BatchNormGatherer
from tunectl.training.batch_share import BatchShare
from tunectl.training.batches import Batches
from tunectl.training.checkpoints import BestCheckpoints
from tunectl.training.compiled import update_loss
from tunectl.training.curvature.curvature_meter import CurvatureMeter
from tunectl.training.evaluation_batches import Evaluator
from tunectl.training.evaluation_files import EvaluationFiles
from tunectl.training.gradients import MeanLoss
from tunectl.training.initialisation.initialisation import Initialisation
from tunectl.training.precision import LossScaler
from tunectl.training.predictions import PredictionKeeper
from tunectl.training.ranks import SINGLE, Ranks
from tunectl.training.shared_buffers import SharedBuffers
from tunectl.training.synchronised_batch_norm import SynchronisedBatchNorm
from tunectl.training.trial_progress import TrialProgress
from tunectl.training.update_series import BadUpdate, StepSeries
from tunectl.workloads.workload import Workload

if TYPE_CHECKING:
    from tunectl.training.update_reduction import UpdateReduction

SAVE_COST = 0.02
"""The part of a trial's time that writing `resume.pt` may take; where one takes long, the next is written later."""


@dataclass(slots=True)
class Clock:
    """Divides a trial's time into training and evaluation, and decides when `resume.pt` is written.

    `now` gives seconds and never decreases. `save_every_seconds`: 0 saves at every evaluation.
    """

    now: Callable[[], float] = time.monotonic
    save_every_seconds: float = 5.0
    lap_began: float = 0.0
    next_save: float = 0.0

    def start(self) -> None:
        """Begin the first lap."""
        self.lap_began = self.now()
        self.next_save = self.lap_began + self.save_every_seconds

    def lap(self) -> float:
        """Seconds since the last lap."""
        began, self.lap_began = self.lap_began, self.now()
        return self.lap_began - began

    def saved(self, began: float) -> None:
        """Note a save that began at `began` and ends now."""
        now = self.now()
        self.next_save = now + max(
            self.save_every_seconds, (now - began) / SAVE_COST if self.save_every_seconds else 0.0
        )


@dataclass(slots=True)
class TrialState:
    """The parts of a trial in training.

    `scaler` is there in float16 only, `averages` where weights are averaged, `recoveries` and `good` where the trial
    may recover: the file of recoveries, and the last good state (from saved_trial.kept), `curvature` where it is
    measured, `batch_norm` where the statistics of batch normalisation are gathered again, `initialisation` where there
    is one before step 0, `predictions` where those of chosen examples are kept, `files` where the workload writes some
    at evaluations. `ranks` are the processes that train it together; where there are several, `buffers` and `reduction`
    are there in training, and `synchronised` where they have batch normalisation in common; `saved_buffers` is what was
    saved of the state of `buffers`. `epochs` has digests of the orders that a sampler gave. `notes` are for the result
    of a trial that completes.
    """

    request: TrialRequest
    configuration: TrainingConfiguration
    folder: TrialFolder
    device: torch.device
    workload: Workload
    parameters: list[nn.Parameter]
    optimizer: torch.optim.Optimizer
    batches: Batches
    evaluator: Evaluator
    fixed_batch: Any
    series: StepSeries
    progress: TrialProgress
    best: BestCheckpoints
    measurements: LineFile
    steps: LineFile
    clock: Clock = field(default_factory=Clock)
    scaler: LossScaler | None = None
    averages: WeightAverages | None = None
    recoveries: LineFile | None = None
    good: dict[str, Any] | None = None
    curvature: CurvatureMeter | None = None
    batch_norm: BatchNormGatherer | None = None
    initialisation: Initialisation | None = None
    predictions: PredictionKeeper | None = None
    files: EvaluationFiles | None = None
    notes: dict[str, str] = field(default_factory=dict)
    loss: Callable[[Any, Any], Any] | None = None
    ranks: Ranks = SINGLE
    synchronised: SynchronisedBatchNorm | None = None
    buffers: SharedBuffers | None = None
    reduction: UpdateReduction | None = None
    saved_buffers: dict[str, Any] | None = None
    epochs: dict[int, str] = field(default_factory=dict)

    def update_loss(self) -> Callable[[Any, Any], Any]:
        """The loss of updates, which is compiled once where the request says so."""
        if self.loss is None:
            self.loss = update_loss(self.workload.model, self.workload.loss, compiled=self.request.compile)
        return self.loss

    def normalising(self, *, has_examples: bool = True) -> contextlib.AbstractContextManager[None]:
        """The context of forward and backward of a batch of an update, which counts where it `has_examples`: of several
        devices batch normalisation is that of all of them, where the study says so.
        """
        synchronised = self.synchronised
        return contextlib.nullcontext() if synchronised is None else synchronised.active(has_examples=has_examples)

    def mean_loss(self) -> MeanLoss:
        """What starts the backward passes of updates."""
        scale, one_divisor = None if self.scaler is None else self.scaler.scale, self.synchronised is not None
        is_divided = self.ranks.count > 1 or self.configuration.accumulate_steps > 1
        return MeanLoss(
            self.configuration.batch_size, self.parameters, scale, one_divisor=one_divisor, is_divided=is_divided
        )

    def share(self) -> BatchShare:
        """The part of each batch that is trained on in this process: all of it where the trial has one device."""
        configuration = self.configuration
        sizes = configuration.micro_batch_sizes() if configuration.accumulate_steps > 1 else ()
        return BatchShare.of(configuration.batch_size, sizes, self.ranks)

    @property
    def total_steps(self) -> int:
        """The number of updates of the trial, which may be fewer than those of the schedule."""
        return self.configuration.total_steps(self.request.trained_steps)

    @property
    def line_files(self) -> list[LineFile]:
        """The files of lines that the trial writes."""
        predictions = None if self.predictions is None else self.predictions.lines
        files = (self.measurements, self.steps, self.recoveries, predictions)
        return [file for file in files if file is not None]

    def must_evaluate(self) -> bool:
        """Whether this step has an evaluation that was not done yet: step 0, multiples of eval_every (from eval_from
        on), and the last step.
        """
        step, request = self.progress.step, self.request
        is_regular = step % request.eval_every == 0 and (step == 0 or step >= request.eval_from)
        return step != self.progress.evaluated_step and (is_regular or step == self.total_steps)

    def must_measure_curvature(self) -> bool:
        """Whether the curvature is to be measured at this step, and was not yet."""
        step = self.progress.step
        settings = None if self.curvature is None else self.curvature.settings
        return settings is not None and step != self.progress.curvature_step and settings.is_at(step)

    def is_time_to_save(self) -> bool:
        """Whether the clock says that `resume.pt` is to be written; of several devices, that of rank 0, which writes.

        To be called by all ranks.
        """
        return self.ranks.agreed(self.ranks.rank == 0 and self.clock.now() >= self.clock.next_save)

    def close(self) -> None:
        """End loader processes and close files."""
        try:
            self.batches.close()
        finally:
            for lines in self.line_files:
                lines.close()


def flush(state: TrialState) -> BadUpdate | None:
    """Write the updates since the last block to steps.jsonl; gives the first that is not finite, with which the file
    then ends.
    """
    block = state.series.take()
    bad = block.first_bad()
    if bad is not None:
        block = block.until(bad.update)
    if len(block):
        state.steps.append(block.to_json())
    state.progress.add(block, state.total_steps)
    return bad
