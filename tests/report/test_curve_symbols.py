"""Hollow points and events on curves, and what their tooltips show."""

from __future__ import annotations

from typing import Any

import pytest
import vl_convert
from made_up_figures import layers_with

from tunectl.analysis.figures.figures import Axis, Curve, CurvesFigure, Event
from tunectl.report.curve_symbols import MOST_DIMMED, MOST_DOTS
from tunectl.report.page_data import page_data
from tunectl.report.page_model import Section
from tunectl.report.plot_theme import COLOURS, DIMMED_COLOUR
from tunectl.report.plots import vega_lite


def figure(*curves, y=None, **more):
    return CurvesFigure("c", "Curves", Axis("step"), y or Axis("value"), curves, **more)


def curve(count=3, hollow=(1,), **changes):
    flags = [place in hollow for place in range(count)]
    return Curve(list(range(count)), [1.0 + place for place in range(count)], hollow=flags, **changes)


def dots(definition):
    """The places of filled and of hollow points."""
    found: dict[bool, list[Any]] = {True: [], False: []}
    for layer in layers_with(definition, "point"):
        found[layer["mark"]["filled"]] += [row["x"] for row in layer["rows"]]
    return found[True], found[False]


def test_hollow_points_are_hollow_and_the_others_of_a_short_curve_filled():
    assert dots(vega_lite(figure(curve()))) == ([0, 2], [1])


def test_a_dotted_curve_has_filled_points_also_where_none_is_hollow():
    assert dots(vega_lite(figure(curve(hollow=(), dotted=True)))) == ([0, 1, 2], [])


def test_a_curve_without_hollow_points_has_no_dots():
    assert layers_with(vega_lite(figure(curve(hollow=()), Curve([0, 1], [1.0, 2.0]))), "point") == []


def test_of_many_hollow_points_some_are_drawn_and_a_long_curve_has_no_filled_ones():
    filled, hollow = dots(vega_lite(figure(curve(500, hollow=range(400)))))
    assert (filled, len(hollow)) == ([], MOST_DOTS)
    assert min(hollow) == 0
    assert 380 < max(hollow) < 400


def test_hollow_points_of_dimmed_curves_are_grey_and_behind_the_curves_in_front():
    definition = vega_lite(figure(curve(dimmed=True), Curve([0, 1], [1.0, 2.0], "best")))
    marks = [layer["mark"]["type"] for layer in definition["layer"]]
    assert marks == ["line", "point", "line"]
    assert definition["layer"][1]["encoding"]["color"] == {"value": DIMMED_COLOUR}


def test_of_many_dimmed_curves_hollow_points_are_left_out():
    many = [curve(dimmed=True) for _ in range(MOST_DIMMED + 1)]
    assert layers_with(vega_lite(figure(*many, Curve([0, 1], [1.0, 2.0], "best"))), "point") == []


def test_a_hollow_point_without_neighbours_is_drawn_once():
    assert dots(vega_lite(figure(curve(1, hollow=(0,))))) == ([], [0])


EVENTS = [
    Event(0.5, 1.5, "rise", "a", "it rises", 3),
    Event(1.0, 2.0, "catapult", "a", "it is thrown", 3),
    Event(1.5, 2.5, "divergence", "", "it is lost", 4, dimmed=True),
    Event(1.7, 99.0, "fall", "a", "outside", 3),
]


def test_events_are_over_their_curves_each_kind_with_its_shape():
    definition = vega_lite(figure(curve(hollow=(), series="a", trial=3), events=EVENTS))
    layers = layers_with(definition, "point")
    assert [layer["mark"]["shape"] for layer in layers] == ["cross", "triangle-up", "diamond"]
    assert layers[0]["encoding"]["color"] == {"value": DIMMED_COLOUR}
    assert [row["label"] for layer in layers for row in layer["rows"]] == ["it is lost", "it rises", "it is thrown"]
    assert vl_convert.vegalite_to_svg(definition).count("mark-symbol role-mark") == 3


def test_a_series_keeps_its_colour_where_another_one_is_missing():
    definition = vega_lite(figure(Curve([0, 1], [1.0, 2.0], "b"), colours=["a", "b"]))
    scale = definition["layer"][0]["encoding"]["color"]["scale"]
    assert (scale["domain"], scale["range"]) == (["b"], [COLOURS[1]])


def test_dashes_that_the_title_explains_have_no_legend():
    lines = Curve([0, 1], [1.0, 2.0], "a"), Curve([0, 1], [2.0, 3.0], "a", dashed=True)
    encoding = vega_lite(figure(*lines, solid_name="", dashed_name=""))["layer"][0]["encoding"]
    assert encoding["strokeDash"]["legend"] is None
    assert len(set(map(tuple, encoding["strokeDash"]["scale"]["range"]))) == 2
    svg = vl_convert.vegalite_to_svg(vega_lite(figure(*lines, solid_name="", dashed_name="")))
    assert 'stroke-dasharray="5,3"' in svg


def test_notes_are_shown_below_the_title():
    assert vega_lite(figure(curve(), notes=["one", "two"]))["title"]["subtitle"] == ["one; two"]


@pytest.mark.parametrize("thinned", [False, True])
def test_the_page_has_the_further_values_of_each_point_and_files_have_not(thinned):
    count = 5000 if thinned else 3
    values = [10.0 * place for place in range(count)]
    with_more = curve(count, hollow=(), more=(values, ["yes"] * count))
    other = Curve([0, 1], [5.0, 6.0], "b")
    drawn = figure(with_more, other, more=("residual", "converged"))
    data = page_data([Section("Curvature", "", [drawn])], [])
    assert data["plots"][0]["more"] == ["residual", "converged"]
    rows = vega_lite(drawn, interactive=True)["layer"][0]["data"]["values"]
    assert all(row["more0"] == 10 * row["x"] for row in rows if row["series"] == "")
    assert {row["more1"] for row in rows} == {"yes", None}
    assert "more0" not in vega_lite(drawn)["layer"][0]["data"]["values"][0]
