"""A measurement of curvature during training: its line in measurements.jsonl, at most one a step."""

from __future__ import annotations

from functools import partial

from tunectl.core.measurement_kinds import CURVATURE
from tunectl.core.records import TrialRequest
from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.curvature.measured_loss import NotMeasured
from tunectl.training.curvature.optimizer_measures import NextStep
from tunectl.training.first_rank import on_first
from tunectl.training.memory_errors import has_asked_for_too_much
from tunectl.training.recovery import rate_factor
from tunectl.training.schedules import learning_rate
from tunectl.training.training_state import TrialState

_NOT_MEASURED = "curvature was not measured at every step"


def measure_curvature(state: TrialState) -> None:
    """Measure the curvature of the weights of this step, and write the line.

    Training goes on as without it: the model, the optimizer and all random generators are as before. Where nothing can
    be measured, the line is without values, and the trial gets a note with the reason. On several devices rank 0
    measures all examples, and the others wait.
    """
    progress = state.progress
    progress.train_seconds += state.clock.lap()
    try:
        metrics, reason = on_first(state.ranks, partial(_measured, state))
    finally:
        seconds = state.clock.lap()
        progress.curvature_seconds += seconds
    if reason:
        # For the result of the trial; the last reason counts.
        state.notes[_NOT_MEASURED] = f"step {progress.step}: {reason}"
    line = CURVATURE.measurement(progress.step, metrics | {"seconds": seconds}, progress.elapsed_seconds)
    state.measurements.append(line.to_json())
    progress.curvature_step = progress.step


def _measured(state: TrialState) -> tuple[dict[str, float], str]:
    """The metrics, and why values are missing, "" where none is."""
    meter = state.curvature
    assert meter is not None
    try:
        metrics = meter.measure(state.progress.step, _next_step(state))
    except NotMeasured as error:
        return {}, str(error)
    except Exception as error:
        # The measurement takes more memory than training; that it does not have it is no result of the trial.
        if not has_asked_for_too_much(error):
            raise
        return {}, "the memory is too small"
    return metrics, meter.reason


def _next_step(state: TrialState) -> NextStep:
    """The update after this step; at the end, one more with the rate of the last."""
    step, configuration = state.progress.step, state.configuration
    rate = rate_factor(state) * coming_rate(state.request, configuration, step)
    return NextStep(state.optimizer, configuration, rate, step)


def coming_rate(request: TrialRequest, configuration: TrainingConfiguration, step: int) -> float:
    """The learning rate of the update after `step` updates; at the end that of the last."""
    last = configuration.total_steps(request.trained_steps) - 1
    return learning_rate(configuration, request.max_train_steps, min(step, last))
