"""The axes of a study's plots: best values, of which the good trials take up much, and hyperparameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tunectl.analysis.figures.figures import Axis, AxisScale, scale_of
from tunectl.analysis.findings.finding_evidence import HyperparameterAxis, StudyEvidence
from tunectl.analysis.results.runs import Run
from tunectl.core.objective import Objective
from tunectl.core.wording import as_text

_LOG_SPAN = 8.0
"""The axis of positive numbers of a list that span this factor or more is logarithmic, with ticks at them."""

_FEWEST_TO_CUT = 8
"""Of fewer values none is cut off."""

_GOOD_SHARE = 0.25
"""The better half of the trials takes up at least this part of the axis of their values."""

_WORST_SHOWN = 90
"""The colours end at this percentile, so that a few bad trials do not make all others look alike."""

_TIMES_SHOWN = 3.0
"""An axis that is cut off ends at this multiple of the distance from the best trial to the median one."""


def value_axis(objective: Objective, values: Sequence[float | None], within: Sequence[float | None] = ()) -> Axis:
    """The axis of best values: logarithmic, or cut off, where bad trials would press the good ones together.

    With `within`, values that are shown in any case (those of the best trial of each setting), the axis may be cut off.
    """
    which = "best evaluation" if objective.checkpoint == "best" else "last evaluation"
    title = objective.title if objective.steps_to is not None else f"{objective.metric} ({which})"
    known = [value for value in values if value is not None and math.isfinite(value)]
    costs = sorted(known, key=objective.cost)
    # A logarithm spreads the small numbers: where large ones are better, it helps only if the good trials span decades.
    scale = scale_of(known if objective.best_direction == "minimize" or not known else [costs[0], _median(costs)])
    scale = scale if min(known, default=0) > 0 else "linear"
    if not within or objective.steps_to is not None or len(known) < _FEWEST_TO_CUT:
        return Axis(title, scale)
    if _share_of_good(costs, scale) >= _GOOD_SHARE:
        return Axis(title, scale)
    if min(known) > 0 and _share_of_good(costs, "log") >= _GOOD_SHARE:
        return Axis(title, "log")
    return Axis(title, scale, shown=_shown(costs, scale, [item for item in within if item is not None], objective))


def _places(values: Sequence[float], scale: AxisScale) -> list[float]:
    return [math.log10(value) for value in values] if scale == "log" else list(values)


def _median(costs: Sequence[float]) -> float:
    """The value in the middle; where it is the best one, the first that is another."""
    middle = costs[len(costs) // 2]
    return middle if middle != costs[0] else next((value for value in costs if value != costs[0]), middle)


def _share_of_good(costs: Sequence[float], scale: AxisScale) -> float:
    """Which part of the axis lies between the best and the median trial; 1 where all are alike."""
    best, median, worst = _places([costs[0], _median(costs), costs[-1]], scale)
    return abs(median - best) / abs(worst - best) if worst != best else 1.0


def _shown(
    costs: Sequence[float], scale: AxisScale, within: Sequence[float], objective: Objective
) -> tuple[float, float] | None:
    """The part of the axis that is shown, from its low to its high end; None for all."""
    best, median = _places([costs[0], _median(costs)], scale)
    end = best + _TIMES_SHOWN * (median - best)
    end = 10**end if scale == "log" else end
    end = max([end, *within], key=objective.cost)
    return (min(costs[0], end), max(costs[0], end)) if objective.cost(end) < objective.cost(costs[-1]) else None


def hyperparameter_axis(axis: HyperparameterAxis) -> Axis:
    """The axis of a hyperparameter's values, on its own scale."""
    domain = axis.hyperparameter.sampled_domain
    if domain.listed is None:
        return Axis(axis.key, domain.scale, searched=(domain.low, domain.high))
    if len(domain.numbers) == len(domain.listed):
        return _axis_of_numbers(axis.key, domain.numbers)
    return Axis(axis.key, "category", [as_text(value) for value in domain.listed])


def _axis_of_numbers(title: str, numbers: Sequence[float]) -> Axis:
    """The axis of a few known numbers."""
    ordered = sorted(numbers)
    if ordered[0] > 0 and ordered[-1] >= _LOG_SPAN * ordered[0]:
        return Axis(title, "log", ticks=ordered)
    return Axis(title, scale_of(ordered))


def hyperparameter_place(axis: HyperparameterAxis, value: object) -> float | str:
    """A value of the hyperparameter as a place on that axis."""
    if hyperparameter_axis(axis).scale == "category":
        return as_text(value)
    return float(value)  # type: ignore[arg-type]


def shaded_value(evidence: StudyEvidence, run: Run) -> float | None:
    """The value by which a trial is coloured; of one that never reached a target the steps that it trained."""
    if not run.feasible:
        return None
    return run.last_step(evidence.objective) if run.never_reached(evidence.objective) else run.best_value


def value_colours(evidence: StudyEvidence, values: Sequence[float]) -> Axis:
    """The colours of these values, from the best one on."""
    axis = value_axis(evidence.objective, values)
    if not values:
        return axis
    costs = np.array([evidence.objective.cost(value) for value in values])
    ends = [float(costs.min()), float(np.percentile(costs, _WORST_SHOWN))]
    best, worst = (evidence.objective.value(end) for end in ends)
    return replace(axis, searched=(best, worst))
