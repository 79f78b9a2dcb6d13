"""The initialisation of a trial before its first update, with its lines in measurements.jsonl and its saves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from tunectl.core.measurement_kinds import INITIALISATION
from tunectl.training.curvature.measured_loss import NotMeasured
from tunectl.training.initialisation.initialisation import Initialisation
from tunectl.training.memory_errors import has_asked_for_too_much
from tunectl.training.optimizers import workload_optimizer
from tunectl.training.saved_trial import save_resume
from tunectl.training.saved_trial import stop as save_stopped
from tunectl.training.training_state import TrialState

Ending = Literal["finished", "stopped"]


class NotInitialised(Exception):  # noqa: N818  (a result of the trial)
    """The initialisation came to a number that is not finite: the trial is infeasible, for the reason in the text."""


def initialise(state: TrialState, stop: Callable[[], bool]) -> Ending:
    """Run the initialisation from where it is to its end; nothing is done where there is none, or it is finished.

    Gives "stopped" where `stop()`, which is called once an iteration, returned true and the state was saved; it is also
    saved when the clock says so. Raises NotInitialised; exceptions of the workload's code pass.
    """
    run, progress = state.initialisation, state.progress
    if run is None or run.is_finished:
        return "finished"
    # Measured with the modes that the layers have in training, which are put back each time.
    state.workload.model.train()
    while True:
        # Stop and save: what the rest depends on is the weights and the procedure's own state.
        if stop():
            progress.initialisation_seconds += state.clock.lap()
            save_stopped(state)
            return "stopped"
        if run.iteration > 0 and state.is_time_to_save():
            progress.initialisation_seconds += state.clock.lap()
            save_resume(state)

        # Measure the weights on the batches of this iteration; the last one only measures.
        found = run.measure()
        wrong = found.not_finite()
        measures_lambda = state.curvature is not None and state.curvature.settings.is_at(run.iteration)
        if run.is_recorded or measures_lambda or wrong:
            _record(state, run, found.metrics | (_lambda_1(state, run) if measures_lambda and not wrong else {}))
        if wrong:
            raise NotInitialised(f"{run.method}, iteration {run.iteration} of {run.steps}: {wrong}")
        if run.iteration == run.steps:
            break

        # Rescale.
        run.rescale(found)
    run.is_finished = True
    state.ranks.broadcast_(list(state.workload.model.parameters()))
    if state.averages is not None:
        state.averages.restart()
    if state.configuration.optimizer_code is not None:
        # One that keeps the weights with which it was made must have those that training begins with.
        state.optimizer = workload_optimizer(state.workload, state.configuration)
    return "finished"


def _record(state: TrialState, run: Initialisation, metrics: dict[str, float]) -> None:
    progress = state.progress
    progress.initialisation_seconds += state.clock.lap()
    values = metrics | {"seconds": progress.initialisation_seconds}
    line = INITIALISATION.measurement(run.iteration, values, progress.elapsed_seconds)
    state.measurements.append(line.to_json())


def _lambda_1(state: TrialState, run: Initialisation) -> dict[str, float]:
    """λ1 at this iteration, of the examples and in the mode of training.curvature; {} where it cannot be measured."""
    assert state.curvature is not None
    try:
        return state.curvature.lambda_1_alone(run.iteration)
    except NotMeasured as error:
        reason = str(error)
    except Exception as error:
        # As in training: that the measurement does not have the memory is no result of the trial.
        if not has_asked_for_too_much(error):
            raise
        reason = "the memory is too small"
    state.notes["curvature was not measured during the initialisation"] = f"iteration {run.iteration}: {reason}"
    return {}
