"""The layers of curves: the best in front in colour, the others thin and grey behind them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tunectl.analysis.figures.figures import Axis, Curve, CurvesFigure
from tunectl.report import plot_theme
from tunectl.report.axes import DrawnAxis, drawn_axis, position
from tunectl.report.curve_symbols import dot_layers, event_layers
from tunectl.report.intervals import thinned
from tunectl.report.layers import DrawnLayers
from tunectl.report.mark_layers import mark_layers
from tunectl.report.plot_theme import Layer, by_selection, layer

MOST_POINTS = 2000
"""The largest number of points of a curve that are drawn."""

_MOST_IN_ALL = 40_000
_FEWEST_POINTS = 60
"""Many curves are drawn with fewer points each, but at least with this number."""

_MANY_DECADES = 1e8
_ABOVE_FIRST = 1e3
"""A log axis that would span more than _MANY_DECADES ends at _ABOVE_FIRST times the highest first value: a loss that
blew up would leave no room for the others.
"""

_DASHES = ([1, 0], [5, 3])

Line = list[tuple[float, float | None]]


def curves(figure: CurvesFigure, *, interactive: bool) -> DrawnLayers:
    """A line for each curve, interrupted where it has no value; dimmed ones are behind the others."""
    lines = [_drawable(curve, figure.x, figure.y) for curve in figure.curves]
    x = drawn_axis(figure.x, "x", _from_positions([at for line in lines for at, _ in line], figure.x), figure.marks)
    known = [up for line in lines for _, up in line if up is not None]
    y = drawn_axis(figure.y, "y", _from_positions(known, figure.y), figure.marks)
    highest = _highest_drawn(lines, figure.y)
    if highest < math.inf:
        y = y.up_to(highest)
        lines = [list(_up_to(highest, line)) for line in lines]
    most = max(_FEWEST_POINTS, min(MOST_POINTS, _MOST_IN_ALL // max(1, len(lines))))
    rows: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for number, (curve, line) in enumerate(zip(figure.curves, lines, strict=True)):
        rows[curve.dimmed] += _rows(number, curve, line, most, x, figure)
    if not interactive:
        rows = {dimmed: [_without_more(row) for row in of_kind] for dimmed, of_kind in rows.items()}
    front = [curve for curve in figure.curves if not curve.dimmed]
    layers = [*_layers(rows, front, (x, y), figure, interactive=interactive), *mark_layers(figure.marks, x, y)]
    dimmed = len(figure.curves) - len(front)
    notes = [*figure.notes] if rows[True] or rows[False] else ["no values to show"]
    if front and dimmed:
        notes.append(f"thin and grey: {dimmed} other{'s' if dimmed > 1 else ''}")
    if any(len(line) > most for line in lines):
        notes.append(f"thinned to the extremes of each stretch, about {most:,} points a curve")
    if highest < math.inf:
        notes.append("what is higher is cut off")
    return layers, (x, y), notes


def _layers(
    rows: Mapping[bool, list[dict[str, Any]]],
    front: Sequence[Curve],
    axes: tuple[DrawnAxis, DrawnAxis],
    figure: CurvesFigure,
    *,
    interactive: bool,
) -> list[Layer]:
    """Of the curves and their symbols, from the back to the front; `rows` by whether their curves are dimmed."""
    x, y = axes
    lines = _front(rows[False], front, x, y, figure, interactive)
    encoding = lines["encoding"]
    background: list[Layer] = []
    if rows[True]:
        behind = _behind(rows[True], x, y, interactive)
        background = [behind, *dot_layers(rows[True], True, behind["encoding"], interactive=interactive)]
    dots = dot_layers(rows[False], False, encoding, interactive=interactive)
    pieces = Counter(row["line"] for row in rows[False])
    # Points that have no neighbour to draw a line to.
    if alone := [row for row in rows[False] if pieces[row["line"]] == 1 and not row["hollow"]]:
        mark = {"type": "point", "shape": "circle", "size": 12, "strokeWidth": 1.6}
        dots.append(layer(mark, {name: encoding[name] for name in ("x", "y", "color")}, alone))
    dimmed, shown = event_layers(figure.events, x, y, encoding["color"], interactive=interactive)
    return [*background, *dimmed, lines, *dots, *shown]


def _from_positions(positions: Sequence[float], axis: Axis) -> list[float | str | None]:
    return [1 - at for at in positions] if axis.scale == "one_minus_log" else list(positions)


def _rows(number: int, curve: Curve, line: Line, most: int, x: DrawnAxis, figure: CurvesFigure) -> list[dict[str, Any]]:
    few = thinned([at for at, _ in line], [up for _, up in line], most, x.interval)
    same = {"series": curve.series, "label": curve.label, "trial": curve.trial, "dotted": curve.dotted}
    same["dash"] = _dash_names(figure)[curve.dashed]
    places = {at: place for place, at in enumerate(curve.x)} if curve.hollow or curve.more else {}
    return [
        {"x": at, "y": up, "line": f"{number}.{piece}", **same, **_of_point(curve, places.get(at), len(figure.more))}
        for piece, (at, up) in _pieces(few)
    ]


def _dash_names(figure: CurvesFigure) -> tuple[str, str]:
    return (figure.solid_name, figure.dashed_name) if figure.dashed_name else ("solid", "dashed")


def _of_point(curve: Curve, place: int | None, more: int) -> dict[str, Any]:
    """Whether a point is hollow, and its further values; None for those that are not known."""
    hollow = place is not None and len(curve.hollow) > 0 and curve.hollow[place]
    values = [curve.more[column][place] if place is not None and curve.more else None for column in range(more)]
    return {"hollow": hollow, **{f"more{column}": value for column, value in enumerate(values)}}


def _without_more(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not name.startswith("more")}


def _front(
    rows: list[dict[str, Any]],
    front: Sequence[Curve],
    x: DrawnAxis,
    y: DrawnAxis,
    figure: CurvesFigure,
    interactive: bool,
) -> Layer:
    series = [curve.series for curve in front]
    width = 1.0 if len(front) > 2 * len(set(series)) else 1.6
    encoding: dict[str, Any] = {"x": x.encoding("x"), "y": y.encoding("y")}
    encoding["color"] = plot_theme.colour(series, figure.legend, interactive=interactive, order=figure.colours)
    encoding["detail"] = {"field": "line", "type": "nominal"}
    if any(curve.dashed for curve in front):
        names = list(_dash_names(figure))
        look = plot_theme.bottom_legend(names, "", interactive=interactive) | {"symbolStrokeColor": "#444444"}
        legend = look if figure.dashed_name else None
        scale = {"domain": names, "range": list(_DASHES)}
        encoding["strokeDash"] = {"field": "dash", "type": "nominal", "scale": scale, "legend": legend}
    if interactive:
        encoding["strokeOpacity"] = by_selection(0.85, selected=1, unselected=0.22)
        # Vega-Lite's name for the width of a line.
        encoding["size"] = by_selection(width, selected=3)
    return layer({"type": "line", "strokeWidth": width, "strokeOpacity": 0.85}, encoding, rows)


def _behind(rows: list[dict[str, Any]], x: DrawnAxis, y: DrawnAxis, interactive: bool) -> Layer:
    encoding: dict[str, Any] = {"x": x.encoding("x"), "y": y.encoding("y")}
    encoding["detail"] = {"field": "line", "type": "nominal"}
    if interactive:
        encoding["strokeOpacity"] = by_selection(0.4, selected=1, unselected=0.22)
        encoding["size"] = by_selection(0.7, selected=2.5)
        encoding["color"] = by_selection(plot_theme.DIMMED_COLOUR, selected=plot_theme.SELECTED_COLOUR)
    mark = {"type": "line", "strokeWidth": 0.7, "strokeOpacity": 0.4, "color": plot_theme.DIMMED_COLOUR}
    return layer(mark, encoding, rows)


def _highest_drawn(lines: Sequence[Line], y: Axis) -> float:
    """Where the axis ends, infinite where nothing needs to be cut off."""
    values = [value for line in lines for _, value in line if value is not None]
    if y.scale != "log" or not values or max(values) / min(values) <= _MANY_DECADES:
        return math.inf
    first = [next((value for _, value in line if value is not None), 0.0) for line in lines]
    highest = _ABOVE_FIRST * max(first)
    return highest if min(values) < highest < max(values) else math.inf


def _up_to(top: float, line: Line) -> Iterator[tuple[float, float | None]]:
    """The line without what is above `top` on a log axis, as it would look clipped: it ends where it crosses.

    Clipping by the renderer costs a mask for every line, which makes the picture's drawing ten times as slow.
    """
    previous: tuple[float, float | None] = (0.0, None)
    for at, up in line:
        before, height = previous
        if height is not None and up is not None and (height > top) != (up > top):
            share = math.log(top / height) / math.log(up / height)
            yield before + share * (at - before), top
        yield at, None if up is None or up > top else up
        previous = at, up


def _drawable(curve: Curve, x: Axis, y: Axis) -> Line:
    """The points that have a place on the x axis, by x; y None where it has none on its axis."""
    points = [
        (there, position(value, y))
        for at, value in zip(curve.x, curve.y, strict=True)
        if (there := position(at, x)) is not None
    ]
    return sorted(points, key=lambda point: point[0])


def _pieces(points: Sequence[tuple[float, float | None]]) -> Iterable[tuple[int, tuple[float, float]]]:
    """The points with a value, each with the number of the unbroken piece that it belongs to."""
    piece = 0
    for at, value in points:
        if value is None:
            piece += 1
        else:
            yield piece, (at, value)
