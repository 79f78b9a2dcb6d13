"""`curvature`: the curvature of the loss where training begins and later, and which learning rates it allows.

Gilmer et al. 2021, "A Loss Curvature Perspective on Training Instability in Deep Learning": its figures 2, 3 and 8 for
any workload. The largest eigenvalue of the Hessian is measured at initialisation under several seeds. Then a grid of
learning rates is trained, without a warmup and with one, in every setting of the scientific hyperparameters. The
eigenvalues are measured on the way and compared with the bound of the optimizer. Four of the runs are repeated and
measured more often: a stable one, one at the edge of stability, one that diverges, and the same with a warmup.
"""

from __future__ import annotations

from collections.abc import Sequence

from tunectl.procedures.curvature_conclusion import concluded
from tunectl.procedures.curvature_measures import at_the_start, measured_steps, settings_at, without_warmup
from tunectl.procedures.curvature_options import (
    INITIAL,
    PHASES,
    WITH,
    WITHOUT,
    CurvatureOptions,
    CurvatureSweep,
    compared_step,
    grid_in,
    points_of,
    problems,
    trained_steps,
    training_of,
    warmup_steps,
)
from tunectl.procedures.curvature_runs import again, shown_runs
from tunectl.procedures.levers import Levers
from tunectl.procedures.procedure import (
    CONSTANT_RATE,
    SEEDS,
    Procedure,
    Results,
    Wish,
    by_majority,
    changes_to,
    covered_settings,
    fewest_seeds,
    has_all,
)


def next_trials(spec: CurvatureSweep, results: Results) -> Sequence[Wish]:
    """A few updates under several seeds in each setting; the grid, without and with a warmup; the chosen runs again."""
    wishes = [wish for place, _ in enumerate(covered_settings(spec)) for wish in _initial(spec, place)]
    wishes += by_majority(results, [wish for phase in (WITHOUT, WITH) for wish in _grid(spec, phase)])
    if not has_all(results, wishes):
        return wishes
    return [*wishes, *again(spec, shown_runs(spec, results))]


def _initial(spec: CurvatureSweep, place: int) -> list[Wish]:
    """One update at the lowest rate of the grid; of an adaptive optimizer as many as its preconditioner needs."""
    setting = covered_settings(spec)[place]
    low, *_ = grid_in(spec, setting)
    changes = {**changes_to(spec, setting), **without_warmup(), **CONSTANT_RATE, "learning_rate": low}
    measured = at_the_start(spec, dict(setting.values), trained_steps(spec))
    steps = max(1, max(measured.at))
    # What a few updates have learned says nothing about the rate.
    training = {"max_train_steps": steps, "eval_every": steps, "keep_checkpoints": 1, "no_progress": 0}
    return [Wish(INITIAL, place, repeat, changes, training, curvature=measured) for repeat in range(spec.options.seeds)]


def _grid(spec: CurvatureSweep, phase: int) -> list[Wish]:
    settings, warmup = covered_settings(spec), warmup_steps(spec) if phase == WITH else 0
    steps = measured_steps(trained_steps(spec) + warmup, compared_step(spec), warmup)
    levers = Levers(warmup=warmup).changes if phase == WITH else without_warmup()
    return [
        Wish(
            phase,
            point,
            repeat,
            {**changes_to(spec, settings[place]), **levers, "learning_rate": rate},
            training_of(spec),
            curvature=settings_at(spec, steps, dict(settings[place].values)),
        )
        for point, (place, rate) in enumerate(points_of(spec))
        for repeat in range(SEEDS)
    ]


def trainings(spec: CurvatureSweep) -> tuple[int, int]:
    """The least and the most, without the few updates at initialisation."""
    points = 2 * len(points_of(spec))
    return fewest_seeds(points), SEEDS * points + 4


CURVATURE_SWEEP = Procedure(
    "curvature",
    frozenset({"learning_rate", "warmup_steps"}),
    PHASES,
    CurvatureOptions,
    next_trials,
    concluded,
    problems,
    trainings=trainings,
    all_settings=True,
)
