"""An evaluation during training: measurement, checkpoint and line, in an order in which a kill is harmless."""

from __future__ import annotations

import contextlib
import sys
from functools import partial
from typing import Any

from tunectl.core.errors import WorkloadError
from tunectl.core.measurements import Measurement
from tunectl.training.agreement_step import compare_devices
from tunectl.training.batch_norm_statistics import TRAINED_STATISTICS
from tunectl.training.built_workload import nearest
from tunectl.training.data_agreement import refuse_other_orders
from tunectl.training.divided_work import alone
from tunectl.training.evaluation import SplitEvaluation, evaluate
from tunectl.training.optimizers import refuse_others
from tunectl.training.recovery import judge_and_keep
from tunectl.training.saved_trial import checkpoint_writer, evaluated_statistics, evaluated_weights, save_resume
from tunectl.training.training_state import TrialState
from tunectl.training.update_series import BadUpdate


def measure(state: TrialState) -> BadUpdate | None:
    """Evaluate the model of this step, keep its checkpoint if it is among the best, and write the measurement.

    The order makes a kill harmless: the workload's files, checkpoint, line, `resume.pt` where the clock says so (always
    after the last step), pruning. Gives the update from which the trial must recover, if any. Raises WorkloadError
    where the objective's metric was not measured.
    """
    progress = state.progress
    progress.train_seconds += state.clock.lap()
    _check_model(state)
    with contextlib.ExitStack() as stack:
        try:
            with evaluated_weights(state):
                # The checkpoint gets the statistics that are evaluated; training goes on with its own.
                extra = evaluated_statistics(state, stack)
                evaluations = _evaluated(state)
                predicted = _predicted(state)
                metrics = _metrics(state, evaluations)
                if state.files is not None:
                    alone(state.ranks, state.workload.model, partial(state.files.write, progress.step, metrics))
        finally:
            progress.eval_seconds += state.clock.lap()
        if state.buffers is not None:
            state.buffers.settle(without=extra.get(TRAINED_STATISTICS, ()))
        progress.evaluated(evaluations["train"].loss)
        value = _objective(state, metrics)
        write = checkpoint_writer(state, metrics, extra)
        kept = None if progress.step == 0 else state.best.offer(progress.step, value, write)
    line = Measurement(
        step=progress.step,
        metrics=metrics,
        learning_rate=progress.learning_rate,
        gradient_norm=progress.gradient_norm,
        elapsed_seconds=progress.elapsed_seconds,
        checkpoint=kept,
    )
    state.measurements.append(line.to_json())
    if predicted is not None and state.predictions is not None:
        state.predictions.lines.append(predicted)
    bad = judge_and_keep(state)
    must_save = progress.step == state.total_steps or (progress.step > 0 and state.is_time_to_save())
    # A trial that must recover continues from an earlier state.
    if must_save and bad is None:
        save_resume(state)
    state.best.prune()
    progress.eval_seconds += state.clock.lap()
    return bad


def _check_model(state: TrialState) -> None:
    """Refuse what training must not have done to the model, and make it the same on all devices."""
    refuse_others(state.workload.model, state.parameters)
    compare_devices(state)
    if state.workload.sampler is not None:
        refuse_other_orders(state.ranks, state.epochs)
    if state.synchronised is not None:
        state.synchronised.check()


def _objective(state: TrialState, metrics: dict[str, float]) -> float | None:
    name = state.request.objective.metric
    if name not in metrics and state.progress.step > 0:
        raise WorkloadError(missing_metric(name, list(metrics)))
    return metrics.get(name)


def _evaluated(state: TrialState) -> dict[str, SplitEvaluation]:
    """The evaluations; what rank 0 did alone that the devices could not divide is noted, and printed once."""
    evaluations = evaluate(state.evaluator, state.progress.metric_names)
    gatherer, ranks = state.batch_norm, state.ranks
    found = {f"device 0 alone evaluates {split!r}": why for split, why in state.evaluator.undivided.items()}
    rescued = state.evaluator.rescued.items()
    found |= {
        f"device 0 alone evaluated {split!r}, because a device raised an exception": why for split, why in rescued
    }
    if gatherer is not None and gatherer.undivided:
        found["device 0 alone gathers the statistics of batch normalisation"] = gatherer.undivided[0]
    for note, why in found.items():
        if note not in state.notes and ranks.rank == 0:
            sys.stderr.write(f"tunectl: {note}, of the {ranks.count} devices of the trial, which takes longer: {why}\n")
    state.notes |= found
    return evaluations


def _predicted(state: TrialState) -> dict[str, Any] | None:
    """The line of the chosen examples; None where none are kept."""
    if state.predictions is None:
        return None
    return alone(state.ranks, state.workload.model, partial(state.predictions.line, state.progress.step))


def _metrics(state: TrialState, evaluations: dict[str, SplitEvaluation]) -> dict[str, float]:
    """The metrics of an evaluation by split/name, with those of the updates since the last one."""
    metrics = {
        f"{split}/{name}": value for split, found in evaluations.items() for name, value in found.metrics.items()
    }
    minibatch_loss = state.progress.interval_mean()
    if minibatch_loss is not None:
        metrics["train/minibatch_loss"] = minibatch_loss
    if state.scaler is not None:
        metrics["train/skipped_updates"] = float(state.progress.skipped_updates)
    return metrics


def missing_metric(metric: str, given: list[str]) -> str:
    """The message for an objective that is not measured."""
    return f"objective.metric: expected one of {', '.join(given)}, got {metric!r}{nearest(metric, given)}"
