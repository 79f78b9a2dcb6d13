"""The measured curvature of one trial as arrays, and which of its values are exact enough to be compared.

A measured eigenvalue is a Ritz value of Lanczos, which is never above the largest eigenvalue. So a ratio above a level
is above it whether or not Lanczos converged, but a ratio below a level says nothing where it did not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunectl.analysis.results.runs import Floats, Run, usable
from tunectl.core.measurement_kinds import BOUNDED_EIGENVALUES, CURVATURE, search_metric

CLOSE_RESIDUAL = 0.05
"""A value whose residual is at most this part of it counts as known, too, if it did not converge to the tolerance of
the study: within the residual of it there is an eigenvalue, the largest one unless Lanczos has missed it, and all
levels here are at least 0.1 apart.
"""

_SAME = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class CurvatureCurve:
    """A measured quantity of a trial that grows with an eigenvalue.

    `steps` are the numbers of updates after which it was measured, increasing, `values` its values, all finite, each of
    shape [lines]. `known` says which values are known from both sides; the others are lower bounds.
    """

    steps: Floats
    values: Floats
    known: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.steps)

    def chosen(self, lines: NDArray[np.bool_]) -> CurvatureCurve:
        """The curve at some of its lines, shape [lines]."""
        return CurvatureCurve(self.steps[lines], self.values[lines], self.known[lines])

    def decided(self, level: float) -> CurvatureCurve:
        """The lines at which it is known whether the value is above a level: known ones, and lower bounds above it."""
        return self.chosen(self.known | (self.values > level))


_EIGENVALUES = ("ratio", "lambda_1", "preconditioned_lambda_1")


def has_curvature(run: Run) -> bool:
    """Whether any eigenvalue or ratio of the trial was measured."""
    return last_measured(run) is not None


def last_measured(run: Run) -> float | None:
    """The step of the last measured eigenvalue or ratio of the trial; None where none was measured."""
    steps = [run.curve(CURVATURE.column(name))[0] for name in _EIGENVALUES]
    return max((float(at[-1]) for at in steps if len(at)), default=None)


def has_every_update(run: Run) -> bool:
    """Whether the loss of every update is known: what own code printed has steps of its own, and no learning rates."""
    return bool(np.isfinite(run.updates.learning_rate).any())


def ratio_curve(run: Run) -> CurvatureCurve:
    """The eigenvalue that the optimizer's bound is about, as a multiple of that bound: above 1 training is unstable.

    Empty where the bound is not known (lamb, optimizers of the user's own). A line with a bound that is not positive (a
    decoupled decay that is unstable by itself) is left out; without an update (a rate of 0) the ratio is 0.
    """
    steps, ratio = run.curve(CURVATURE.column("ratio"))
    bound = at_steps(run, "bound", steps)
    lines = usable(ratio) & ~(bound <= 0)
    steps, ratio, bound = steps[lines], ratio[lines], bound[lines]
    # At rate 0 every eigenvalue is below the bound.
    return CurvatureCurve(steps, ratio, (ratio == 0) | _ratio_known(run, steps, ratio * bound))


def loss_ratio_curve(run: Run) -> CurvatureCurve:
    """As `ratio_curve`, of the loss alone: without the L2 term of a weight decay.

    Adaptive optimizers divide by the root of the squared gradient. A weight without a gradient of the loss is moved by
    the L2 term alone and ends near 0, where this divisor is tiny: its eigenvalue, about 1/|w|, is above every bound,
    and the weight changes sign at steps of the learning rate's size, which does no harm.
    """
    curve = ratio_curve(run)
    preconditioned = at_steps(run, "preconditioned_lambda_1", curve.steps)
    plain = np.where(np.isfinite(preconditioned), preconditioned, at_steps(run, "lambda_1", curve.steps))
    part = plain / at_steps(run, "lambda_1_with_decay", curve.steps)
    return CurvatureCurve(curve.steps, curve.values * np.where(np.isfinite(part), part, 1.0), curve.known)


def bounded_eigenvalue_curve(run: Run) -> CurvatureCurve:
    """The eigenvalue that the optimizer's bound is about, at the lines where it is positive and the bound is finite."""
    curve = ratio_curve(run)
    eigenvalue = curve.values * at_steps(run, "bound", curve.steps)
    lines = usable(eigenvalue) & (eigenvalue > 0)
    return CurvatureCurve(curve.steps[lines], eigenvalue[lines], curve.known[lines])


def sharpness_curve(run: Run) -> CurvatureCurve:
    """λ1, the largest eigenvalue of the Hessian, at the lines where it is positive."""
    steps, values = run.curve(CURVATURE.column("lambda_1"))
    lines = usable(values) & (values > 0)
    steps, values = steps[lines], values[lines]
    return CurvatureCurve(steps, values, _is_known(run, "lambda_1", steps, values))


def learning_rates(run: Run, steps: Floats) -> Floats:
    """The learning rate of the update after each of these steps (at the end that of the last one), NaN if unknown."""
    rates, of_updates = at_steps(run, "learning_rate", steps), run.updates.learning_rate
    if has_every_update(run):
        places = np.minimum(steps.astype(int), len(of_updates) - 1)
        rates = np.where(np.isnan(rates), of_updates[places], rates)
    return np.where(rates >= 0, rates, np.nan)


def at_steps(run: Run, name: str, steps: Floats) -> Floats:
    """A metric of curvature at these steps, shape of `steps`; NaN where it was not measured or is not finite."""
    own_steps, values = run.curve(CURVATURE.column(name))
    if not len(own_steps):
        return np.full(len(steps), math.nan)
    places = np.minimum(np.searchsorted(own_steps, steps), len(own_steps) - 1)
    return np.where((own_steps[places] == steps) & usable(values[places]), values[places], math.nan)


def value_at(run: Run, name: str, step: float) -> float | None:
    """A metric of curvature at a step, None where it was not measured."""
    value = float(at_steps(run, name, np.array([step]))[0])
    return None if math.isnan(value) else value


def _is_known(run: Run, name: str, steps: Floats, values: Floats) -> NDArray[np.bool_]:
    """Whether the eigenvalue of this name, with these values, converged at these steps, or nearly."""
    converged = at_steps(run, search_metric(name, "converged"), steps) == 1
    residual = at_steps(run, search_metric(name, "residual"), steps)
    return np.asarray(converged | (residual <= CLOSE_RESIDUAL * np.abs(values)))


def _ratio_known(run: Run, steps: Floats, eigenvalue: Floats) -> NDArray[np.bool_]:
    """Whether the eigenvalue of the ratio is known: it is the one of those that were measured that has its value."""
    known = np.zeros(len(steps), dtype=bool)
    for name in BOUNDED_EIGENVALUES:
        values = at_steps(run, name, steps)
        same = np.abs(values - eigenvalue) <= _SAME * np.abs(values)
        known |= same & _is_known(run, name, steps, values)
    return known
