"""The symbols on curves: points that are measured or uncertain, and what happens to a curve."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tunectl.analysis.figures.figures import Event, EventKind
from tunectl.report import plot_theme
from tunectl.report.axes import DrawnAxis
from tunectl.report.plot_theme import Layer, by_selection, layer

MOST_DOTS = 60
"""At most this many hollow points of a curve are drawn, evenly; a curve with more points has no filled ones."""

MOST_DIMMED = 12
"""With more dimmed curves than these, their hollow points are not drawn: they would hide the curves."""

_DOT = {"type": "point", "shape": "circle", "opacity": 1}
_SHAPES: Mapping[EventKind, Mapping[str, Any]] = {
    "rise": {"shape": "triangle-up", "size": 90},
    "fall": {"shape": "triangle-down", "size": 90},
    "catapult": {"shape": "diamond", "size": 150},
    "divergence": {"shape": "cross", "angle": 45, "size": 110},
}


def dot_layers(
    rows: Sequence[Mapping[str, Any]], behind: bool, encoding: Mapping[str, Any], *, interactive: bool
) -> list[Layer]:
    """The hollow points of curves; those in front that have some, or are dotted, have filled ones at the others."""
    curves: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        curves[row["line"].partition(".")[0]].append(row)
    hollow, filled = [], []
    if behind and len(curves) > MOST_DIMMED:
        return []
    for of_curve in curves.values():
        open_ones = [row for row in of_curve if row["hollow"]]
        count = min(len(open_ones), MOST_DOTS)
        hollow += [open_ones[place * len(open_ones) // count] for place in range(count)]
        if (open_ones or of_curve[0]["dotted"]) and not behind and len(of_curve) <= MOST_DOTS:
            filled += [row for row in of_curve if not row["hollow"]]
    where = {name: encoding[name] for name in ("x", "y")}
    colour = {"value": plot_theme.DIMMED_COLOUR} if behind else encoding["color"]
    layers = []
    for chosen, look in ((filled, {"filled": True, "size": 22}), (hollow, {"filled": False, "fill": "white"})):
        if chosen:
            mark = {**_DOT, "size": 24 if behind else 44, "strokeWidth": 0.8 if behind else 1.6, **look}
            layers.append(layer(mark, {**where, "color": colour, **_faded(interactive)}, chosen))
    return layers


def event_layers(
    events: Iterable[Event], x: DrawnAxis, y: DrawnAxis, colour: Mapping[str, Any], *, interactive: bool
) -> tuple[list[Layer], list[Layer]]:
    """A layer for each kind of event: of dimmed curves, in grey, and of those in front.

    An event outside of the axes is left out.
    """
    rows: dict[tuple[EventKind, bool], list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        at, up = x.position(event.x), y.position(event.y)
        if at is not None and up is not None and 0 <= y.share(up) <= 1:
            row = {"x": at, "y": up, "series": event.series, "label": event.label, "trial": event.trial}
            rows[event.kind, event.dimmed].append(row)
    layers: dict[bool, list[Layer]] = {True: [], False: []}
    for (kind, dimmed), of_kind in sorted(rows.items(), key=lambda item: [*_SHAPES].index(item[0][0])):
        mark = {"type": "point", "filled": True, "stroke": "white", "strokeWidth": 0.8, **_SHAPES[kind]}
        ink = colour
        if dimmed:
            mark |= {"size": mark["size"] / 2, "opacity": 0.5}
            ink = {"value": plot_theme.DIMMED_COLOUR}
        elif kind == "divergence":
            ink = {"value": plot_theme.INFEASIBLE_COLOUR}
        where = {"x": x.encoding("x"), "y": y.encoding("y"), "color": ink}
        layers[dimmed].append(layer(mark, {**where, **_faded(interactive)}, of_kind))
    return layers[True], layers[False]


def _faded(interactive: bool) -> dict[str, Any]:
    """The channels by which symbols fade while other trials are selected."""
    if not interactive:
        return {}
    faded = by_selection(1, selected=1, unselected=0.22)
    return {"fillOpacity": faded, "strokeOpacity": faded}
