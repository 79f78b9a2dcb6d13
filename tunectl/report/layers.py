"""The layers of each kind of figure, and notes on the data that they do not show."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from tunectl.analysis.figures.figures import Axis, BoxesFigure, HistogramFigure
from tunectl.core.wording import short_number
from tunectl.report import plot_theme
from tunectl.report.axes import DrawnAxis, drawn_axis
from tunectl.report.intervals import Interval, bins
from tunectl.report.mark_layers import mark_layers
from tunectl.report.plot_theme import Layer, by_selection, layer

MOST_BINS = 60

DrawnLayers = tuple[list[Layer], Sequence[DrawnAxis], list[str]]
"""Layers from the back to the front, their axes, and notes on what is not shown, or not all of it."""

_JITTER = 0.5
_GOLDEN = 0.6180339887498949
_BOX_SHARE = 0.8
"""How much of the space between two positions boxes take up."""

_WIDEST_BOX = 0.07
"""The widest box, as a part of the axis, so that a few boxes do not fill it."""

_SLIMMEST = 1e-4


def placed_in_categories(given: Sequence[float | str | None], x: DrawnAxis) -> list[float | None]:
    """The positions; on a category axis those of one category are spread evenly, always in the same way."""
    positions = [x.position(value) for value in given]
    if x.axis.scale != "category":
        return positions
    counts = Counter(position for position in positions if position is not None)
    seen: Counter[float] = Counter()
    for number, position in enumerate(positions):
        if position is not None and counts[position] > 1:
            positions[number] = position + _JITTER * ((seen[position] * _GOLDEN + 0.5) % 1 - 0.5)
            seen[position] += 1
    return positions


def marked(opacity: float, interactive: bool) -> dict[str, Any]:
    """The channels by which a symbol shows that it is selected, or that others are.

    Opacity is of the fill: `opacity` would make the renderer compose a picture of its own for every symbol.
    """
    if not interactive:
        return {"fillOpacity": {"value": opacity}}
    return {
        "fillOpacity": by_selection(opacity, selected=1, unselected=0.22),
        "size": by_selection(70, selected=130),
        "stroke": {"condition": {"test": plot_theme.SELECTED, "value": plot_theme.SELECTED_COLOUR}},
        "strokeWidth": by_selection(0, selected=2),
    }


def shown_place(place: float | str) -> str:
    """A place on an axis as text for the tooltip."""
    return place if isinstance(place, str) else f"{place:.6g}"


def histogram(figure: HistogramFigure) -> DrawnLayers:
    """The number of values in each of some bins of equal width on the axis."""
    x = drawn_axis(figure.x, "x", figure.values, figure.marks)
    values = [at for value in figure.values if (at := x.position(value)) is not None]
    count = min(MOST_BINS, max(10, math.ceil(2 * len(values) ** (1 / 3))))
    filled = [part for part in bins(values, x.interval, count) if part[2]]
    up = Interval(0.0, 1.08 * max([part[2] for part in filled], default=1))
    y = DrawnAxis(Axis("number"), up, "y")
    rows = [
        {"zero": 0, "from": low, "to": high, "count": number, "shown_x": _span(low, high, x), "shown_y": f"{number:,}"}
        for low, high, number in filled
    ]
    bars = {"type": "rect", "color": plot_theme.COLOURS[0], "fillOpacity": 0.8, "stroke": "white", "strokeWidth": 0.7}
    where = {"x": x.encoding("from"), "x2": {"field": "to"}, "y": y.encoding("zero"), "y2": {"field": "count"}}
    left = len(figure.values) - len(values)
    positive = {"log": ", or not positive,", "one_minus_log": ", or not below 1,"}.get(figure.x.scale, "")
    notes = [f"{left:,} values that are not finite{positive} are left out"] if left else []
    if not values and not left:
        notes = ["no values to show"]
    return [layer(bars, where, rows), *mark_layers(figure.marks, x, None)], (x, y), notes


def _span(low: float, high: float, x: DrawnAxis) -> str:
    ends = sorted((1 - low, 1 - high)) if x.axis.scale == "one_minus_log" else (low, high)
    return f"{short_number(ends[0])} to {short_number(ends[1])}"


def boxes(figure: BoxesFigure, *, interactive: bool) -> DrawnLayers:
    """Box plots: whiskers to the ends, a box between the quartiles, a stroke at the median."""
    x = drawn_axis(figure.x, "x", [box.x for box in figure.boxes], figure.marks)
    fives = [(box.low, box.lower_quartile, box.median, box.upper_quartile, box.high) for box in figure.boxes]
    y = drawn_axis(figure.y, "y", [value for five in fives for value in five], figure.marks)
    names = list(dict.fromkeys(box.series for box in figure.boxes))
    shares = [None if (at := x.position(box.x)) is None else x.share(at) for box in figure.boxes]
    width = _box_width([share for share in shares if share is not None], len(names))
    rows = []
    for box, five, share in zip(figure.boxes, fives, shares, strict=True):
        if share is not None and not any(math.isnan(value) for value in five):
            middle = share + width * (names.index(box.series) - (len(names) - 1) / 2)
            sides = [x.at_share(min(1.0, max(0.0, middle + width * side))) for side in (-0.45, 0.0, 0.45)]
            rows.append(_box_row(box.series, box.x, five, sides, y))
    series = [box.series for box in figure.boxes]
    colour = plot_theme.colour(
        series, figure.legend, interactive=interactive, order=figure.colours, symbolType="square"
    )
    layers = [*_box_layers(rows, x, y, colour), *mark_layers(figure.marks, x, y)]
    return layers, (x, y), _notes_on_boxes(len(figure.boxes), rows)


def _box_width(shares: Sequence[float], series: int) -> float:
    """Of one box, as a part of the axis: those of one position share the space to the next."""
    positions = sorted(set(shares))
    gap = min((right - left for left, right in pairwise(positions)), default=1.0)
    # The outermost boxes must stay on the axis, too.
    edge = 2 * min([min(share, 1 - share) for share in positions], default=0.5)
    return max(_SLIMMEST, min(_BOX_SHARE * gap / max(1, series), edge / max(1, series), _WIDEST_BOX))


def _box_row(
    series: str, x: float | str, five: Sequence[float], sides: Sequence[float], y: DrawnAxis
) -> dict[str, Any]:
    low, lower, median, upper, high = (at_edge(value, y) for value in five)
    row: dict[str, Any] = {"left": sides[0], "middle": sides[1], "right": sides[2], "series": series}
    row |= {"low": low, "lower": lower, "median": median, "upper": upper, "high": high}
    row["shown_x"] = x if isinstance(x, str) else f"{x:.6g}"
    quartiles = f"{short_number(five[2])}; half between {short_number(five[1])} and {short_number(five[3])}"
    row["shown_y"] = f"median {quartiles}; all between {short_number(five[0])} and {short_number(five[4])}"
    row["clipped"] = any(y.position(value) is None for value in five)
    return row


def at_edge(value: float, y: DrawnAxis) -> float:
    """Its position; the edge of the axis where it has none."""
    at = y.position(value)
    if at is not None:
        return at
    return y.at_share(1.0 if value > 0 else 0.0)


def _box_layers(
    rows: Sequence[Mapping[str, Any]], x: DrawnAxis, y: DrawnAxis, colour: Mapping[str, Any]
) -> list[Layer]:
    whisker = {"type": "rule", "strokeWidth": 1.2}
    stroke = {"type": "rule", "strokeWidth": 2, "color": "white"}
    box = {"type": "rect"}
    middle = x.encoding("middle")
    return [
        layer(whisker, {"x": middle, "y": y.encoding("low"), "y2": {"field": "high"}, "color": colour}, rows),
        layer(
            box,
            {
                **{"x": x.encoding("left"), "x2": {"field": "right"}},
                **{"y": y.encoding("lower"), "y2": {"field": "upper"}, "color": colour},
            },
            rows,
        ),
        layer(stroke, {"x": x.encoding("left"), "x2": {"field": "right"}, "y": y.encoding("median")}, rows),
    ]


def _notes_on_boxes(given: int, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = [] if rows else ["no values to show"]
    if rows and len(rows) < given:
        notes.append(f"without a position on these axes: {given - len(rows)}")
    if any(row["clipped"] for row in rows):
        notes.append("a box or whisker that ends at the edge holds values beyond the axis")
    return notes
