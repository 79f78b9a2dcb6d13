"""Tests report/point_layers.py beyond the plain points, which test_plots.py and test_plot_layers.py test."""

from __future__ import annotations

import pytest
from made_up_figures import layers_with

from tunectl.analysis.figures.figures import Axis, Point, PointsFigure, Whisker
from tunectl.report.plot_theme import COLOURS, INFEASIBLE_COLOUR
from tunectl.report.plots import vega_lite

RATE = Axis("learning rate", "log")
POINTS = [Point(0.1, 0.2, "a", trial=0), Point(0.2, 0.3, "b", trial=1), Point(0.3, 9.0, "b", trial=2)]


def cut(low, high, points=POINTS, **more):
    return vega_lite(PointsFigure("p", "P", RATE, Axis("loss", shown=(low, high)), points, **more))


def rows_of(definition, shape):
    return [row for part in layers_with(definition, "point") if part["mark"]["shape"] == shape for row in part["rows"]]


def domain(definition):
    return definition["layer"][0]["encoding"]["y"]["scale"]["domain"]


def test_a_value_beyond_a_cut_off_axis_is_a_triangle_at_its_end_and_said_in_numbers():
    definition = cut(0.2, 0.5)
    (row,) = rows_of(definition, "triangle-up")
    low, high = domain(definition)
    assert 0.5 < row["y"] < high < 0.7
    assert (row["trial"], row["shown_y"]) == (2, "9")
    assert [row["trial"] for row in rows_of(definition, "circle")] == [0, 1]
    assert "▲ above the axis (1 of 3, up to 9)" in definition["title"]["subtitle"][0]
    assert low < 0.2


def test_what_is_below_a_cut_off_axis_points_down():
    points = [Point(0.1, 0.93, trial=0), Point(0.2, 0.9, trial=1), Point(0.3, 0.1, trial=2)]
    definition = cut(0.85, 0.93, points)
    (row,) = rows_of(definition, "triangle-down")
    assert domain(definition)[0] < row["y"] < 0.9
    assert "▼ below the axis (1 of 3, down to 0.1)" in definition["title"]["subtitle"][0]


def test_infeasible_trials_beside_cut_off_ones_have_a_strip_of_their_own():
    definition = cut(0.2, 0.5, [*POINTS, Point(0.4, None, "a", trial=3)])
    (cross,) = rows_of(definition, "cross")
    (triangle,) = rows_of(definition, "triangle-up")
    assert triangle["y"] < cross["y"] < domain(definition)[1]


def test_an_axis_that_is_not_cut_off_has_no_triangles():
    definition = vega_lite(PointsFigure("p", "P", RATE, Axis("loss"), POINTS))
    assert rows_of(definition, "triangle-up") == []
    assert len(rows_of(definition, "circle")) == 3


@pytest.mark.parametrize(("colours", "red"), [((), True), (("b", "a"), False)])
def test_crosses_are_red_or_in_the_colour_of_their_series(colours, red):
    definition = vega_lite(PointsFigure("p", "P", RATE, Axis("loss"), [Point(0.1, None, "a")], colours=colours))
    (crosses,) = [part for part in layers_with(definition, "point") if part["mark"]["shape"] == "cross"]
    assert crosses["mark"]["color"] == INFEASIBLE_COLOUR
    assert ("color" not in crosses["encoding"]) is red
    if not red:
        assert crosses["encoding"]["color"]["scale"]["range"] == [COLOURS[1]]


def test_repeats_are_a_bar_beside_the_point_with_a_stroke_at_their_mean_and_on_the_axis():
    axis = Axis("optimizer", "category", ["sgd", "adam"])
    bar = Whisker("adam", 0.1, 0.15, 0.2, "b", "5 retrains")
    figure = PointsFigure(
        "p", "P", axis, Axis("loss"), [Point("adam", 0.3, "b")], whiskers=[bar], repeats="bar: repeats"
    )
    definition = vega_lite(figure)
    (rule,) = [part for part in layers_with(definition, "rule") if "high" in part["rows"][0]]
    (row,) = rule["rows"]
    assert (row["low"], row["y"], row["high"]) == (0.1, 0.15, 0.2)
    assert 1.0 < row["x"] < 1.1
    low, high = domain(definition)
    assert low < 0.1 < 0.3 < high
    assert "bar: repeats" in definition["title"]["subtitle"][0]
