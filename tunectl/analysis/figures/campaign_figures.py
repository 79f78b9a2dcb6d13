"""The plots of a campaign: the path of the best over its rounds, and over what they cost."""

from __future__ import annotations

import math

from tunectl.analysis.comparison.campaign_history import CampaignHistory, HistoryRound
from tunectl.analysis.figures.figures import Axis, Curve, CurvesFigure, Figure, MarkedValue, Point, PointsFigure
from tunectl.analysis.figures.study_figures import value_axis
from tunectl.core.wording import short_number

SEARCHED, RETRAINS = "best of the search", "retrains"


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
    """The best of each round: its search's best value, its retrains, and the best mean of retrains until then."""
    assert history.objective is not None
    points = [
        point
        for number, item in enumerate(history.rounds, start=1)
        if item in history.judged
        for point in _points(history, number, item)
    ]
    lines = [
        Curve([number for number, _ in path], [value for _, value in path], label=name)
        for name, values in (
            ("the best search value until then", history.best_values()),
            ("the best mean of retrains until then", history.best_means()),
        )
        if len(path := [(n, value) for n, value in enumerate(values, start=1) if value is not None]) > 1
    ]
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
    launched = f", launched: trial {', '.join(map(str, item.launched))}" if item.launched else ""
    label = f"{item.name}, trial {item.best_trial}{launched}"
    found = [Point(number, item.best_value, SEARCHED, label)]
    for cost in item.retrains:
        value = history.objective.value(cost) if math.isfinite(cost) else None
        found.append(Point(number, value, RETRAINS, f"{item.name}, a retrain of trial {item.retrained_trial}"))
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
