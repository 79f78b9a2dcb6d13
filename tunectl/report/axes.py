"""The axes of plots: the position of a value on one, the part of it that is shown, its ticks."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tunectl.analysis.figures.figures import Axis, MarkedValue
from tunectl.report.intervals import Interval

TITLE_COLUMNS = 70

_LARGEST = 1e300
"""Values near the largest float make differences and pixels overflow."""

_AXIS_COLUMNS = 44
_MOST_LINES = 3
"""The most that fits beside a plot on the page, which is narrower than one in a file."""

_NAME_COLUMNS = 24
_HEAD = 8
_MOST_WHOLE_TICKS = 12
_CATEGORY_CHARACTERS = 60
"""Names of categories are tilted where they are longer than this in all."""

# As people write them: 1e-5 and 1e6, but 0.001 and 10,000.
_LOG_LABEL = (
    "datum.value >= 1e-3 && datum.value < 1e5 ? format(datum.value, ',~g')"
    " : replace(format(datum.value, '~e'), '+', '')"
)


def wrapped(text: str, columns: int = TITLE_COLUMNS) -> list[str]:
    """The text in lines of at most this number of characters; one empty line for no text."""
    return textwrap.wrap(text, columns) or [""]


def short_names(names: Sequence[str]) -> list[str]:
    """The names cut to what fits beside an axis; those that would be cut to the same text keep their ends."""
    whole = [" ".join(name.split()) for name in names]
    cut = [name if len(name) <= _NAME_COLUMNS else f"{name[: _NAME_COLUMNS - 1]}…" for name in whole]
    taken = Counter(cut)
    return [
        short
        if taken[short] == 1 or len(name) <= _NAME_COLUMNS
        else f"{name[:_HEAD]}…{name[_HEAD + 1 - _NAME_COLUMNS :]}"
        for name, short in zip(whole, cut, strict=True)
    ]


def position(value: float | str | None, axis: Axis, categories: Sequence[str] = ()) -> float | None:
    """The number at which the value is drawn, None where the axis has no position for it.

    On `one_minus_log` that is 1 - value, on `category` the number of the category in the order.
    """
    if axis.scale == "category":
        if isinstance(value, str):
            return float(categories.index(value)) if value in categories else None
        return value if value is not None and abs(value) < _LARGEST else None
    if value is None or isinstance(value, str):
        return None
    at = 1 - value if axis.scale == "one_minus_log" else float(value)
    return at if abs(at) < _LARGEST and (axis.scale == "linear" or at > 1 / _LARGEST) else None


@dataclass(frozen=True, slots=True)
class DrawnAxis:
    """An axis, the interval of positions that is shown, the names of its categories, and whether values are whole."""

    axis: Axis
    interval: Interval
    direction: Literal["x", "y"]
    categories: tuple[str, ...] = ()
    whole: bool = False

    def position(self, value: float | str | None) -> float | None:
        """The number at which the value is drawn, None where it has no position."""
        return position(value, self.axis, self.categories)

    def share(self, at: float) -> float:
        """How far along the axis this position is, to the right or upwards: 0 to 1."""
        share = self.interval.share(at)
        return 1 - share if self.axis.scale == "one_minus_log" else share

    def at_share(self, share: float) -> float:
        """The position at this share of the axis, from 0 to 1."""
        return self.interval.at_share(1 - share if self.axis.scale == "one_minus_log" else share)

    def up_to(self, end: float) -> DrawnAxis:
        """The axis up to this position: with room beyond the values, or shortened."""
        shown = self.interval
        if self.axis.scale == "one_minus_log":
            interval = Interval(end, shown.high, shown.log)
        else:
            interval = Interval(shown.low, end, shown.log)
        return DrawnAxis(self.axis, interval, self.direction, self.categories, self.whole)

    @property
    def parameter(self) -> dict[str, Any] | None:
        """The parameter that the labels of a category axis are taken from; their text is data and never code."""
        if self.axis.scale != "category":
            return None
        return {"name": f"{self.direction}_names", "value": short_names(self.categories)}

    def encoding(self, field: str) -> dict[str, Any]:
        """The position channel of a Vega-Lite layer whose rows have their positions under `field`."""
        shown = self.interval
        title = textwrap.wrap(self.axis.title, _AXIS_COLUMNS, max_lines=_MOST_LINES, placeholder="…") or [""]
        scale: dict[str, Any] = {"domain": [shown.low, shown.high], "nice": False}
        ticks: dict[str, Any] = {"title": title, "labelOverlap": True}
        match self.axis.scale:
            case "linear":
                scale["zero"] = False
                ticks |= self._whole_ticks() if self.whole else {"tickCount": 8}
            case "log":
                scale["type"] = "log"
                ticks |= {"values": list(self.axis.ticks) or shown.log_ticks(), "labelExpr": _LOG_LABEL}
            case "one_minus_log":
                scale |= {"type": "log", "reverse": True}
                ticks |= {"values": shown.log_ticks(), "labelExpr": "format(1 - datum.value, '.12~g')"}
            case "category":
                scale["zero"] = False
                ticks |= self._category_ticks()
        return {"field": field, "type": "quantitative", "scale": scale, "axis": ticks}

    def _whole_ticks(self) -> dict[str, Any]:
        """Ticks at whole numbers alone; at each of them where they are few."""
        first, last = math.ceil(self.interval.low), math.floor(self.interval.high)
        if last - first < _MOST_WHOLE_TICKS:
            return {"values": list(range(first, last + 1)), "format": ",d"}
        return {"tickCount": 8, "tickMinStep": 1}

    def _category_ticks(self) -> dict[str, Any]:
        ticks: dict[str, Any] = {
            "values": list(range(len(self.categories))),
            "labelExpr": f"{self.direction}_names[datum.value]",
            "labelOverlap": False,
            "grid": self.direction == "y",
        }
        if self.direction == "x" and sum(len(name) for name in self.categories) > _CATEGORY_CHARACTERS:
            ticks |= {"labelAngle": -30, "labelAlign": "right"}
        return ticks


def drawn_axis(
    axis: Axis, direction: Literal["x", "y"], values: Iterable[float | str | None], marks: Sequence[MarkedValue] = ()
) -> DrawnAxis:
    """The axis that shows these values and the marks on it, with a small margin."""
    given = list(values)
    categories = tuple(axis.categories) or tuple(dict.fromkeys(value for value in given if isinstance(value, str)))
    if axis.scale == "category":
        return DrawnAxis(axis, Interval(-0.5, max(1, len(categories)) - 0.5), direction, categories)
    if axis.shown is not None:
        low, high = axis.shown
        given = [value for value in given if isinstance(value, str) or (value is not None and low <= value <= high)]
        given += axis.shown
    given += axis.searched or ()
    given += [mark.value for mark in marks if mark.axis == direction]
    positions = [at for value in given if (at := position(value, axis)) is not None]
    whole = all(at.is_integer() for at in positions)
    return DrawnAxis(axis, Interval.around(positions, log=axis.scale != "linear"), direction, whole=whole)
