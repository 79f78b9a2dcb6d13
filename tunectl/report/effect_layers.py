"""The layers of the figures of sensitivity: bars with intervals, a matrix of pairs, trials coloured by a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunectl.analysis.figures.figures import Axis, BarsFigure, MatrixFigure, ShadedFigure
from tunectl.core.wording import short_number
from tunectl.report import plot_theme
from tunectl.report.axes import DrawnAxis, drawn_axis, wrapped
from tunectl.report.intervals import Interval
from tunectl.report.layers import DrawnLayers, marked, placed_in_categories
from tunectl.report.plot_theme import layer

_BAR_SHARE = 0.76
"""How much of the space of a category its bars take up."""

_WIDEST_BAR = 0.3
_TEXT_SIZE, _SMALL_TEXT_SIZE, _MANY = 11, 9, 8
"""The text in the cells is small where there are more than 8 in a row."""

_DARK = 0.6
"""Cells above this part of the darkest colour have white text."""

_BLUES = ("#F3F8FD", "#9CC4E4", "#0B559F")
_GRADIENT_PIXELS = {"expr": "clamp(width - 15, 90, 220)"}
"""The length of a scale of colours: never wider than a narrow plot."""


def bars(figure: BarsFigure, *, interactive: bool) -> DrawnLayers:
    """Bars from 0 with a line over their interval; pale ones behind the same line."""
    y = drawn_axis(figure.y, "y", [bar.y for bar in figure.bars])
    ends = [0.0, *(end for bar in figure.bars for end in (bar.value, bar.high))]
    x = DrawnAxis(figure.x, Interval(0.0, 1.04 * (max(ends) or 1.0)), "x")
    names = list(dict.fromkeys(bar.series for bar in figure.bars))
    width = min(_BAR_SHARE / max(1, len(names)), 2 * _WIDEST_BAR)
    rows = []
    for bar in figure.bars:
        at = y.position(bar.y)
        if at is not None:
            middle = at - width * (names.index(bar.series) - (len(names) - 1) / 2)
            row: dict[str, Any] = {"zero": 0.0, "value": bar.value, "low": bar.low, "high": bar.high}
            row |= {"middle": middle, "bottom": middle - 0.45 * width, "top": middle + 0.45 * width}
            row |= {"faint": bar.faint, "series": bar.series, "label": bar.label, "shown_y": bar.y}
            rows.append(row | {"shown_x": f"{short_number(bar.low, 2)} to {short_number(bar.high, 2)}"})
    series = [bar.series for bar in figure.bars]
    colour = plot_theme.colour(
        series, figure.legend, interactive=interactive, order=figure.colours, symbolType="square"
    )
    if interactive and "legend" in colour:
        # The names of the hyperparameters leave little room below the bars.
        colour["legend"] |= {"columns": 1, "labelExpr": plot_theme.A_VALUE_A_LINE}
    opacity = {"condition": {"test": "datum.faint", "value": 0.3}, "value": 0.85}
    box = {"x": x.encoding("zero"), "x2": {"field": "value"}, "y": y.encoding("bottom"), "y2": {"field": "top"}}
    line = {"x": x.encoding("low"), "x2": {"field": "high"}, "y": y.encoding("middle")}
    parts = [
        layer({"type": "rect"}, {**box, "color": colour, "fillOpacity": opacity}, rows),
        layer({"type": "rule", "strokeWidth": 1.5, "color": "#222222"}, line, rows),
    ]
    return parts, (x, y), list(figure.notes)


def matrix(figure: MatrixFigure) -> DrawnLayers:
    """Cells coloured by their values, with text; grey where nothing is known."""
    x = drawn_axis(figure.x, "x", [tile.x for tile in figure.tiles])
    y = drawn_axis(figure.y, "y", [tile.y for tile in figure.tiles])
    most = max([tile.value for tile in figure.tiles if tile.value is not None], default=0.0) or 1.0
    known: list[dict[str, Any]] = []
    unknown: list[dict[str, Any]] = []
    for tile in figure.tiles:
        across, up = x.position(tile.x), y.position(tile.y)
        if across is not None and up is not None:
            row: dict[str, Any] = {"x": across, "left": across - 0.48, "right": across + 0.48}
            row |= {"y": up, "low": up - 0.48, "top": up + 0.48, "shown_x": tile.x, "shown_y": tile.y}
            row |= {"value": tile.value, "text": tile.text, "label": tile.label, "framed": tile.framed}
            row["dark"] = tile.value is not None and tile.value > _DARK * most
            (unknown if tile.value is None else known).append(row)
    where = {"x": x.encoding("left"), "x2": {"field": "right"}, "y": y.encoding("low"), "y2": {"field": "top"}}
    shades = {
        "field": "value",
        "type": "quantitative",
        "scale": {"range": list(_BLUES), "domain": [0, most]},
        "legend": _gradient(figure.colour, numbers=".0%"),
    }
    frame = {"condition": {"test": "datum.framed", "value": 2.5}, "value": 0}
    size = _SMALL_TEXT_SIZE if len(x.categories) > _MANY else _TEXT_SIZE
    ink = {"condition": {"test": "datum.dark", "value": "white"}, "value": "#222222"}
    text = {"x": x.encoding("x"), "y": y.encoding("y"), "text": {"field": "text"}, "color": ink}
    parts = [
        layer({"type": "rect", "color": "#EFEFEF"}, where, unknown),
        layer({"type": "rect", "stroke": "#222222"}, {**where, "color": shades, "strokeWidth": frame}, known),
        layer({"type": "text", "fontSize": size}, text, [*known, *unknown]),
    ]
    return parts, (x, y), list(figure.notes)


def shaded(figure: ShadedFigure, *, interactive: bool) -> DrawnLayers:
    """Circles coloured by their values, the darkest first; crosses for infeasible trials."""
    x = drawn_axis(figure.x, "x", [point.x for point in figure.points])
    y = drawn_axis(figure.y, "y", [point.y for point in figure.points])
    across = placed_in_categories([point.x for point in figure.points], x)
    up = placed_in_categories([point.y for point in figure.points], y)
    circles: list[dict[str, Any]] = []
    crosses: list[dict[str, Any]] = []
    for point, at, height in zip(figure.points, across, up, strict=True):
        if at is not None and height is not None:
            row: dict[str, Any] = {"x": at, "y": height, "value": point.value, "label": point.label}
            row |= {"trial": point.trial, "shown_x": _shown(point.x), "shown_y": _shown(point.y), "more0": point.value}
            (crosses if point.value is None else circles).append(row)
    where = {"x": x.encoding("x"), "y": y.encoding("y")}
    circle = {"type": "point", "shape": "circle", "filled": True, "size": 80, "strokeWidth": 0}
    cross = {"type": "point", "shape": "cross", "angle": 45, "filled": True, "size": 90, "strokeWidth": 0}
    # Settings share their points: a cross would be hidden below the circle of another setting's trial.
    parts = [
        layer(circle, {**where, "color": shades(figure.colour), **marked(0.95, interactive)}, circles),
        layer({**cross, "color": plot_theme.INFEASIBLE_COLOUR}, {**where, **marked(0.9, interactive)}, crosses),
    ]
    notes = [*figure.notes, *([f"× infeasible ({len(crosses)} of {len(figure.points)})"] if crosses else [])]
    return parts, (x, y), notes


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else short_number(value)


def shades(colour: Axis) -> Mapping[str, Any]:
    """The colour channel of values: the first end of `searched` is the darkest, values beyond as at the end.

    On a dark page the first one is the brightest.
    """
    first, last = colour.searched or (0.0, 1.0)
    scale: dict[str, Any] = {"scheme": "viridis", "domain": sorted((first, last)), "clamp": True}
    scale |= {"reverse": first > last, "type": "log" if colour.scale == "log" else "linear"}
    return {"field": "value", "type": "quantitative", "scale": scale, "legend": _gradient(colour, numbers="~g")}


def _gradient(colour: Axis, *, numbers: str) -> dict[str, Any]:
    return {
        "title": wrapped(colour.title),
        "orient": "bottom",
        "direction": "horizontal",
        "gradientLength": _GRADIENT_PIXELS,
        "format": numbers,
        "tickCount": 4,
    }
