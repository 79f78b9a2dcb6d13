"""The content of a plot, as plain data: computed in `analysis` and `procedures`, drawn by `report`."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

AxisScale = Literal["linear", "log", "one_minus_log", "category"]

EventKind = Literal["rise", "fall", "catapult", "divergence"]


_LOG_SPAN = 30.0
"""An axis of positive values that span more than this factor is logarithmic."""


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis: its title, with the unit, and its scale.

    `one_minus_log` is logarithmic in 1 - value and is labelled with values, as momentum is searched. `category` has a
    place for each of `categories`, in their order. `searched` are the ends of the searched range, or of what
    several plots have in common; the axis shows all of it, even where no values are. `ticks` are those of a `log` axis
    whose values are a few known numbers, as batch sizes. `shown` is the part that is shown where a few values far away
    would press all others together: these are drawn at its edge, and said in numbers.
    """

    title: str
    scale: AxisScale = "linear"
    categories: Sequence[str] = ()
    searched: tuple[float, float] | None = None
    ticks: Sequence[float] = ()
    shown: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """A trial on an axis plot. `y` None: infeasible, drawn as a cross at the edge of the values of the others.

    `x` is a category's name on a category axis. `series` groups points by colour; `label` is shown when the mouse is
    over the point. `trial` is the id by which a page highlights the same trial everywhere, None for several trials. A
    `crossed` one with a value is a cross at its place. `above` is given where all that is known of the value is that it
    is larger than this: a triangle in place of the cross at the edge.
    """

    x: float | str
    y: float | None
    series: str = ""
    label: str = ""
    trial: int | None = None
    crossed: bool = False
    above: float | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through (x, y), both of the same length; values that are not finite interrupt it.

    `series` groups curves by colour, `label` is the curve's name in the tooltip. A `dimmed` curve is background, drawn
    thin and grey behind the others; a `dashed` one is the second of a pair (training with validation). `trial` is as
    in Point. Where `hollow` is true, a point is drawn as a hollow circle. `more` has further values of each point for
    the tooltip, in the order of the figure's `more`. Each is empty, or as long as x. `dotted`: each point is
    drawn, filled where it is not hollow.
    """

    x: Sequence[float]
    y: Sequence[float]
    series: str = ""
    label: str = ""
    trial: int | None = None
    dimmed: bool = False
    dashed: bool = False
    hollow: Sequence[bool] = ()
    more: Sequence[Sequence[float | str | None]] = ()
    dotted: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens to a curve at (x, y), drawn as a symbol; `label` is its tooltip.

    `series` and `trial` are those of the curve; the symbol of a `dimmed` one is grey.
    """

    x: float
    y: float
    kind: EventKind
    series: str = ""
    label: str = ""
    trial: int | None = None
    dimmed: bool = False


@dataclass(frozen=True, slots=True)
class MarkedValue:
    """A value at which a line is drawn across the plot, on the x axis or the y axis, with its name."""

    value: float
    name: str
    axis: Literal["x", "y"] = "x"


@dataclass(frozen=True, slots=True)
class Band:
    """A band of the y axis that is shaded across the plot, from `low` to `high`; `name` is shown below the title."""

    low: float
    high: float
    name: str


@dataclass(frozen=True, slots=True)
class Whisker:
    """What repeats of a point came to: a bar from `low` to `high` with a stroke at `middle`, beside the point at `x`.

    `series` and `label` are as in Point.
    """

    x: float | str
    low: float
    middle: float
    high: float
    series: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class PointsFigure:
    """Trials on one axis: `name` is the file's name without suffix, `legend` the title of the legend.

    `lines` are drawn behind the points, in grey; their labels are explained below the title. `cross` says what a
    crossed point means, `missed` what one without a value is, and `beyond` one whose value is only known to be above
    another. `colours` are series in the order of their colours, as in CurvesFigure; where they are given, a cross has
    the colour of its series, else it is red. `repeats` says what the `whiskers` are. `notes` are shown below the
    title, before those on what the symbols mean.
    """

    name: str
    title: str
    x: Axis
    y: Axis
    points: Sequence[Point]
    marks: Sequence[MarkedValue] = ()
    legend: str = ""
    bands: Sequence[Band] = ()
    lines: Sequence[Curve] = ()
    cross: str = ""
    missed: str = "infeasible"
    beyond: str = "never reached the target"
    colours: Sequence[str] = ()
    whiskers: Sequence[Whisker] = ()
    repeats: str = ""
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class CurvesFigure:
    """Curves over a common axis.

    `solid_name` and `dashed_name` explain the dashes in the legend, if there are any; where both are "", title or notes
    explain them, and the legend does not.
    `colours` are series in the order of their colours, so that one that is missing here has no effect on those of the
    others; empty for the order of the curves. `events` are drawn over the curves. `notes` are shown below the title,
    one after another. `more` names the further values of the curves' points.
    """

    name: str
    title: str
    x: Axis
    y: Axis
    curves: Sequence[Curve]
    marks: Sequence[MarkedValue] = ()
    legend: str = ""
    solid_name: str = "validation"
    dashed_name: str = "training"
    colours: Sequence[str] = ()
    events: Sequence[Event] = ()
    notes: Sequence[str] = ()
    more: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class HistogramFigure:
    """The distribution of values over one axis."""

    name: str
    title: str
    x: Axis
    values: Sequence[float]
    marks: Sequence[MarkedValue] = ()


@dataclass(frozen=True, slots=True)
class Box:
    """A distribution at one place of the x axis: its quartiles and the ends of its whiskers; `series` is the colour."""

    x: float | str
    low: float
    lower_quartile: float
    median: float
    upper_quartile: float
    high: float
    series: str = ""


@dataclass(frozen=True, slots=True)
class BoxesFigure:
    """Distributions side by side; boxes of several series at one place are drawn next to each other.

    `colours` are as in CurvesFigure.
    """

    name: str
    title: str
    x: Axis
    y: Axis
    boxes: Sequence[Box]
    marks: Sequence[MarkedValue] = ()
    legend: str = ""
    colours: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar from 0 to `value` at a category of the y axis, with a line from `low` to `high`; a `faint` one is pale.

    `label` is its tooltip; `series` is the colour.
    """

    y: str
    value: float
    low: float
    high: float
    series: str = ""
    label: str = ""
    faint: bool = False


@dataclass(frozen=True, slots=True)
class BarsFigure:
    """Horizontal bars with intervals; those of several series at one category are drawn one below the other.

    `colours` are as in CurvesFigure.
    """

    name: str
    title: str
    x: Axis
    y: Axis
    bars: Sequence[Bar]
    legend: str = ""
    notes: Sequence[str] = ()
    colours: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Tile:
    """A cell of a matrix at two categories; `value` None: not known. A `framed` one has a frame.

    `text` is written in it, `label` is its tooltip.
    """

    x: str
    y: str
    value: float | None
    text: str = ""
    label: str = ""
    framed: bool = False


@dataclass(frozen=True, slots=True)
class MatrixFigure:
    """Cells coloured by their values, from 0 on; both axes have categories. `colour` says what the values are."""

    name: str
    title: str
    x: Axis
    y: Axis
    tiles: Sequence[Tile]
    colour: Axis
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ShadedPoint:
    """A trial over two axes, coloured by `value`, None where it is infeasible; else as Point."""

    x: float | str
    y: float | str
    value: float | None
    label: str = ""
    trial: int | None = None


@dataclass(frozen=True, slots=True)
class ShadedFigure:
    """Trials over two axes, coloured by their values.

    `colour` says what the values are; its `searched` are the ends of the colours, the first of which is the darkest.
    """

    name: str
    title: str
    x: Axis
    y: Axis
    points: Sequence[ShadedPoint]
    colour: Axis
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class TrialOnAxes:
    """A trial with its value on each of several axes, None where it has none; else as ShadedPoint."""

    values: Sequence[float | str | None]
    value: float | None
    label: str = ""
    trial: int | None = None


@dataclass(frozen=True, slots=True)
class ParallelFigure:
    """Parallel coordinates: upright axes side by side, and a line across them for each trial, coloured by its value.

    The last axis is that of the values. `colour` is as in ShadedFigure. The first trials are drawn behind the others.
    """

    name: str
    title: str
    axes: Sequence[Axis]
    trials: Sequence[TrialOnAxes]
    colour: Axis
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class PairsFigure:
    """A plot of the trials for each pair of axes, coloured by their values; else as ParallelFigure."""

    name: str
    title: str
    axes: Sequence[Axis]
    trials: Sequence[TrialOnAxes]
    colour: Axis
    notes: Sequence[str] = ()


Figure = (
    PointsFigure
    | CurvesFigure
    | HistogramFigure
    | BoxesFigure
    | BarsFigure
    | MatrixFigure
    | ShadedFigure
    | ParallelFigure
    | PairsFigure
)


def scale_of(values: Sequence[float]) -> AxisScale:
    """The scale of an axis for these values: logarithmic where they are positive and span more than _LOG_SPAN."""
    finite = [value for value in values if math.isfinite(value)]
    positive = bool(finite) and min(finite) > 0
    return "log" if positive and max(finite) > _LOG_SPAN * min(finite) else "linear"


def scale_of_curves(curves: Sequence[Curve], values: Sequence[float]) -> AxisScale:
    """The scale of an axis for the values of a metric by step: as scale_of for metrics that fall.

    Where the curves in front end above their beginning, as those of an accuracy, a logarithm would press their good
    ends together: it is taken only if these ends span as much themselves.
    """
    scale = scale_of(values)
    front = [curve.y for curve in curves if curve.y and not curve.dimmed]
    rising = sum(y[-1] > y[0] for y in front)
    if scale == "log" and 2 * rising > len(front):
        return scale_of([y[-1] for y in front])
    return scale


def slug(text: str) -> str:
    """Text made safe as part of a file name."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-.")
