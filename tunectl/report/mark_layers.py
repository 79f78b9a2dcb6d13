"""Rules across a plot with their names, placed so that names of neighbours do not cover each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tunectl.analysis.figures.figures import MarkedValue
from tunectl.report.axes import DrawnAxis, wrapped
from tunectl.report.plot_theme import RULE, Layer, layer

_MARK_COLUMNS = 40
_NAME_SHARE = 0.4
_LINE_PIXELS = 15


def mark_layers(marks: Sequence[MarkedValue], x: DrawnAxis, y: DrawnAxis | None, top: int = 6) -> list[Layer]:
    """A dashed rule with its name for each mark; names start `top` pixels below the upper edge."""
    layers: list[Layer] = []
    upright = [(at, mark) for mark in marks if mark.axis == "x" and (at := x.position(mark.value)) is not None]
    row, previous = 0, -math.inf
    for at, mark in sorted(upright, key=lambda pair: x.share(pair[0])):
        share = x.share(at)
        row = row + 1 if share - previous < _NAME_SHARE else 0
        previous = share
        layers += _upright(at, mark.name, right=share < 0.7, pixels=top + _LINE_PIXELS * (row % 8))
    for mark in marks:
        if mark.axis == "y" and y is not None and (at := y.position(mark.value)) is not None:
            layers += _level(at, mark.name, above=y.share(at) < 0.9)
    # Rules first: the next mark's must not run through a name.
    return sorted(layers, key=lambda item: item["mark"]["type"] != "rule")


def _upright(at: float, name: str, *, right: bool, pixels: int) -> list[Layer]:
    where = {"x": {"field": "at", "type": "quantitative"}}
    look = {"align": "left" if right else "right", "dx": 5 if right else -5, "baseline": "top"}
    text = {**where, "y": {"value": pixels}, "text": {"value": wrapped(name, _MARK_COLUMNS)}}
    return [layer(RULE, where, [{"at": at}]), *_haloed(text, look, at)]


def _level(at: float, name: str, *, above: bool) -> list[Layer]:
    where = {"y": {"field": "at", "type": "quantitative"}}
    look = {"align": "right", "baseline": "bottom" if above else "top", "dx": -6, "dy": -4 if above else 5}
    text = {**where, "x": {"value": "width"}, "text": {"value": name}}
    return [layer(RULE, where, [{"at": at}]), *_haloed(text, look, at)]


def _haloed(text: dict[str, Any], look: dict[str, Any], at: float) -> list[Layer]:
    """The text with a white outline, readable over what is drawn behind it."""
    rim = {"color": "white", "stroke": "white", "strokeWidth": 4, "strokeJoin": "round"}
    return [
        layer({"type": "text", "fontSize": 11, **look, **ink}, text, [{"at": at}])
        for ink in (rim, {"color": "#222222"})
    ]
