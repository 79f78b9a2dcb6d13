"""Plots by themselves, outside of the page. Tests report/single_plot.py."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tunectl.analysis.figures.figures import Axis, Point, PointsFigure
from tunectl.core.errors import TunectlError
from tunectl.report import single_plot as module
from tunectl.report.plots import vega_lite
from tunectl.report.renderer import Undrawn
from tunectl.report.single_plot import picture, single_plot


def figure(name: str, *categories: str) -> PointsFigure:
    points = [Point(each, 0.5, "one", f"trial {place}", place) for place, each in enumerate(categories)]
    return PointsFigure(name, name, Axis(name, "category", categories), Axis("loss"), points, legend="setting")


def names_in(definition: Any) -> list[str]:
    """The label expressions of a definition that take their texts from a parameter."""
    text = json.dumps(definition)
    return [part.partition("[")[0] for part in text.split('"labelExpr": "')[1:] if "_names" in part.partition("[")[0]]


def test_one_figure_is_that_of_the_page_with_tooltips() -> None:
    own, alone = vega_lite(figure("width", "8", "16")), single_plot([figure("width", "8", "16")])
    assert {name: alone[name] for name in own if name != "layer"} == {
        name: own[name] for name in own if name != "layer"
    }
    first, *_ = alone["layer"]
    assert first["encoding"].pop("tooltip") == {"field": "label", "type": "nominal"}
    assert first == own["layer"][0]


def test_of_several_figures_each_keeps_its_categories_and_its_colours() -> None:
    both = single_plot([figure("width", "8", "16"), figure("activation", "relu", "tanh")])
    assert {item["name"]: item["value"] for item in both["params"]} == {
        "x_names_0": ["8", "16"],
        "x_names_1": ["relu", "tanh"],
    }
    assert [{*names_in(part)} for part in both["vconcat"]] == [{"x_names_0"}, {"x_names_1"}]
    assert both["resolve"]["scale"]["color"] == "independent"
    assert not {"config", "params", "$schema"} & {name for part in both["vconcat"] for name in part}
    drawn = picture(both)
    for label in (b"relu", b"tanh", b">16<"):
        assert label in drawn.svg
    assert drawn.png.startswith(b"\x89PNG")


def test_a_plot_that_cannot_be_drawn_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module, "draw_all", lambda plots: [Undrawn(plots[0], "the process that draws ended", died=True)]
    )
    with pytest.raises(TunectlError, match="the plot could not be drawn: the process that draws ended"):
        picture({"mark": "point"})
