"""The layers of the figures of all hyperparameters at once: parallel coordinates, and small plots of pairs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

from tunectl.analysis.figures.figures import Axis, PairsFigure, ParallelFigure, TrialOnAxes
from tunectl.core.wording import short_number
from tunectl.report import plot_theme
from tunectl.report.axes import DrawnAxis, drawn_axis
from tunectl.report.effect_layers import shades
from tunectl.report.intervals import Interval
from tunectl.report.layers import DrawnLayers, marked, placed_in_categories
from tunectl.report.plot_theme import Layer, by_selection, layer

_NOT_ACTIVE = -0.09
_INFEASIBLE = 1.07
_EDGES = (-0.16, 1.12)
"""Where on upright axes from 0 to 1 a line passes that has no value there, and the ends of the plot."""

_TICKS = 5
_NAME_CHARACTERS = 14
_PANEL = 0.86
"""How much of its square a small plot takes up."""

_INK = "#444444"
_FRAME = "#BBBBBB"


def parallel(figure: ParallelFigure, *, interactive: bool) -> DrawnLayers:
    """A line for each trial across the axes; below them where a hyperparameter is not active, above if infeasible."""
    drawn = _drawn_axes(figure.axes, figure.trials)
    names = tuple(axis.title for axis in figure.axes)
    x = DrawnAxis(Axis("", "category", names), Interval(-0.35, len(names) - 0.65), "x", names)
    y = DrawnAxis(Axis(""), Interval(*_EDGES), "y")
    where = {"x": x.encoding("x"), "y": y.encoding("y") | {"axis": None}}
    heights = [_heights(axis, [item.values[place] for item in figure.trials]) for place, axis in enumerate(drawn)]
    rows: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for number, trial in enumerate(figure.trials):
        for place, value in enumerate(trial.values):
            height = heights[place][number]
            missing = _INFEASIBLE if place == len(names) - 1 else _NOT_ACTIVE
            row: dict[str, Any] = {
                "x": place,
                "y": missing if height is None else height,
                "line": number,
                "value": trial.value,
            }
            row |= {"label": trial.label, "trial": trial.trial, "more0": trial.value}
            row |= {"shown_x": names[place], "shown_y": _shown(value, missing)}
            rows[trial.value is None].append(row)
    layers = [_upright_axes(drawn, where), *_lines(rows, where, figure.colour, interactive=interactive)]
    layers += _tick_layers(drawn, where)
    notes = [*figure.notes]
    if any(row["y"] == _NOT_ACTIVE for of_kind in rows.values() for row in of_kind):
        notes.append("below the axes: not active")
    if rows[True]:
        notes.append(
            f"dashed, to above the last axis: infeasible ({sum(item.value is None for item in figure.trials)})"
        )
    return layers, (x, y), notes


def _drawn_axes(axes: Sequence[Axis], trials: Sequence[TrialOnAxes]) -> list[DrawnAxis]:
    return [drawn_axis(axis, "y", [item.values[place] for item in trials]) for place, axis in enumerate(axes)]


def _heights(axis: DrawnAxis, values: Sequence[float | str | None]) -> list[float | None]:
    """The values as shares of an upright axis; those of one category are spread, so that no line hides another."""
    known = [None if value is None else position for value, position in _placed(axis, values)]
    return [None if position is None else axis.share(position) for position in known]


def _placed(axis: DrawnAxis, values: Sequence[float | str | None]) -> Iterator[tuple[float | str | None, float | None]]:
    return zip(values, placed_in_categories(values, axis), strict=True)


def _shown(value: float | str | None, missing: float) -> str:
    if value is None:
        return "infeasible" if missing == _INFEASIBLE else "not active"
    return value if isinstance(value, str) else f"{value:.6g}"


def _upright_axes(axes: Sequence[DrawnAxis], where: dict[str, Any]) -> Layer:
    rows = [{"x": place, "low": 0.0, "high": 1.0} for place in range(len(axes))]
    encoding = {"x": where["x"], "y": {**where["y"], "field": "low"}, "y2": {"field": "high"}}
    return layer({"type": "rule", "color": _INK, "strokeWidth": 1.2}, encoding, rows)


def _lines(
    rows: dict[bool, list[dict[str, Any]]], where: dict[str, Any], colour: Axis, *, interactive: bool
) -> list[Layer]:
    """The infeasible trials grey and dashed behind the others."""
    look: dict[str, Any] = {"detail": {"field": "line", "type": "nominal"}}
    if interactive:
        look["strokeOpacity"] = by_selection(0.65, selected=1, unselected=0.06)
        look["size"] = by_selection(1.3, selected=3)
    line = {"type": "line", "strokeWidth": 1.3, "strokeOpacity": 0.65, "interpolate": "linear"}
    grey = {**line, "color": plot_theme.DIMMED_COLOUR, "strokeDash": [3, 3], "strokeWidth": 0.8}
    behind = [layer(grey, {**where, **look}, rows[True])] if rows[True] else []
    return [*behind, layer(line, {**where, **look, "color": shades(colour)}, rows[False])]


def _tick_layers(axes: Sequence[DrawnAxis], where: dict[str, Any]) -> list[Layer]:
    """The texts of the ticks, outlined so that they can be read over the lines."""
    rows = [{"x": place, "y": share, "text": text} for place, axis in enumerate(axes) for share, text in _ticks(axis)]
    look = {"type": "text", "align": "left", "dx": 4, "fontSize": 10}
    inks = ({"color": "white", "stroke": "white", "strokeWidth": 3, "strokeJoin": "round"}, {"color": _INK})
    return [layer({**look, **ink}, {**where, "text": {"field": "text"}}, rows) for ink in inks]


def _ticks(axis: DrawnAxis) -> Iterator[tuple[float, str]]:
    """A few places along the axis, 0 to 1, with their text."""
    if axis.axis.scale == "category":
        for place, name in enumerate(axis.categories):
            yield axis.share(float(place)), name if len(name) <= _NAME_CHARACTERS else name[:_NAME_CHARACTERS] + "…"
        return
    found = list(axis.axis.ticks) or (
        _round_numbers(axis.interval) if axis.axis.scale == "linear" else axis.interval.log_ticks()
    )
    step = math.ceil(len(found) / _TICKS) or 1
    for value in found[::step]:
        yield axis.share(value), short_number(1 - value if axis.axis.scale == "one_minus_log" else value)


def _round_numbers(interval: Interval) -> list[float]:
    """Some four round numbers inside."""
    step = 10 ** math.floor(math.log10((interval.high - interval.low) / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if (interval.high - interval.low) / (factor * step) <= 6)
    first, last = math.ceil(interval.low / step), math.floor(interval.high / step)
    return [float(f"{place * step:.12g}") for place in range(first, last + 1)]


def pairs(figure: PairsFigure, *, interactive: bool) -> DrawnLayers:
    """A small plot for each pair of axes, below the diagonal; their names and ends are on it."""
    count = len(figure.axes)
    x = DrawnAxis(Axis(""), Interval(0.0, float(count)), "x")
    y = DrawnAxis(Axis(""), Interval(-float(count), 0.0), "y")
    where = {"x": x.encoding("x") | {"axis": None}, "y": y.encoding("y") | {"axis": None}}
    drawn = _drawn_axes(figure.axes, figure.trials)
    heights = [_heights(axis, [item.values[place] for item in figure.trials]) for place, axis in enumerate(drawn)]
    circles: list[dict[str, Any]] = []
    crosses: list[dict[str, Any]] = []
    for number, trial in enumerate(figure.trials):
        for left, down in combinations(range(count), 2):
            across, up = heights[left][number], heights[down][number]
            if across is None or up is None:
                continue
            row: dict[str, Any] = {"x": left + _inside(across), "y": -down - 1 + _inside(up), "value": trial.value}
            row |= {"label": trial.label, "trial": trial.trial, "more0": trial.value}
            names = (figure.axes[left].title, figure.axes[down].title)
            row["shown_x"] = f"{names[0]} {_shown(trial.values[left], 0)}"
            row["shown_y"] = f"{names[1]} {_shown(trial.values[down], 0)}"
            (crosses if trial.value is None else circles).append(row)
    circle = {"type": "point", "shape": "circle", "filled": True, "size": 26, "strokeWidth": 0}
    cross = {**circle, "shape": "cross", "angle": 45, "color": plot_theme.INFEASIBLE_COLOUR}
    layers = [
        _frames(count, where),
        layer(circle, {**where, "color": shades(figure.colour), **_small(0.95, interactive)}, circles),
        layer(cross, {**where, **_small(0.75, interactive)}, crosses),
        *_diagonal(drawn, where),
    ]
    infeasible = sum(item.value is None for item in figure.trials)
    notes = [*figure.notes, *([f"× infeasible ({infeasible} of {len(figure.trials)})"] if infeasible else [])]
    return layers, (x, y), notes


def _small(opacity: float, interactive: bool) -> dict[str, Any]:
    """The channels of `marked` for small symbols."""
    channels = marked(opacity, interactive)
    return channels | ({"size": by_selection(26, selected=90)} if interactive else {})


def _inside(share: float) -> float:
    return (1 - _PANEL) / 2 + _PANEL * share


def _frames(count: int, where: dict[str, Any]) -> Layer:
    edge = (1 - _PANEL) / 2
    rows = [
        {"x": left + edge / 2, "right": left + 1 - edge / 2, "y": -down - 1 + edge / 2, "top": -down - edge / 2}
        for left, down in combinations(range(count), 2)
    ]
    encoding = {**where, "x2": {"field": "right"}, "y2": {"field": "top"}}
    return layer({"type": "rect", "fill": "transparent", "stroke": _FRAME}, encoding, rows)


def _diagonal(axes: Sequence[DrawnAxis], where: dict[str, Any]) -> list[Layer]:
    """The name of each axis in its square, and its ends from left to right."""
    names, ends = [], []
    for place, axis in enumerate(axes):
        names.append({"x": place + 0.5, "y": -place - 0.42, "text": _cut(axis.axis.title)})
        ends.append({"x": place + 0.5, "y": -place - 0.62, "text": _ends(axis)})
    look = {"type": "text", "color": _INK}
    text = {**where, "text": {"field": "text"}}
    return [
        layer({**look, "fontSize": 12, "fontWeight": "bold"}, text, names),
        layer({**look, "fontSize": 10}, text, ends),
    ]


def _cut(name: str) -> str:
    return name if len(name) <= _NAME_CHARACTERS + 4 else name[: _NAME_CHARACTERS + 3] + "…"


def _ends(axis: DrawnAxis) -> str:
    if axis.axis.scale == "category":
        return _cut(", ".join(axis.categories))
    ends = axis.axis.searched
    if ends is None:
        low, high = axis.interval.low, axis.interval.high
        ends = (1 - high, 1 - low) if axis.axis.scale == "one_minus_log" else (low, high)
    return f"{short_number(ends[0], 3)} … {short_number(ends[1], 3)}"
