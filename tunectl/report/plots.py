"""Plots as Vega-Lite: one definition for the page and for the SVG and PNG files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, assert_never

from tunectl.analysis.figures.figures import (
    BarsFigure,
    BoxesFigure,
    CurvesFigure,
    Figure,
    HistogramFigure,
    MatrixFigure,
    PairsFigure,
    ParallelFigure,
    PointsFigure,
    ShadedFigure,
)
from tunectl.core import real_folders
from tunectl.core.wording import first_listed
from tunectl.report import curve_layers, effect_layers, layers, point_layers, trial_axes_layers
from tunectl.report.axes import wrapped
from tunectl.report.curve_layers import MOST_POINTS
from tunectl.report.plot_theme import COLOURS, FONT, HEIGHT, INFEASIBLE_COLOUR, PAGE_FONT, PAGE_HEIGHT, WIDTH
from tunectl.report.renderer import PNG_SCALE, PlotFiles, Renderer, Undrawn, draw_all

__all__ = [
    "COLOURS",
    "HEIGHT",
    "INFEASIBLE_COLOUR",
    "MOST_POINTS",
    "PNG_SCALE",
    "WIDTH",
    "Drawn",
    "vega_lite",
    "write_figure",
    "write_figures",
]

KINDS = ("svg", "png")

_MOST_NAMED = 3
_PAIR_PIXELS = 140

_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"


def vega_lite(figure: Figure, *, interactive: bool = False) -> dict[str, Any]:
    """The figure as a Vega-Lite specification, with its data inside; the same figure gives the same dict.

    An interactive one is as wide as its place on the page and marks the trials that its parameter `selected` holds
    (null, or an object with true for each id); the page writes its title.
    """
    match figure:
        case PointsFigure():
            parts, axes, notes = point_layers.points(figure, interactive=interactive)
        case CurvesFigure():
            parts, axes, notes = curve_layers.curves(figure, interactive=interactive)
        case HistogramFigure():
            parts, axes, notes = layers.histogram(figure)
        case BoxesFigure():
            parts, axes, notes = layers.boxes(figure, interactive=interactive)
        case BarsFigure():
            parts, axes, notes = effect_layers.bars(figure, interactive=interactive)
        case MatrixFigure():
            parts, axes, notes = effect_layers.matrix(figure)
        case ShadedFigure():
            parts, axes, notes = effect_layers.shaded(figure, interactive=interactive)
        case ParallelFigure():
            parts, axes, notes = trial_axes_layers.parallel(figure, interactive=interactive)
        case PairsFigure():
            parts, axes, notes = trial_axes_layers.pairs(figure, interactive=interactive)
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
            "height": _height(figure, PAGE_HEIGHT),
            "autosize": {"type": "fit-x", "contains": "padding"},
        }
        parameters.append({"name": "selected", "value": None})
    else:
        definition |= {"width": WIDTH, "height": _height(figure, HEIGHT), "background": "white", "padding": 10}
    return definition | ({"params": parameters} if parameters else {})


def is_wide(figure: Figure) -> bool:
    """Whether a figure takes up the whole width of the page."""
    return isinstance(figure, (ParallelFigure, PairsFigure))


def _height(figure: Figure, usual: int) -> int:
    if isinstance(figure, PairsFigure):
        return max(usual, _PAIR_PIXELS * len(figure.axes))
    return usual


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
    return write_figures(folder, [figure]).paths


class Drawn(NamedTuple):
    """The files that were drawn, and why others were not, by the name of the figure."""

    paths: list[Path]
    undrawn: dict[str, Undrawn]

    @property
    def warning(self) -> str:
        """A line for the user on those that were not drawn; "" where all were."""
        if not self.undrawn:
            return ""
        names = first_listed([*self.undrawn], _MOST_NAMED)
        return f"could not draw {names} as files: {next(iter(self.undrawn.values())).cause}"


def write_figures(folder: Path, figures: Iterable[Figure], ready: Sequence[Renderer] = ()) -> Drawn:
    """Draw the figures as `write_figure` does, by the processes that are `ready`, or by one that is started for them.

    Raises OSError where a file cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    real_folders.made(folder, folder.parent)
    plots = {
        PlotFiles(
            json.dumps(vega_lite(figure), sort_keys=True), *(f"{folder / figure.name}.{kind}" for kind in KINDS)
        ): figure.name
        for figure in figures
    }
    undrawn = {plots[item.plot]: item for item in draw_all([*plots], ready)}
    made = [plot for plot, name in plots.items() if name not in undrawn]
    return Drawn([Path(path) for plot in made for path in (plot.svg, plot.png)], undrawn)
