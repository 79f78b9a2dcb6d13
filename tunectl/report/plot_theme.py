"""What all pictures share: colours, sizes, the look of rules and names, and how a selection shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunectl.report.axes import wrapped

WIDTH, HEIGHT = 640, 400
"""The size of the plotted area in pixels, in files."""

PAGE_HEIGHT = 300
"""The height of the plotted area in pixels on the page, where it is as wide as there is room."""

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#5533CC")
"""The palette of Okabe and Ito (2008), which readers with any colour vision can distinguish, with a violet in place of
its yellow, which is faint on white; its vermilion comes late, as crosses are red.
"""

INFEASIBLE_COLOUR = "#C1121F"
DIMMED_COLOUR = "#9A9A9A"
SELECTED_COLOUR = "#111111"

ON_DARK: Mapping[str, str] = {
    **dict(
        zip(
            COLOURS,
            ("#4C9BE8", "#F0B429", "#2CC295", "#E58FC0", "#A5D8FF", "#FF7F3F", "#F2F2F2", "#8266FF"),
            strict=True,
        )
    ),
    INFEASIBLE_COLOUR: "#FF5C6C",
    DIMMED_COLOUR: "#7C8792",
    SELECTED_COLOUR: "#FFFFFF",
    "#222222": "#E4E9EE",
    "#444444": "#BAC4CE",
    "white": "#171D24",
    "#E5E5E5": "#2A333D",
    "#BBBBBB": "#4A5663",
    "#EFEFEF": "#232B34",
    "#F3F8FD": "#1C2B3A",
    "#9CC4E4": "#2F6EA3",
    "#0B559F": "#8CC8FF",
}
"""The colours of plots on a dark page, by those on a light one: as far apart, with a contrast of 4 to 1 to the page."""

FONT = "DejaVu Sans, Verdana, Arial, sans-serif"
PAGE_FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, DejaVu Sans, Arial, sans-serif"

SELECTED = "selected && selected[datum.trial]"
UNSELECTED = "selected && !selected[datum.trial]"
"""Whether a row is, or is not, of a selected trial; `selected` is null where none is, else true by trial id."""

RULE: dict[str, Any] = {"type": "rule", "strokeDash": [6, 4], "color": "#444444", "strokeWidth": 1.3}

_PAGE_LEGEND_WIDTH = 400

_LONG_NAME = 38
"""Names with more characters do not fit into a line below a plot on a telephone."""

A_VALUE_A_LINE = "split(replace(datum.label, regexp(', ', 'g'), ',\\n'), '\\n')"
"""For the text of a legend: each value of a setting has a line of its own."""

Layer = dict[str, Any]
"""A layer of a Vega-Lite specification, its rows inside."""


def layer(mark: Mapping[str, Any], encoding: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Layer:
    """A layer that draws the mark once for each of the rows (or for each line of them)."""
    return {"data": {"values": list(rows)}, "mark": dict(mark), "encoding": dict(encoding)}


def by_selection(usual: Any, *, selected: Any = None, unselected: Any = None) -> dict[str, Any]:
    """A channel with a usual value, and others for what is selected and for the rest while something is."""
    conditions = [
        {"test": test, "value": value}
        for test, value in ((SELECTED, selected), (UNSELECTED, unselected))
        if value is not None
    ]
    return {"condition": conditions, "value": usual}


def colour(
    series: Sequence[str], legend: str, *, interactive: bool, order: Sequence[str] = (), **symbol: Any
) -> dict[str, Any]:
    """Colours by series in their order, with a legend below the plot where there is more than one.

    Series of `order` have the colours of their places there. `symbol` is how the legend's symbols differ from usual.
    """
    names = list(dict.fromkeys(series))
    if names in ([], [""]):
        return {"value": COLOURS[0]}
    places = {name: place for place, name in enumerate(dict.fromkeys([*order, *names]))}
    colours = [COLOURS[places[name] % len(COLOURS)] for name in names]
    return {
        "field": "series",
        "type": "nominal",
        "scale": {"domain": names, "range": colours},
        "legend": bottom_legend(names, legend, interactive=interactive) | symbol,
    }


def bottom_legend(names: Sequence[str], title: str, *, interactive: bool) -> dict[str, Any]:
    """A legend below the plot, in as many columns as its names leave room for."""
    longest = max(len(name) for name in names)
    room = _PAGE_LEGEND_WIDTH if interactive else WIDTH
    columns = max(1, min(len(names), int(room / (7.5 * longest + 40))))
    lines = {"labelExpr": A_VALUE_A_LINE} if interactive and longest > _LONG_NAME else {}
    return {
        "title": wrapped(title) if title else None,
        "orient": "bottom",
        "columns": columns,
        "symbolLimit": 0,
        "direction": "horizontal",
        **lines,
    }
