"""A trial in training: its parts, and what is done with them between updates."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunectl.core.errors import WorkloadError
from tunectl.core.folders import TrialFolder
from tunectl.core.records import Measurement, TrialRequest
from tunectl.spec.configuration import TrainingConfiguration
from tunectl.training import checkpoints
from tunectl.training.batches import Batches
from tunectl.training.building import nearest
from tunectl.training.checkpoints import BestCheckpoints
from tunectl.training.evaluation import Evaluator, evaluate
from tunectl.training.lines import LineFile
from tunectl.training.progress import Progress
from tunectl.training.seeds import random_state, set_random_state
from tunectl.training.series import BadUpdate, StepSeries
from tunectl.workloads.workload import Workload

SAVE_COST = 0.02
"""The part of a trial's time that writing `resume.pt` may take: where one takes long, the next comes later."""


@dataclass(slots=True)
class Clock:
    """Divides a trial's time into training and evaluation, and says when `resume.pt` is due.

    `now` gives seconds and never goes back. `save_every_seconds`: 0 saves at every evaluation.
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
        """Take note of a save that began then and is done now."""
        now = self.now()
        self.next_save = now + max(
            self.save_every_seconds, (now - began) / SAVE_COST if self.save_every_seconds else 0.0
        )


@dataclass(slots=True)
class TrialState:
    """The parts of a trial in training."""

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
    progress: Progress
    best: BestCheckpoints
    measurements: LineFile
    steps: LineFile
    clock: Clock = field(default_factory=Clock)

    @property
    def total_steps(self) -> int:
        """The number of updates in all."""
        return self.configuration.total_steps(self.request.max_train_steps)

    def evaluation_due(self) -> bool:
        """Whether the model of this step is to be evaluated and has not been: step 0, multiples of eval_every, the
        last step.
        """
        step = self.progress.step
        return step != self.progress.evaluated_step and (
            step % self.request.eval_every == 0 or step == self.total_steps
        )

    def close(self) -> None:
        """End loader processes and close files."""
        try:
            self.batches.close()
        finally:
            self.measurements.close()
            self.steps.close()


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


def model_parts(state: TrialState) -> dict[str, Any]:
    """What a checkpoint for use holds: the model, the optimizer, and where they stand."""
    return {
        "format": checkpoints.FORMAT,
        "step": state.progress.step,
        "model": state.workload.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
    }


def save_resume(state: TrialState) -> None:
    """Write `resume.pt`: all that the rest of the trial depends on. The lines that it counts on are on the disk before
    it is.
    """
    began = state.clock.now()
    state.measurements.sync()
    state.steps.sync()
    parts = model_parts(state) | {
        "request": checkpoints.identity(state.request),
        "progress": state.progress.state(),
        "series": state.series.state(),
        "random": random_state(state.device),
        "best": state.best.entries(),
        "measurements_offset": state.measurements.offset,
        "steps_offset": state.steps.offset,
    }
    checkpoints.save_resume(state.folder, parts)
    state.best.resume_written()
    state.clock.saved(began)


def load_parts(state: TrialState, parts: dict[str, Any]) -> None:
    """Put model, optimizer, waiting series and random generators where `resume.pt` left them."""
    state.workload.model.load_state_dict(parts["model"])
    state.optimizer.load_state_dict(parts["optimizer"])
    state.series.load_state(parts["series"], state.device)
    set_random_state(parts["random"], state.device)


def stop(state: TrialState) -> None:
    """Save a trial that is told to stop, at the update it has come to."""
    state.progress.train_seconds += state.clock.lap()
    save_resume(state)
    state.best.prune()


def measure(state: TrialState) -> None:
    """Evaluate the model of this step, keep its checkpoint if it is among the best, and write the measurement.

    The order makes a kill harmless: checkpoint, line, `resume.pt` when it is due (always after the last step), pruning.
    Raises WorkloadError where the objective's metric is not among those measured.
    """
    progress, request = state.progress, state.request
    progress.train_seconds += state.clock.lap()
    try:
        evaluations = evaluate(state.evaluator, progress.metric_names)
    finally:
        progress.eval_seconds += state.clock.lap()
    metrics = {
        f"{split}/{name}": value for split, found in evaluations.items() for name, value in found.metrics.items()
    }
    minibatch_loss = progress.interval_mean()
    if minibatch_loss is not None:
        metrics["train/minibatch_loss"] = minibatch_loss
    progress.evaluated(evaluations["train"].loss)
    value = metrics.get(request.objective.metric)
    if value is None and progress.step > 0:
        raise WorkloadError(missing_metric(request.objective.metric, list(metrics)))
    kept = None if progress.step == 0 else state.best.offer(progress.step, value, _checkpoint_writer(state, metrics))
    line = Measurement(
        step=progress.step,
        metrics=metrics,
        learning_rate=progress.learning_rate,
        gradient_norm=progress.gradient_norm,
        elapsed_seconds=progress.train_seconds + progress.eval_seconds,
        checkpoint=kept,
    )
    state.measurements.append(line.to_json())
    if progress.step == state.total_steps or (progress.step > 0 and state.clock.now() >= state.clock.next_save):
        save_resume(state)
    state.best.prune()
    progress.eval_seconds += state.clock.lap()


def missing_metric(metric: str, given: list[str]) -> str:
    """The message for an objective that is not measured."""
    return (
        f"objective.metric {metric!r} is not given by the workload; it gives {', '.join(given)}{nearest(metric, given)}"
    )


def _checkpoint_writer(state: TrialState, metrics: dict[str, float]) -> Callable[[Path], None]:
    return lambda path: checkpoints.save(path, model_parts(state) | {"metrics": dict(metrics)})
