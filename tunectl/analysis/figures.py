"""What a picture shows, as plain data: made by who computes it, drawn by `report`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis: its title, with the unit, and its scale."""

    title: str
    scale: Literal["linear", "log"] = "linear"


@dataclass(frozen=True, slots=True)
class Point:
    """A trial on an axis plot. `y` None: infeasible, drawn as a cross at the edge of what the others reached.

    `series` groups points by colour; `label` is shown when the point is pointed at.
    """

    x: float
    y: float | None
    series: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through (x, y), both of the same length; values that are not finite interrupt it.

    `series` groups curves by colour, `label` names one in the legend's tooltip.
    """

    x: Sequence[float]
    y: Sequence[float]
    series: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A value worth a rule across the plot, on the x axis or the y axis, with its name."""

    value: float
    name: str
    axis: Literal["x", "y"] = "x"


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


@dataclass(frozen=True, slots=True)
class CurvesFigure:
    """Curves over a common axis."""

    name: str
    title: str
    x: Axis
    y: Axis
    curves: Sequence[Curve]
    marks: Sequence[Mark] = ()
    legend: str = ""


@dataclass(frozen=True, slots=True)
class HistogramFigure:
    """How often values lie where."""

    name: str
    title: str
    x: Axis
    values: Sequence[float]
    marks: Sequence[Mark] = ()


Figure = PointsFigure | CurvesFigure | HistogramFigure
