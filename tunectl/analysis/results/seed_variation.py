"""Whether trials that differ only in their seed measured anything different: if not, retrains are no evidence."""

from __future__ import annotations

from collections.abc import Sequence

from tunectl.analysis.results.runs import Run
from tunectl.core.measurement_kinds import is_no_evaluation
from tunectl.core.records import TrialOutcome
from tunectl.language.progress_output import is_metric

NO_VARIATION = "no variation between seeds: the program does not use its seed, or training is deterministic"

PASS_THE_SEED = (
    "pass the seed to the program with {trial.seed} in its command (or let it read TUNECTL_TRIAL_SEED; in a function, "
    "trial.seed), and let it seed everything that is random"
)
"""The advice that goes with it."""

_Measured = tuple[object, ...]


def outcomes_are_identical(outcomes: Sequence[TrialOutcome]) -> bool:
    """Whether trials of one configuration with different seeds ended with exactly the same numbers.

    The best and the last evaluation and every metric at the best one are compared, except timers and similar numbers
    that change each time. A trial without a value shows that seeds do matter.
    """
    return _identical([(item.plan.seed, _of_outcome(item)) for item in outcomes])


def runs_are_identical(runs: Sequence[Run]) -> bool:
    """The same for runs with their curves: every evaluation of every metric is compared."""
    return _identical([(run.plan.seed, _of_run(run)) for run in runs])


def _identical(measured: Sequence[tuple[int, _Measured | None]]) -> bool:
    seeds, numbers = {seed for seed, _ in measured}, {found for _, found in measured}
    return len(seeds) > 1 and len(numbers) == 1 and None not in numbers


def _of_outcome(item: TrialOutcome) -> _Measured | None:
    if item.state != "completed" or item.best_value is None:
        return None
    # As text, because NaN is not equal to NaN.
    values = sorted((name, repr(value)) for name, value in item.metrics_at_best.items())
    metrics = tuple((name, value) for name, value in values if _is_compared(name))
    return item.best_step, item.best_value, item.final_step, repr(item.final_value), metrics


def _is_compared(name: str) -> bool:
    # What other kinds measure need not come from the training: curvature is found from a random start by the seed.
    return not is_no_evaluation(name) and is_metric(name.rpartition("/")[2])


def _of_run(run: Run) -> _Measured | None:
    if run.state != "completed" or not run.curves:
        return None
    curves = sorted((name, curve) for name, curve in run.curves.items() if _is_compared(name))
    return tuple((name, steps.tobytes(), values.tobytes()) for name, (steps, values) in curves)
