"""Pictures as Vega-Lite, made with Altair: one definition for the page and for the SVG and PNG files."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

from tunectl.analysis.figures import Axis, Curve, CurvesFigure, Figure, HistogramFigure, Mark, Point, PointsFigure
from tunectl.core.files import write_if_changed
from tunectl.report.intervals import Interval, bins, thinned

if TYPE_CHECKING:
    import altair

WIDTH, HEIGHT = 640, 400
"""The size of the plotted area in pixels."""

PNG_SCALE = 2

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#8C6D1F")
"""The palette of Okabe and Ito (2008), which readers with any colour vision tell apart, without its yellow, which is
faint on white; its vermilion comes late, as crosses are red.
"""

INFEASIBLE_COLOUR = "#C1121F"
FONT = "DejaVu Sans, Verdana, Arial, sans-serif"

MOST_POINTS = 2000
"""So many points of a curve are drawn at most."""

MOST_BINS = 60

_TITLE_COLUMNS = 70
_MARK_COLUMNS = 40
_NAME_SHARE = 0.4
_RULE: dict[str, Any] = {"strokeDash": [6, 4], "color": "#444444", "strokeWidth": 1.3}

_LARGEST = 1e300

_MANY_DECADES = 1e8
_ABOVE_FIRST = 1e3
"""A log axis of curves that spans more than the one ends at the other times the highest first value: what a loss blew
up to would press all else together.
"""


def vega_lite(figure: Figure) -> dict[str, Any]:
    """The figure as a Vega-Lite specification, with its data inside; the same figure gives the same dict."""
    match figure:
        case PointsFigure():
            chart, subtitle = _points(figure)
        case CurvesFigure():
            chart, subtitle = _curves(figure)
        case HistogramFigure():
            chart, subtitle = _histogram(figure)
        case _:
            assert_never(figure)
    title: dict[str, Any] = {"text": _wrapped(figure.title), "anchor": "start", "frame": "group", "offset": 12}
    if subtitle:
        title["subtitle"] = _wrapped(subtitle)
    chart = chart.properties(width=WIDTH, height=HEIGHT, title=title, background="white", padding=10).configure(
        font=FONT
    )
    chart = chart.configure_axis(labelFontSize=12, titleFontSize=13, titleLimit=0, labelLimit=0, gridColor="#E5E5E5")
    chart = chart.configure_legend(labelFontSize=12, titleFontSize=12, labelLimit=0, titleLimit=0, symbolOpacity=1)
    chart = chart.configure_title(fontSize=15, subtitleFontSize=11, subtitleColor="#555555", limit=0)
    definition: dict[str, Any] = chart.configure_view(stroke="#BBBBBB").to_dict()
    return definition


def write_figure(folder: Path, figure: Figure) -> list[Path]:
    """Draw the figure into `folder` (made where missing) as `<name>.svg` and `<name>.png`, and give the two paths.

    A file is written only where its bytes change. Needs neither a browser nor a network.
    """
    import vl_convert

    definition = json.dumps(vega_lite(figure), sort_keys=True)
    folder.mkdir(parents=True, exist_ok=True)
    svg, png = folder / f"{figure.name}.svg", folder / f"{figure.name}.png"
    write_if_changed(svg, vl_convert.vegalite_to_svg(definition).encode())
    write_if_changed(png, vl_convert.vegalite_to_png(definition, scale=PNG_SCALE))
    return [svg, png]


def _wrapped(text: str, columns: int = _TITLE_COLUMNS) -> list[str]:
    return textwrap.wrap(text, columns) or [""]


def _finite(value: float | None, axis: Axis) -> bool:
    # Near the largest float, differences and pixels overflow.
    return value is not None and abs(value) < _LARGEST and (axis.scale == "linear" or value > 1 / _LARGEST)


def _interval(values: Iterable[float | None], axis: Axis, marks: Sequence[Mark] = (), place: str = "") -> Interval:
    """What an axis shows: the values, and the marks on it, with a little room."""
    shown = [float(value) for value in values if value is not None and _finite(value, axis)]
    shown += [mark.value for mark in marks if mark.axis == place and _finite(mark.value, axis)]
    return Interval.around(shown, log=axis.scale == "log")


def _axis_encoding(axis: Axis, interval: Interval) -> dict[str, Any]:
    """Scale and ticks; on a log axis ticks at the powers of ten, and between them where there are few of those."""
    scale: dict[str, Any] = {"domain": [interval.low, interval.high], "nice": False, "zero": False, "clamp": False}
    ticks: dict[str, Any] = {"title": _wrapped(axis.title)}
    if axis.scale == "log":
        scale["type"] = "log"
        ticks |= {"values": interval.log_ticks(), "labelOverlap": True}
        # As people write them: 1e-5 and 1e6, but 0.001 and 10,000.
        ticks["labelExpr"] = (
            "datum.value >= 1e-3 && datum.value < 1e5 ? format(datum.value, ',~g')"
            " : replace(format(datum.value, '~e'), '+', '')"
        )
    else:
        ticks |= {"tickCount": 8, "labelOverlap": True}
    return {"scale": scale, "axis": ticks}


def _rows(rows: list[dict[str, Any]]) -> altair.InlineData:
    import altair as alt

    return alt.InlineData(values=rows)


def _x(axis: Axis, interval: Interval, field: str = "x") -> altair.X:
    import altair as alt

    parts = _axis_encoding(axis, interval)
    return alt.X(field=field, type="quantitative", scale=alt.Scale(**parts["scale"]), axis=alt.Axis(**parts["axis"]))


def _y(axis: Axis, interval: Interval, field: str = "y") -> altair.Y:
    import altair as alt

    parts = _axis_encoding(axis, interval)
    return alt.Y(field=field, type="quantitative", scale=alt.Scale(**parts["scale"]), axis=alt.Axis(**parts["axis"]))


def _colour(series: Sequence[str], legend: str) -> Any:
    """Colours by series in their order, with a legend below the plot where there is more than one."""
    import altair as alt

    names = list(dict.fromkeys(series))
    if not names:
        return alt.value(COLOURS[0])
    if names == [""]:
        return alt.value(COLOURS[0])
    longest = max(len(name) for name in names)
    columns = max(1, min(len(names), int(WIDTH / (7.5 * longest + 40))))
    shown = alt.Legend(
        title=_wrapped(legend) if legend else None,
        orient="bottom",
        columns=columns,
        symbolLimit=0,
        direction="horizontal",
    )
    colours = [COLOURS[place % len(COLOURS)] for place in range(len(names))]
    return alt.Color(
        field="series", type="nominal", sort=names, scale=alt.Scale(domain=names, range=colours), legend=shown
    )


def _mark_layers(marks: Sequence[Mark], x: Axis, y: Axis | None, dx: Interval, dy: Interval, top: int = 6) -> list[Any]:
    """A dashed rule with its name for each mark; the names of neighbours stand one below the other, from `top` on."""
    layers: list[Any] = []
    upright = sorted((mark for mark in marks if mark.axis == "x" and _finite(mark.value, x)), key=lambda m: m.value)
    row, previous = 0, -math.inf
    for mark in upright:
        share = dx.share(mark.value)
        row = row + 1 if share - previous < _NAME_SHARE else 0
        previous = share
        layers += _upright_mark(mark, right=share < 0.7, pixels=top + 15 * (row % 8))
    for mark in marks:
        if mark.axis == "y" and y is not None and _finite(mark.value, y):
            layers += _level_mark(mark, above=dy.share(mark.value) < 0.9)
    # Rules first: the next mark's must not run through a name.
    return sorted(layers, key=lambda layer: layer.mark.type != "rule")


def _upright_mark(mark: Mark, *, right: bool, pixels: int) -> list[Any]:
    import altair as alt

    place = alt.Chart(_rows([{"at": mark.value}])).encode(x=alt.X("at:Q"))
    text = place.encode(y=alt.value(pixels), text=alt.value(_wrapped(mark.name, _MARK_COLUMNS)))
    look = {"align": "left" if right else "right", "dx": 5 if right else -5, "baseline": "top"}
    return [place.mark_rule(**_RULE), *_haloed(text, look)]


def _level_mark(mark: Mark, *, above: bool) -> list[Any]:
    import altair as alt

    place = alt.Chart(_rows([{"at": mark.value}])).encode(y=alt.Y("at:Q"))
    text = place.encode(x=alt.value(WIDTH - 6), text=alt.value(mark.name))
    look = {"align": "right", "baseline": "bottom" if above else "top", "dy": -4 if above else 5}
    return [place.mark_rule(**_RULE), *_haloed(text, look)]


def _haloed(text: Any, look: dict[str, Any]) -> list[Any]:
    """The text with a white rim, to be read over whatever stands behind it."""
    return [
        text.mark_text(fontSize=11, color="white", stroke="white", strokeWidth=4, strokeJoin="round", **look),
        text.mark_text(fontSize=11, color="#222222", **look),
    ]


def _points(figure: PointsFigure) -> tuple[Any, str]:
    import altair as alt

    shown = [point for point in figure.points if _finite(point.x, figure.x)]
    reached = [point for point in shown if _finite(point.y, figure.y)]
    missed = [point for point in shown if not _finite(point.y, figure.y)]
    dx = _interval([point.x for point in shown], figure.x, figure.marks, "x")
    dy = _interval([point.y for point in reached], figure.y, figure.marks, "y")
    if missed:
        dy = dy.with_room_above()
    x, y = _x(figure.x, dx), _y(figure.y, dy)
    tooltip = _tooltips(figure.x, figure.y)
    colour = _colour([point.series for point in shown], figure.legend)
    circles = alt.Chart(_rows([_point_row(point, point.y) for point in reached])).mark_point(
        shape="circle", filled=True, size=70, opacity=0.75, strokeWidth=0
    )
    layers = [circles.encode(x=x, y=y, color=colour, tooltip=tooltip)]
    top = dy.at_share(0.97)
    crosses = alt.Chart(_rows([_point_row(point, top) for point in missed])).mark_point(
        shape="cross", angle=45, filled=True, size=110, opacity=0.85, color=INFEASIBLE_COLOUR, strokeWidth=0
    )
    layers.append(crosses.encode(x=x, y=y, tooltip=tooltip))
    layers += _mark_layers(figure.marks, figure.x, figure.y, dx, dy, top=30 if missed else 6)
    notes = [f"× infeasible ({len(missed)} of {len(shown)})"] if missed else []
    if not shown:
        notes.append("no trials to show")
    elif len(shown) < len(figure.points):
        notes.append(f"{len(figure.points) - len(shown)} trials have no place on this axis")
    return alt.layer(*layers), "; ".join(notes)


def _point_row(point: Point, y: float | None) -> dict[str, Any]:
    told = "infeasible" if y is None or point.y is None else f"{point.y:.6g}"
    return {
        "x": point.x,
        "y": y,
        "series": point.series,
        "label": point.label,
        "told_x": f"{point.x:.6g}",
        "told_y": told,
    }


def _tooltips(x: Axis, y: Axis) -> list[Any]:
    import altair as alt

    fields = {"label": "trial", "series": "series", "told_x": x.title, "told_y": y.title}
    return [alt.Tooltip(field=name, type="nominal", title=title) for name, title in fields.items()]


def _curves(figure: CurvesFigure) -> tuple[Any, str]:
    import altair as alt

    lines = [_drawable(curve, figure.x, figure.y) for curve in figure.curves]
    known = [point for line in lines for point in line if point[1] is not None]
    dx = _interval([x for x, _ in known], figure.x, figure.marks, "x")
    dy = _interval([y for _, y in known], figure.y, figure.marks, "y")
    highest = _highest_drawn(lines, figure.y)
    dy = dy.up_to(highest)
    series = [curve.series for curve in figure.curves]
    rows: list[dict[str, Any]] = []
    for place, (curve, line) in enumerate(zip(figure.curves, lines, strict=True)):
        few = thinned([x for x, _ in line], [y for _, y in line], MOST_POINTS, dx)
        same = {"series": curve.series, "label": curve.label}
        rows += [{"x": x, "y": y, "line": f"{place}.{piece}", **same} for piece, (x, y) in _pieces(few)]
    repeated = len(figure.curves) > len(set(series))
    chart = alt.Chart(_rows(rows)).mark_line(strokeWidth=1.0 if repeated else 1.6, opacity=0.8, clip=True)
    told = [alt.Tooltip(field="label", type="nominal", title="trial"), alt.Tooltip(field="series", type="nominal")]
    x, y = _x(figure.x, dx), _y(figure.y, dy)
    drawn = chart.encode(x=x, y=y, color=_colour(series, figure.legend), detail="line:N", tooltip=told)
    layers = [drawn, *_mark_layers(figure.marks, figure.x, figure.y, dx, dy)]
    notes = [] if rows else ["no values to show"]
    if any(len(line) > MOST_POINTS for line in lines):
        notes.append(f"thinned to the extremes of each stretch, about {MOST_POINTS:,} points a curve")
    if highest < math.inf:
        notes.append("what is higher is cut off")
    return alt.layer(*layers), "; ".join(notes)


def _highest_drawn(lines: Sequence[Sequence[tuple[float, float | None]]], y: Axis) -> float:
    """Where the axis ends, infinite where nothing needs to be cut off."""
    values = [value for line in lines for _, value in line if value is not None]
    if y.scale != "log" or not values or max(values) / min(values) <= _MANY_DECADES:
        return math.inf
    first = [next((value for _, value in line if value is not None), 0.0) for line in lines]
    highest = _ABOVE_FIRST * max(first)
    return highest if highest < max(values) else math.inf


def _drawable(curve: Curve, x: Axis, y: Axis) -> list[tuple[float, float | None]]:
    """The points that have a place on the x axis, by x; y None where it has none on its axis."""
    points = [
        (float(at), float(value) if _finite(value, y) else None)
        for at, value in zip(curve.x, curve.y, strict=True)
        if _finite(at, x)
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


def _histogram(figure: HistogramFigure) -> tuple[Any, str]:
    import altair as alt

    values = [float(value) for value in figure.values if _finite(value, figure.x)]
    dx = _interval(values, figure.x, figure.marks, "x")
    count = min(MOST_BINS, max(10, math.ceil(2 * len(values) ** (1 / 3))))
    filled = [part for part in bins(values, dx, count) if part[2]]
    dy = Interval(0.0, 1.08 * max([part[2] for part in filled], default=1))
    rows = [
        {"zero": 0, "from": low, "to": high, "count": number, "told": f"{low:.4g} to {high:.4g}"}
        for low, high, number in filled
    ]
    told = [
        alt.Tooltip(field="told", type="nominal", title=figure.x.title),
        alt.Tooltip(field="count", type="quantitative"),
    ]
    bars = alt.Chart(_rows(rows)).mark_rect(color=COLOURS[0], opacity=0.8, stroke="white", strokeWidth=0.7)
    up = Axis("number")
    layers: list[Any] = [
        bars.encode(x=_x(figure.x, dx, "from"), x2="to", y=_y(up, dy, "zero"), y2="count", tooltip=told)
    ]
    layers += _mark_layers(figure.marks, figure.x, None, dx, dy)
    left = len(figure.values) - len(values)
    notes = [
        f"{left:,} values that are not finite{', or not positive,' if figure.x.scale == 'log' else ''} are left out"
    ]
    return alt.layer(*layers), notes[0] if left else "" if values else "no values to show"
