"""Saves and restores a trial: checkpoints of the model, `resume.pt`, and the last good state in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from tunectl.training import checkpoints
from tunectl.training.batch_norm_statistics import TRAINED_STATISTICS
from tunectl.training.rank_states import parts_of_other_ranks
from tunectl.training.seeds import random_state, set_random_state
from tunectl.training.training_state import TrialState
from tunectl.training.user_optimizer import evaluated, has_modes, restore


@contextlib.contextmanager
def evaluated_weights(state: TrialState) -> Iterator[dict[str, Any]]:
    """Within the block the model has the weights that are evaluated; gives the part of a checkpoint with the trained
    weights, where they differ.
    """
    if state.averages is None and not has_modes(state.optimizer):
        yield {}
        return
    averages = state.averages
    with evaluated(state.optimizer, state.parameters) if averages is None else averages.applied() as raw:
        yield {"raw_weights": raw}


def evaluated_statistics(state: TrialState, stack: contextlib.ExitStack) -> dict[str, Any]:
    """Give batch normalisation the statistics that are evaluated, until the stack ends; the part of a checkpoint with
    those in training, where they differ. To be called while the model has the weights that are evaluated.
    """
    if state.batch_norm is None:
        return {}
    return {TRAINED_STATISTICS: stack.enter_context(state.batch_norm.gathered())}


@contextlib.contextmanager
def _model_parts(state: TrialState) -> Iterator[dict[str, Any]]:
    with evaluated_weights(state) as raw:
        yield {
            "format": checkpoints.FORMAT,
            "step": state.progress.step,
            "model": state.workload.model.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            **raw,
            **({} if state.scaler is None else {"scaler": state.scaler.state()}),
        }


@contextlib.contextmanager
def _parts(state: TrialState) -> Iterator[dict[str, Any]]:
    with _model_parts(state) as model:
        yield model | {
            "progress": state.progress.state(),
            "series": state.series.state(),
            "random": random_state(state.device),
            "best": state.best.entries(),
            "measurements_offset": state.measurements.offset,
            "steps_offset": state.steps.offset,
            **({} if state.predictions is None else {"predictions_offset": state.predictions.lines.offset}),
            **({} if state.curvature is None else {"curvature": state.curvature.state()}),
            **({} if state.initialisation is None else {"initialisation": state.initialisation.state()}),
            **({} if state.buffers is None else {"shared_buffers": state.buffers.state()}),
            "notes": dict(state.notes),
        }


def checkpoint_writer(state: TrialState, metrics: Mapping[str, float], extra: dict[str, Any]) -> Callable[[Path], None]:
    """The function that writes a checkpoint: the model (as evaluated), the optimizer, the step, the metrics, and
    `extra` parts.

    Where weights are averaged, `model` holds the averages and `raw_weights` the weights in training, in the order of
    the model's trained parameters.
    """

    def write(path: Path) -> None:
        with _model_parts(state) as parts:
            checkpoints.save(path, parts | {"metrics": dict(metrics)} | extra, state.folder.study)

    return write


def save_resume(state: TrialState) -> None:
    """Write `resume.pt`: all that the rest of the trial depends on. The lines that it needs are flushed first.

    On several devices, to be called by all ranks; rank 0 writes.
    """
    with _parts(state) as parts:
        save_as_resume(state, parts)


def save_as_resume(state: TrialState, parts: Mapping[str, Any]) -> None:
    """Write `resume.pt` of these parts of the trial."""
    began = state.clock.now()
    own: dict[str, Any] = {"request": checkpoints.identity(state.request)}
    if state.recoveries is not None:
        own |= {"recoveries_offset": state.recoveries.offset, "good": state.good}
    others = parts_of_other_ranks(state.ranks, state.workload.model, {**parts, **own})
    if state.ranks.rank == 0:
        sync_lines(state)
        checkpoints.save_resume(state.folder, {**parts, **own, **others})
    state.best.resume_written()
    state.clock.saved(began)


def sync_lines(state: TrialState) -> None:
    """Flush what the trial has measured to the disk."""
    for file in state.line_files:
        file.sync()


def kept(state: TrialState) -> dict[str, Any]:
    """A copy of the trial's present state in the host's memory, which later updates do not change."""
    with _parts(state) as parts:
        copy: dict[str, Any] = _copied(parts)
        return copy


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copied(item) for item in value]
    return value


def load_parts(state: TrialState, parts: Mapping[str, Any]) -> None:
    """Restore model, optimizer, averages, loss scale, unread series, notes and random generators from `parts`."""
    state.workload.model.load_state_dict(parts["model"])
    # A copy, because the optimizer would keep these tensors themselves.
    state.optimizer.load_state_dict(_copied(parts["optimizer"]))
    if state.averages is not None:
        state.averages.load(parts["raw_weights"])
    elif has_modes(state.optimizer):
        restore(state.optimizer, state.parameters, parts["raw_weights"])
    if state.scaler is not None:
        state.scaler.load_state(parts["scaler"])
    # Without that part, the trial was trained so far by a study that measured no curvature.
    if state.curvature is not None and "curvature" in parts:
        state.curvature.load_state(parts["curvature"])
    if state.initialisation is not None:
        state.initialisation.load_state(parts["initialisation"])
    state.series.load_state(parts["series"], state.device)
    state.saved_buffers = parts.get("shared_buffers")
    # Those of earlier attempts first: what was seen on other devices, or once only, stays true of the trial.
    state.notes = {**parts.get("notes", {}), **state.notes}
    if parts["random"] is not None:
        set_random_state(parts["random"], state.device)


def stop(state: TrialState) -> None:
    """Save a trial that was asked to stop, at its present update."""
    state.progress.train_seconds += state.clock.lap()
    save_resume(state)
    state.best.prune()
