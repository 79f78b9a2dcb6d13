"""The picture that every sweep of the learning rate has: the playbook's figures 7a and 8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunectl.analysis.figures.figures import Axis, Mark, Point, PointsFigure
from tunectl.analysis.results.runs import Run
from tunectl.core.objective import Objective


def rate_plot(
    name: str,
    title: str,
    series: Mapping[str, Mapping[float, Sequence[Run]]],
    objective: Objective,
    *,
    marks: Mapping[str, float | None] | None = None,
    legend: str = "",
) -> PointsFigure:
    """The best value of every run by its rate, {series: {rate: runs}}, infeasible ones as such; `marks` without a rate
    are left out.
    """
    points = [
        Point(
            rate,
            run.best_value if run.feasible else None,
            series_name,
            f"trial {run.plan.trial}" + (f": {run.reason}" if run.reason else ""),
        )
        for series_name, by_rate in series.items()
        for rate, runs in sorted(by_rate.items())
        for run in runs
    ]
    return PointsFigure(
        name,
        title,
        Axis("learning rate", "log"),
        Axis(f"best {objective.metric}"),
        points,
        [Mark(rate, mark) for mark, rate in (marks or {}).items() if rate is not None],
        legend=legend,
    )
