"""What a picture shows, as plain data: made by who computes it, drawn by `report`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

AxisScale = Literal["linear", "log", "one_minus_log", "category"]


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis: its title, with the unit, and its scale.

    `one_minus_log` is logarithmic in 1 - value and reads in values, as momentum is searched. `category` has a place for
    each of `categories`, in their order. `searched` are the ends of the range that was searched, which the axis shows
    whether values lie there or not.
    """

    title: str
    scale: AxisScale = "linear"
    categories: Sequence[str] = ()
    searched: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """A trial on an axis plot. `y` None: infeasible, drawn as a cross at the edge of what the others reached.

    `x` is a category's name on an axis of those. `series` groups points by colour; `label` is shown when the point is
    pointed at. `trial` is the id by which a page marks the same trial everywhere, None where it is of several.
    """

    x: float | str
    y: float | None
    series: str = ""
    label: str = ""
    trial: int | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through (x, y), both of the same length; values that are not finite interrupt it.

    `series` groups curves by colour, `label` names one in the legend's tooltip. A `dimmed` curve is background, drawn
    thin and grey behind the others; a `dashed` one is the second of a pair (train beside validation). `trial` is as in
    Point.
    """

    x: Sequence[float]
    y: Sequence[float]
    series: str = ""
    label: str = ""
    trial: int | None = None
    dimmed: bool = False
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A value worth a rule across the plot, on the x axis or the y axis, with its name."""

    value: float
    name: str
    axis: Literal["x", "y"] = "x"


@dataclass(frozen=True, slots=True)
class Band:
    """A stretch of the y axis that is shaded across the plot, from `low` to `high`; `name` is said below the title."""

    low: float
    high: float
    name: str


@dataclass(frozen=True, slots=True)
class PointsFigure:
    """Trials on one axis: `name` is the file's, without suffix. `series` are the legend's entries in their order."""

    name: str
    title: str
    x: Axis
    y: Axis
    points: Sequence[Point]
    marks: Sequence[Mark] = ()
    legend: str = ""
    bands: Sequence[Band] = ()


@dataclass(frozen=True, slots=True)
class CurvesFigure:
    """Curves over a common axis. `solid_name` and `dashed_name` say in the legend what dashes mean, if any."""

    name: str
    title: str
    x: Axis
    y: Axis
    curves: Sequence[Curve]
    marks: Sequence[Mark] = ()
    legend: str = ""
    solid_name: str = "validation"
    dashed_name: str = "training"


@dataclass(frozen=True, slots=True)
class HistogramFigure:
    """How often values lie where."""

    name: str
    title: str
    x: Axis
    values: Sequence[float]
    marks: Sequence[Mark] = ()


@dataclass(frozen=True, slots=True)
class Box:
    """A distribution at one place of the x axis: its quartiles, and the whiskers' ends. `series` groups by colour."""

    x: float | str
    low: float
    lower_quartile: float
    median: float
    upper_quartile: float
    high: float
    series: str = ""


@dataclass(frozen=True, slots=True)
class BoxesFigure:
    """Distributions side by side; boxes of several series at one place stand next to each other."""

    name: str
    title: str
    x: Axis
    y: Axis
    boxes: Sequence[Box]
    marks: Sequence[Mark] = ()
    legend: str = ""


Figure = PointsFigure | CurvesFigure | HistogramFigure | BoxesFigure
