"""What the trials of a procedure measured of the curvature, and the learning rate that it predicts to be unstable."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tunectl.analysis.results.runs import Run
from tunectl.core.curvature_settings import CurvatureMeasure, CurvatureSettings
from tunectl.core.measurement_kinds import CURVATURE
from tunectl.core.records import Scalar
from tunectl.core.wording import short_number
from tunectl.language.configuration import TrainingConfiguration
from tunectl.language.stability_bounds import OWN_GROUPS, Bound, rate_at_bound, stability_bound
from tunectl.procedures.procedure import AnySweep

LAMBDA_1_METRIC, BOUND_METRIC = CURVATURE.column("lambda_1"), CURVATURE.column("bound")

NO_CURVATURE = "the curvature was not measured"

FILLED = 50
"""After how many updates an adaptive optimizer's preconditioner is used: at first it is made of a few gradients, and
where these are near 0 the preconditioned eigenvalue is huge, though no update is. With Adam at 1e-3 on digits it is
2.8e6 after 1 update, 3.3e5 after 10, 4.4e3 after 20, 138 after 50 and 205 after 100.
"""

_ONE_TWO_FIVE = (1, 2, 5)


def measured_steps(total: int, *further: int) -> tuple[int, ...]:
    """After how many of `total` updates a trial is measured: 0, 1, 2, 5, 10, 20, 50, ..., the last, and `further`."""
    decades = range(len(str(total)))
    regular = {digit * 10**decade for decade in decades for digit in _ONE_TWO_FIVE}
    return tuple(sorted(step for step in {0, total, *regular, *further} if 0 <= step <= total))


def settings_at(
    spec: AnySweep, steps: Iterable[int], values: dict[str, Any], *further: CurvatureMeasure
) -> CurvatureSettings:
    """How a trial with these hyperparameters is measured at these steps: by the eigenvalue that its bound is about.

    The examples, the tolerance and the mode are those of the study, where it has some. `further` is measured as well.
    """
    measures: list[CurvatureMeasure] = ["lambda_1"]
    if bound_of(values).eigenvalue == "preconditioned_lambda_1":
        measures.append("preconditioned")
    known = spec.curvature or CurvatureSettings()
    return replace(known, every=None, at=tuple(steps), measures=(*measures, *further), eigenvalues=1)


def at_the_start(spec: AnySweep, values: dict[str, Any], total: int) -> CurvatureSettings:
    """How a trial of `total` updates is measured where it begins: an adaptive rule when it has a preconditioner."""
    steps = (0, min(FILLED, total)) if bound_of(values).eigenvalue == "preconditioned_lambda_1" else (0,)
    return settings_at(spec, steps, values, "critical_learning_rate")


def configuration_of(values: dict[str, Any]) -> TrainingConfiguration:
    """The training configuration of a trial with these hyperparameters, of which the learning rate may be open."""
    return TrainingConfiguration.from_hyperparameters({"learning_rate": 1.0, **values})


def bound_of(values: dict[str, Any], learning_rate: float = 1.0, step: int = 0) -> Bound:
    """The bound of the optimizer of a trial with these hyperparameters."""
    return stability_bound(configuration_of(values), learning_rate, step)


def metric_at(run: Run, metric: str, step: int) -> float | None:
    """A metric of the curvature at a step; None where it was not measured there."""
    steps, values = run.curve(metric)
    return next((float(value) for at, value in zip(steps, values, strict=True) if at == step), None)


def has_converged(run: Run, metric: str, step: int) -> bool:
    """Whether an eigenvalue converged at a step: one that did not is a lower estimate."""
    name = CURVATURE.column("converged") if metric == LAMBDA_1_METRIC else f"{metric}_converged"
    return metric_at(run, name, step) == 1


def last_value(run: Run, metric: str, step: int) -> tuple[int, float] | None:
    """The step and the value of the last finite measurement of a metric at or before a step; None without one."""
    steps, values = run.curve(metric)
    found = [(int(at), float(v)) for at, v in zip(steps, values, strict=True) if at <= step and math.isfinite(v)]
    return max(found, default=None)


def bounded_metric(values: dict[str, Any]) -> str | None:
    """The metric of the eigenvalue that the optimizer's bound is about; None where no bound is known."""
    bound = bound_of(values)
    if bound.value is None or bound.eigenvalue is None:
        return None
    return CURVATURE.column("lambda_1_with_decay" if bound.with_decay else bound.eigenvalue)


def drawn_metric(values: dict[str, Any]) -> str:
    """The metric that is drawn against the bound: the bounded one, and without a bound the plain eigenvalue."""
    return bounded_metric(values) or LAMBDA_1_METRIC


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of a number over seeds, the lowest and the highest; `seeds` is how many there are."""

    median: float
    lowest: float
    highest: float
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """That of the values; None without any."""
        return cls(statistics.median(values), min(values), max(values), len(values)) if values else None

    def to_json(self) -> dict[str, float]:
        """The spread in conclusion.json."""
        return {"median": self.median, "lowest": self.lowest, "highest": self.highest, "seeds": self.seeds}

    @property
    def in_words(self) -> str:
        """Such as "58.3 (median of 5 seeds, 50.1 to 70.2)"."""
        if self.seeds == 1:
            return f"{short_number(self.median)} (one seed)"
        ends = f"{short_number(self.lowest)} to {short_number(self.highest)}"
        return f"{short_number(self.median)} (median of {self.seeds} seeds, {ends})"


@dataclass(frozen=True, slots=True)
class Prediction:
    """The rate above which training is expected to be unstable, by the curvature where it begins.

    `lambda_1` is the largest eigenvalue of the Hessian at step 0. `eigenvalue` is the one that the optimizer's bound is
    about, of the metric `metric` after `step` updates: the preconditioned one needs some updates. `rate` is where it
    is at the bound, `paper_rate` where it is at the paper's line (2 / rate; 40 / rate for Adam). What is None is not
    known, and `reason` says why there is no rate. `critical` is the measured critical learning rate at step 0.
    `not_converged` is how many of the eigenvalues from which `rate` follows did not converge: these are lower
    estimates, and `rate` may be too high.
    """

    lambda_1: Spread | None = None
    metric: str | None = None
    step: int | None = None
    eigenvalue: Spread | None = None
    rate: float | None = None
    paper_rate: float | None = None
    critical: Spread | None = None
    not_converged: int = 0
    reason: str | None = None

    @property
    def is_measured(self) -> bool:
        """Whether the curvature was measured at all."""
        return self.reason != NO_CURVATURE

    def to_json(self) -> dict[str, Any]:
        """The prediction in conclusion.json."""
        return {
            "lambda_1_at_init": self.lambda_1.to_json() if self.lambda_1 else None,
            "bounded_eigenvalue": self.eigenvalue.to_json() if self.eigenvalue else None,
            "bounded_eigenvalue_metric": self.metric,
            "bounded_eigenvalue_step": self.step,
            "eigenvalues_not_converged": self.not_converged,
            "critical_learning_rate": self.critical.to_json() if self.critical else None,
            "predicted_rate": self.rate,
            "predicted_rate_of_the_paper": self.paper_rate,
            "no_prediction_because": self.reason,
        }

    @property
    def in_words(self) -> str:
        """What is predicted from what, in a sentence without its end; "" where nothing was measured."""
        if self.lambda_1 is None:
            return ""
        first = f"The largest eigenvalue of the Hessian is {self.lambda_1.in_words} at the start"
        if self.rate is None:
            return f"{first}, from which no unstable rate is predicted ({self.reason})"
        by = "by it"
        if self.step and self.eigenvalue is not None:
            by = f"by the preconditioned one, {short_number(self.eigenvalue.median)} after {self.step} updates,"
        rate = f"{self.rate:.3g}{self._doubt}{self._critical}"
        return f"{first}; {by} training is predicted to be unstable above a rate of {rate}"

    @property
    def _doubt(self) -> str:
        if not self.not_converged:
            return ""
        seeds = f"{self.not_converged} of {self.eigenvalue.seeds if self.eigenvalue else self.not_converged} seeds"
        return f", or above a lower one, since the eigenvalue did not converge under {seeds}"

    @property
    def _critical(self) -> str:
        if self.critical is None:
            return ""
        return f" (the first update alone raises the loss from about {self.critical.median:.3g} on)"


def prediction(runs: Sequence[Run]) -> Prediction:
    """What the runs of one configuration under several seeds predict, by their first measurements."""
    plain = _spread(runs, LAMBDA_1_METRIC, 0)
    if not runs or not any(CURVATURE.column("loss") in run.curves or LAMBDA_1_METRIC in run.curves for run in runs):
        return Prediction(reason=NO_CURVATURE)
    values = dict(runs[0].plan.hyperparameters)
    bound, metric = bound_of(values), bounded_metric(values)
    found = Prediction(
        lambda_1=plain,
        critical=_critical_rates(runs),
        not_converged=_not_converged(runs, LAMBDA_1_METRIC, 0),
    )
    if metric is None:
        return replace(found, reason=bound.reason or "no stability bound is known for the optimizer")
    step = next((step for step in _steps(runs, metric) if _spread(runs, metric, step)), None)
    eigenvalue = None if step is None else _spread(runs, metric, step)
    if step is None or eigenvalue is None:
        return replace(found, metric=metric, reason=f"{metric} was not measured, or is not finite")
    if all(metric_at(run, CURVATURE.column("ratio"), step) is None for run in runs):
        return replace(found, metric=metric, reason=OWN_GROUPS.reason)
    not_converged = _not_converged(runs, metric, step)
    found = replace(found, metric=metric, step=step, eigenvalue=eigenvalue, not_converged=not_converged)
    rate = rate_at_bound(configuration_of(values), eigenvalue.median, step)
    # The paper's line is of the eigenvalue without a decay term.
    without = _spread(runs, CURVATURE.column(bound.eigenvalue or "lambda_1"), step)
    paper = None
    if bound.paper_line is not None and without is not None and without.median > 0:
        paper = bound.paper_line / without.median
    reason = None if rate is not None else "no eigenvalue is above 0, so no learning rate is predicted to be unstable"
    return replace(found, rate=rate, paper_rate=paper, reason=reason)


def _not_converged(runs: Sequence[Run], metric: str, step: int) -> int:
    """In how many runs the eigenvalue was measured at the step, and did not converge."""
    return sum(metric_at(run, metric, step) is not None and not has_converged(run, metric, step) for run in runs)


def _critical_rates(runs: Sequence[Run]) -> Spread | None:
    """The critical rates at the start, where the search found one: beyond its limit it gives only the limit."""
    limit = CURVATURE.column("critical_limit")
    return _spread(
        [run for run in runs if metric_at(run, limit, 0) in (None, 0)], CURVATURE.column("critical_learning_rate"), 0
    )


def _steps(runs: Sequence[Run], metric: str) -> list[int]:
    return sorted({int(step) for run in runs for step in run.curve(metric)[0]})


def _spread(runs: Sequence[Run], metric: str, step: int) -> Spread | None:
    found = [metric_at(run, metric, step) for run in runs]
    return Spread.of([value for value in found if value is not None and math.isfinite(value)])


def without_warmup() -> dict[str, Scalar | None]:
    """The changes that leave a trial without a warmup."""
    return {"warmup_steps": None, "warmup": None, "post_warmup_steps": None}
