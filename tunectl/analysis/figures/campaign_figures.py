"""The plots of a campaign: the path of the best over its rounds, and over what they cost."""

from __future__ import annotations

import math

from tunectl.analysis.comparison.campaign_history import CampaignHistory, HistoryRound
from tunectl.analysis.figures.figures import Axis, Curve, CurvesFigure, Figure, MarkedValue, Point, PointsFigure
from tunectl.analysis.figures.study_axes import value_axis
from tunectl.core.wording import short_number

SEARCHED, RETRAINS, LAUNCHED = "best of the search", "retrains", "launched: mean of retrains"


def campaign_figures(history: CampaignHistory) -> list[Figure]:
    """The plots of a campaign; [] where no round has a value."""
    if history.objective is None or not history.judged:
        return []
    return [_rounds_figure(history), _cost_figure(history)]


def _marks(history: CampaignHistory) -> list[MarkedValue]:
    if history.baseline is None:
        return []
    return [MarkedValue(history.baseline, f"{history.baseline_name}: {short_number(history.baseline)}", "y")]


def _rounds_figure(history: CampaignHistory) -> PointsFigure:
    """The best of each round: its search's best value, its retrains, what was launched, and the best until then."""
    assert history.objective is not None
    points = [
        point
        for number, item in enumerate(history.rounds, start=1)
        if item in history.judged
        for point in _points(history, number, item)
    ]
    by_mean = any(value is not None for value in history.best_means())
    known = history.best_means() if by_mean else history.best_values()
    path = [(number, value) for number, value in enumerate(known, start=1) if value is not None]
    name = "the best mean of retrains until then" if by_mean else "the best search value until then"
    lines = [Curve([number for number, _ in path], [value for _, value in path], label=name)] if len(path) > 1 else []
    marks = _marks(history)
    values = [*(point.y for point in points), *(mark.value for mark in marks)]
    return PointsFigure(
        "best-by-round",
        "The best of each round",
        Axis("round", searched=(1, max(2, len(history.rounds)))),
        value_axis(history.objective, values),
        points,
        marks,
        legend="value",
        lines=lines,
        missed="ended without a value",
    )


def _points(history: CampaignHistory, number: int, item: HistoryRound) -> list[Point]:
    assert history.objective is not None
    found = [Point(number, item.best_value, SEARCHED, f"{item.name}, trial {item.best_trial}")]
    for cost in item.retrains:
        value = history.objective.value(cost) if math.isfinite(cost) else None
        found.append(Point(number, value, RETRAINS, f"{item.name}, a retrain of trial {item.retrained_trial}"))
    mean = history.mean(item)
    if item.retrained_trial in item.launched and mean is not None:
        found.append(Point(number, mean, LAUNCHED, f"{item.name}, trial {item.retrained_trial}, mean of its retrains"))
    return found


def _cost_figure(history: CampaignHistory) -> CurvesFigure:
    """The best until then over the device-seconds of all rounds until then."""
    assert history.objective is not None
    spent = [cost.device_seconds for cost in history.costs()]
    names = [f"round {number}: {item.name}" for number, item in enumerate(history.rounds, start=1)]
    curves = []
    for series, values in ((SEARCHED, history.best_values()), ("mean of retrains", history.best_means())):
        known = [(x, y, name) for x, y, name in zip(spent, values, names, strict=True) if y is not None]
        if known:
            x, y, more = zip(*known, strict=True)
            curves.append(Curve(x, y, series, series, dotted=True, more=(more,)))
    marks = _marks(history)
    shown = [value for curve in curves for value in curve.y]
    return CurvesFigure(
        "best-by-cost",
        "The best until then, by what it cost",
        Axis("device-seconds of all rounds until then"),
        value_axis(history.objective, [*shown, *(mark.value for mark in marks)]),
        curves,
        marks,
        legend="value",
        solid_name="",
        dashed_name="",
        more=("round",),
    )
