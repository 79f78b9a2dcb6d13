"""Pictures as Vega-Lite: one definition for the page and for the SVG and PNG files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, assert_never

from tunectl.analysis.figures import BoxesFigure, CurvesFigure, Figure, HistogramFigure, PointsFigure
from tunectl.core import real_folders
from tunectl.report import curve_layers, layers
from tunectl.report.axes import wrapped
from tunectl.report.curve_layers import MOST_POINTS
from tunectl.report.drawing import PNG_SCALE, Drawing, SecondRenderer, draw_all
from tunectl.report.looks import COLOURS, FONT, HEIGHT, INFEASIBLE_COLOUR, PAGE_FONT, PAGE_HEIGHT, WIDTH

__all__ = [
    "COLOURS",
    "HEIGHT",
    "INFEASIBLE_COLOUR",
    "MOST_POINTS",
    "PNG_SCALE",
    "WIDTH",
    "vega_lite",
    "write_figure",
    "write_figures",
]

KINDS = ("svg", "png")

_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"


def vega_lite(figure: Figure, *, interactive: bool = False) -> dict[str, Any]:
    """The figure as a Vega-Lite specification, with its data inside; the same figure gives the same dict.

    An interactive one is as wide as its place on the page and marks the trials that its parameter `selected` holds
    (null, or an object with true for each id); the page writes its title.
    """
    match figure:
        case PointsFigure():
            parts, axes, notes = layers.points(figure, interactive=interactive)
        case CurvesFigure():
            parts, axes, notes = curve_layers.curves(figure, interactive=interactive)
        case HistogramFigure():
            parts, axes, notes = layers.histogram(figure)
        case BoxesFigure():
            parts, axes, notes = layers.boxes(figure, interactive=interactive)
        case _:
            assert_never(figure)
    title: dict[str, Any] = {"text": wrapped(figure.title), "anchor": "start", "frame": "group", "offset": 12}
    if notes:
        title["subtitle"] = wrapped("; ".join(notes))
    parameters = [parameter for axis in axes if (parameter := axis.parameter)]
    definition: dict[str, Any] = {"$schema": _SCHEMA, "title": title, "layer": parts, "config": _config(interactive)}
    if interactive:
        definition |= {
            "width": "container",
            "height": PAGE_HEIGHT,
            "autosize": {"type": "fit-x", "contains": "padding"},
        }
        parameters.append({"name": "selected", "value": None})
    else:
        definition |= {"width": WIDTH, "height": HEIGHT, "background": "white", "padding": 10}
    return definition | ({"params": parameters} if parameters else {})


def _config(interactive: bool) -> dict[str, Any]:
    # On the page a plot is half as large, and the text around it is the page's.
    small = 1 if interactive else 0
    return {
        "font": PAGE_FONT if interactive else FONT,
        # A description of every point would be most of the file, and would take titles into expressions.
        "aria": False,
        "axis": {
            "labelFontSize": 12 - small,
            "titleFontSize": 13 - small,
            "titleLimit": 0,
            "labelLimit": 0,
            "gridColor": "#E5E5E5",
        },
        "legend": {"labelFontSize": 12, "titleFontSize": 12, "labelLimit": 0, "titleLimit": 0, "symbolOpacity": 1},
        "title": {"fontSize": 15, "subtitleFontSize": 11, "subtitleColor": "#555555", "limit": 0},
        "view": {"stroke": "#BBBBBB"},
    }


def write_figure(folder: Path, figure: Figure) -> list[Path]:
    """Draw the figure into `folder` (made where missing) as `<name>.svg` and `<name>.png`, and give the two paths.

    A file is written only where its bytes change. Needs neither a browser nor a network.
    """
    return write_figures(folder, [figure])


def write_figures(folder: Path, figures: Iterable[Figure], second: SecondRenderer | None = None) -> list[Path]:
    """Draw the figures as `write_figure` does, with the `second` process where there is one; the paths of all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    real_folders.made(folder, folder.parent)
    drawings = [
        Drawing(json.dumps(vega_lite(figure), sort_keys=True), *(f"{folder / figure.name}.{kind}" for kind in KINDS))
        for figure in figures
    ]
    draw_all(drawings, second)
    return [Path(path) for drawing in drawings for path in (drawing.svg, drawing.png)]
