"""The layers of figures of points: trials on an axis, with bands, lines and bars of repeats behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunectl.analysis.figures.figures import Axis, Band, Curve, Point, PointsFigure
from tunectl.core.wording import short_number
from tunectl.report import plot_theme
from tunectl.report.axes import DrawnAxis, drawn_axis
from tunectl.report.layers import DrawnLayers, at_edge, marked, placed_in_categories, shown_place
from tunectl.report.mark_layers import mark_layers
from tunectl.report.plot_theme import Layer, layer

_ROOM_ABOVE = 0.12
_WHISKER_SHIFT = 0.02
"""How far beside its point a whisker is, as a part of the axis."""

_CIRCLE = {"type": "point", "shape": "circle", "filled": True, "size": 70, "strokeWidth": 0}
_CROSS = {"type": "point", "shape": "cross", "angle": 45, "filled": True, "size": 110, "strokeWidth": 0}


def points(figure: PointsFigure, *, interactive: bool) -> DrawnLayers:
    """Trials as circles; crossed ones as crosses, and those without a value in a strip above the others: as crosses,
    or as triangles where the value is above a known one. Values beyond a cut-off axis are triangles at its end.
    """
    x = drawn_axis(figure.x, "x", [point.x for point in figure.points], figure.marks)
    places = placed_in_categories([point.x for point in figure.points], x)
    shown = [(point, at) for point, at in zip(figure.points, places, strict=True) if at is not None]
    y = drawn_axis(figure.y, "y", [*(point.y for point, _ in shown), *_other_values(figure)], figure.marks)
    missed = [(point, at) for point, at in shown if y.position(point.y) is None]
    beyond = _Beyond.of(figure.y, shown, y)
    if missed or (beyond.points and beyond.above):
        y = y.up_to(y.at_share(1 + _ROOM_ABOVE))
    outside = {id(point) for point, _ in beyond.points}
    placed = [
        (point, at, up) for point, at in shown if id(point) not in outside and (up := y.position(point.y)) is not None
    ]
    series = [point.series for point, _ in shown]
    look = _Look(x, y, _point_colours(figure, series, interactive=interactive), interactive)
    layers = [*_band_layers(figure.bands, y), *_line_layers(figure.lines, x, y)]
    layers += [*_placed_layers(placed, look), *_whisker_layers(figure, look), *beyond.layers(look)]
    higher = [(point, at) for point, at in missed if point.above is not None]
    infeasible = [(point, at) for point, at in missed if point.above is None]
    layers += _layers_above(higher, infeasible, look, own_colours=bool(figure.colours))
    layers += mark_layers(figure.marks, x, y, top=30 if missed else 6)
    notes = [*figure.notes, *_notes_on_points(len(figure.points), len(shown), len(infeasible), figure.missed)]
    notes += [f"▲ {figure.beyond} ({len(higher)} of {len(shown)})"] if higher else []
    notes += beyond.notes(len(shown))
    if at_place := sum(point.crossed for point, _, _ in placed):
        notes.append(f"× {figure.cross} ({at_place} of {len(shown)})")
    notes += dict.fromkeys(f"{'dashed' if line.dashed else 'line'}: {line.label}" for line in figure.lines)
    notes += [figure.repeats] if figure.whiskers and figure.repeats else []
    return layers, (x, y), [*notes, *dict.fromkeys(band.name for band in figure.bands)]


@dataclass(frozen=True, slots=True)
class _Look:
    """The axes of the plot, the colour channel of its series, and whether it is for the page."""

    x: DrawnAxis
    y: DrawnAxis
    colour: Mapping[str, Any]
    interactive: bool

    def symbols(
        self,
        mark: Mapping[str, Any],
        rows: Sequence[Mapping[str, Any]],
        *,
        opacity: float = 0.75,
        coloured: bool = True,
    ) -> Layer:
        """A layer of symbols for trials."""
        where = {"x": self.x.encoding("x"), "y": self.y.encoding("y")}
        colour = {"color": self.colour} if coloured else {}
        return layer(mark, {**where, **colour, **marked(opacity, self.interactive)}, rows)


def _placed_layers(placed: Sequence[tuple[Point, float, float]], look: _Look) -> list[Layer]:
    """The points that have a place on both axes."""
    found = []
    for mark, crossed in ((_CIRCLE, False), (_CROSS, True)):
        rows = [_point_row(point, at, up) for point, at, up in placed if point.crossed is crossed]
        found += [look.symbols(mark, rows)] if rows or not crossed else []
    return found


def _layers_above(
    higher: Sequence[tuple[Point, float]], infeasible: Sequence[tuple[Point, float]], look: _Look, *, own_colours: bool
) -> list[Layer]:
    """The strip above the others: triangles, and crosses, in the colours of their series or red."""
    top = look.y.at_share(0.97)
    rows = [_point_row(point, at, top) for point, at in infeasible]
    mark = {**_CROSS, "color": plot_theme.INFEASIBLE_COLOUR}
    found = [look.symbols(_triangle("up"), [_point_row(point, at, top) for point, at in higher])] if higher else []
    return [*found, look.symbols(mark, rows, opacity=0.85, coloured=own_colours)]


def _other_values(figure: PointsFigure) -> list[float]:
    """What the y axis has room for beside the points."""
    return [
        *(edge for band in figure.bands for edge in (band.low, band.high)),
        *(height for line in figure.lines for height in line.y),
        *(end for bar in figure.whiskers for end in (bar.low, bar.high)),
    ]


def _point_colours(figure: PointsFigure, series: Sequence[str], *, interactive: bool) -> dict[str, Any]:
    return plot_theme.colour(
        series, figure.legend, interactive=interactive, order=figure.colours, symbolStrokeColor="transparent"
    )


def _triangle(direction: str) -> dict[str, Any]:
    return {"type": "point", "shape": f"triangle-{direction}", "filled": True, "size": 80, "strokeWidth": 0}


@dataclass(frozen=True, slots=True)
class _Beyond:
    """The points beyond the end of a cut-off axis, with their places on the other one; `above` its high end."""

    points: Sequence[tuple[Point, float]]
    above: bool = True

    @staticmethod
    def of(axis: Axis, placed: Sequence[tuple[Point, float]], y: DrawnAxis) -> _Beyond:
        if axis.shown is None:
            return _Beyond(())
        low, high = y.interval.low, y.interval.high
        found = [
            (point, at)
            for point, at in placed
            if point.y is not None and y.position(point.y) is not None and not low <= point.y <= high
        ]
        return _Beyond(found, bool(found) and (found[0][0].y or 0.0) > high)

    def layers(self, look: _Look) -> list[Layer]:
        if not self.points:
            return []
        edge = look.y.at_share(1 / (1 + _ROOM_ABOVE) + 0.02 if self.above else 0.03)
        rows = [_point_row(point, at, edge) for point, at in self.points]
        return [look.symbols(_triangle("up" if self.above else "down"), rows)]

    def notes(self, shown: int) -> list[str]:
        if not self.points:
            return []
        values = [point.y for point, _ in self.points if point.y is not None]
        furthest = max(values) if self.above else min(values)
        sign, side, to = ("▲", "above", "up") if self.above else ("▼", "below", "down")
        return [f"{sign} {side} the axis ({len(values)} of {shown}, {to} to {short_number(furthest)})"]


def _line_layers(lines: Sequence[Curve], x: DrawnAxis, y: DrawnAxis) -> list[Layer]:
    """Lines behind the points, in grey; a dashed one where it says so."""
    layers = []
    for line in lines:
        places = [(x.position(at), y.position(up)) for at, up in zip(line.x, line.y, strict=True)]
        rows = [{"x": at, "y": up} for at, up in places if at is not None and up is not None]
        look = {"type": "line", "color": plot_theme.DIMMED_COLOUR, "strokeWidth": 1.6}
        dashes = {"strokeDash": [5, 3]} if line.dashed else {}
        layers.append(layer(look | dashes, {"x": x.encoding("x"), "y": y.encoding("y")}, rows))
    return layers


def _band_layers(bands: Sequence[Band], y: DrawnAxis) -> list[Layer]:
    rows = [{"low": at_edge(band.low, y), "high": at_edge(band.high, y)} for band in bands]
    look = {"type": "rect", "color": plot_theme.DIMMED_COLOUR, "fillOpacity": 0.25}
    return [layer(look, {"y": y.encoding("low"), "y2": {"field": "high"}}, rows)] if rows else []


def _whisker_layers(figure: PointsFigure, look: _Look) -> list[Layer]:
    """A bar for each whisker, beside its point, with a stroke at its middle."""
    x, y, rows = look.x, look.y, []
    for bar in figure.whiskers:
        at, middle, high = x.position(bar.x), y.position(bar.middle), y.position(bar.high)
        if at is not None and middle is not None and high is not None:
            beside = x.at_share(min(1.0, x.share(at) + _WHISKER_SHIFT))
            row: dict[str, Any] = {"x": beside, "low": at_edge(bar.low, y), "y": middle, "high": high}
            row |= {"series": bar.series, "label": bar.label, "shown_x": shown_place(bar.x)}
            rows.append(row | {"shown_y": short_number(bar.middle)})
    if not rows:
        return []
    across = {"x": x.encoding("x"), "color": look.colour}
    bar_mark = {"type": "rule", "strokeWidth": 7, "opacity": 0.45}
    stroke = {"type": "point", "shape": "stroke", "size": 160, "strokeWidth": 2.5}
    return [
        layer(bar_mark, {**across, "y": y.encoding("low"), "y2": {"field": "high"}}, rows),
        layer(stroke, {**across, "y": y.encoding("y")}, rows),
    ]


def _notes_on_points(given: int, shown: int, missed: int, name: str) -> list[str]:
    notes = [f"× {name} ({missed} of {shown})"] if missed else []
    if not shown:
        notes.append("no trials to show")
    elif shown < given:
        notes.append(f"{given - shown} trials have no position on this axis")
    return notes


def _point_row(point: Point, x: float, y: float) -> dict[str, Any]:
    reached = point.y is not None and math.isfinite(point.y)
    unknown = "infeasible" if point.above is None else f"> {point.above:.6g}"
    return {
        "x": x,
        "y": y,
        "series": point.series,
        "label": point.label,
        "trial": point.trial,
        "shown_x": shown_place(point.x),
        "shown_y": f"{point.y:.6g}" if reached else unknown,
    }
