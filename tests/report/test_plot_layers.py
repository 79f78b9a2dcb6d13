"""Tests report/layers.py, curve_layers.py, mark_layers.py, axes.py, plot_theme.py and renderer.py."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sys
import warnings
from itertools import pairwise
from pathlib import Path

import pytest
import vl_convert
from made_up_figures import layers_with

from tunectl.analysis.figures.figures import (
    Axis,
    Box,
    BoxesFigure,
    Curve,
    CurvesFigure,
    MarkedValue,
    Point,
    PointsFigure,
)
from tunectl.report.axes import drawn_axis
from tunectl.report.curve_layers import MOST_POINTS
from tunectl.report.plot_theme import COLOURS
from tunectl.report.plots import vega_lite, write_figures
from tunectl.report.renderer import PlotFiles, Renderer, draw_all, renderers

ERROR = Axis("error")
STEP = Axis("step")
K = Axis("k")


def points(axis, values, **more):
    return PointsFigure("p", "Points", axis, ERROR, [Point(x, 0.1 * place) for place, x in enumerate(values)], **more)


def horizontal(definition):
    return definition["layer"][0]["encoding"]["x"]


def test_momentum_is_drawn_by_its_distance_from_one_with_larger_values_to_the_right():
    definition = vega_lite(points(Axis("momentum", "one_minus_log"), [0.9, 0.99, 0.999, 0.9999]))
    x = horizontal(definition)
    assert (x["scale"]["type"], x["scale"]["reverse"]) == ("log", True)
    assert [row["x"] for row in layers_with(definition, "point")[0]["rows"]] == pytest.approx([0.1, 0.01, 0.001, 1e-4])
    labels = ["0.9", "0.99", "0.999", "0.9999"]
    assert [row["shown_x"] for row in layers_with(definition, "point")[0]["rows"]] == labels
    svg = vl_convert.vegalite_to_svg(definition)
    places = [svg.index(f">{label}<") for label in labels]
    # Vega writes labels in the order of its ticks, from the smallest distance on.
    assert places == sorted(places, reverse=True)
    at = [float(svg[:place].rsplit("translate(", 1)[1].split(",")[0]) for place in places]
    assert at == sorted(at)


@pytest.mark.parametrize(
    ("scale", "searched", "shown"),
    [
        ("log", (1e-4, 1.0), (1e-4, 1.0)),
        ("linear", (0.0, 0.5), (0.0, 0.5)),
        ("one_minus_log", (0.8, 0.999), (1e-3, 0.2)),
    ],
)
def test_an_axis_shows_the_range_that_was_searched_though_no_trial_lies_at_its_ends(scale, searched, shown):
    axis = Axis("x", scale, searched=searched)
    low, high = drawn_axis(axis, "x", [0.1 if scale == "log" else 0.9 if scale == "one_minus_log" else 0.2]).encoding(
        "x"
    )["scale"]["domain"]
    assert low <= shown[0] * (1 + 1e-9)
    assert high >= shown[1] * (1 - 1e-9)
    assert high - low < 2 * (shown[1] - shown[0])


def test_a_crossed_point_is_a_cross_at_its_place_and_lines_are_drawn_behind_the_points():
    line = Curve([0.1, 1.0], [20.0, 2.0], label="bound of sgd")
    paper = Curve([0.1, 1.0], [math.nan, 4.0], label="line of the paper", dashed=True)
    figure = PointsFigure(
        "p",
        "Points",
        Axis("rate", "log"),
        Axis("eigenvalue", "log"),
        [Point(0.1, 5.0), Point(1.0, 7.0, crossed=True), Point(1.0, None)],
        lines=[line, paper],
        cross="diverged",
    )
    definition = vega_lite(figure)
    drawn = definition["layer"]
    assert [item["mark"]["type"] for item in drawn[:2]] == ["line", "line"]
    assert [len(item["data"]["values"]) for item in drawn[:2]] == [2, 1], "a bound without a value has no place"
    assert ["strokeDash" in item["mark"] for item in drawn[:2]] == [False, True]
    circles, crosses, missed = layers_with(definition, "point")
    assert [(row["x"], row["y"]) for row in circles["rows"]] == [(0.1, 5.0)]
    assert [(row["x"], row["y"]) for row in crosses["rows"]] == [(1.0, 7.0)]
    assert crosses["mark"]["shape"] == "cross"
    assert len(missed["rows"]) == 1
    low, high = crosses["encoding"]["y"]["scale"]["domain"]
    assert low <= 2.0 < 20.0 <= high, "the lines are on the axis"
    said = " ".join(definition["title"]["subtitle"])
    assert "× diverged (1 of 3)" in said
    assert "line: bound of sgd; dashed: line of the paper" in said


def test_a_momentum_of_one_has_no_place_and_one_close_to_it_has():
    definition = vega_lite(points(Axis("momentum", "one_minus_log"), [1.0, 1.5, 1 - 1e-7]))
    (row,) = layers_with(definition, "point")[0]["rows"]
    assert row["x"] == pytest.approx(1e-7, rel=1e-6)
    assert "2 trials have no position" in definition["title"]["subtitle"][0]


def test_categories_are_in_their_order_with_trials_beside_each_other():
    axis = Axis("activation", "category", ["tanh", "relu", "gelu"])
    definition = vega_lite(points(axis, ["relu", "relu", "gelu", "unknown"], marks=[MarkedValue(1.0, "chosen")]))
    rows = layers_with(definition, "point")[0]["rows"]
    assert rows[0]["x"] != rows[1]["x"]
    assert [round(row["x"]) for row in rows] == [1, 1, 2]
    assert rows[2]["x"] == 2.0
    assert definition["params"] == [{"name": "x_names", "value": ["tanh", "relu", "gelu"]}]
    svg = vl_convert.vegalite_to_svg(definition)
    assert svg.index(">tanh<") < svg.index(">relu<") < svg.index(">gelu<")
    assert "1 trials have no position" in definition["title"]["subtitle"][0]


def test_long_names_of_categories_are_cut_and_empty_ones_stay():
    definition = vega_lite(points(Axis("x", "category"), ["", "n" * 99, "a b"]))
    assert definition["params"][0]["value"] == ["", "n" * 23 + "…", "a b"]


def test_names_that_begin_alike_are_cut_so_that_they_differ():
    names = [f"learning_rate[optimizer={name}]" for name in ("sgd", "nesterov")]
    definition = vega_lite(points(Axis("x", "category"), names))
    first, second = definition["params"][0]["value"]
    assert first.endswith("optimizer=sgd]")
    assert second.endswith("mizer=nesterov]")
    assert {len(first), len(second)} == {24}


def test_whole_numbers_have_whole_ticks():
    assert horizontal(vega_lite(points(K, [1.0, 3.0])))["axis"]["values"] == [1, 2, 3]
    assert horizontal(vega_lite(points(K, [5.0])))["axis"]["values"] == [4, 5, 6]
    assert horizontal(vega_lite(points(K, [0.0, 1000.0])))["axis"]["tickMinStep"] == 1
    assert not {"tickMinStep", "values"} & set(horizontal(vega_lite(points(K, [1.0, 2.5])))["axis"])


def curves(*lines, y=ERROR):
    return CurvesFigure("c", "Curves", STEP, y, lines)


def test_dimmed_curves_are_grey_and_behind_and_take_no_part_in_the_legend():
    best = Curve([0, 1], [1.0, 0.5], "best", trial=3)
    other = Curve([0, 1], [1.0, 0.7], "other", trial=4, dimmed=True)
    behind, front = layers_with(vega_lite(curves(best, other)), "line")
    assert [row["trial"] for row in behind["rows"]] == [4, 4]
    assert "field" not in behind["encoding"].get("color", {})
    assert front["encoding"]["color"]["scale"]["domain"] == ["best"]
    assert front["mark"]["strokeWidth"] > behind["mark"]["strokeWidth"]


def test_dashes_are_explained_where_there_are_some():
    valid, train = Curve([0, 1], [1.0, 0.5], "a"), Curve([0, 1], [1.0, 0.4], "a", dashed=True)
    (line,) = layers_with(vega_lite(curves(valid, train)), "line")
    assert line["encoding"]["strokeDash"]["scale"]["domain"] == ["validation", "training"]
    assert {row["dash"] for row in line["rows"]} == {"validation", "training"}
    (plain,) = layers_with(vega_lite(curves(valid)), "line")
    assert "strokeDash" not in plain["encoding"]
    assert ">training<" in vl_convert.vegalite_to_svg(vega_lite(curves(valid, train)))


def test_a_point_without_neighbours_is_a_dot():
    definition = vega_lite(curves(Curve([0, 1, 2, 3], [1.0, math.nan, 2.0, 3.0], "a")))
    (dots,) = layers_with(definition, "point")
    assert [(row["x"], row["y"]) for row in dots["rows"]] == [(0.0, 1.0)]


def test_what_is_cut_off_ends_where_it_leaves_the_axis():
    wild = Curve([0, 1, 2], [1.0, 1e12, 1.0], "wild")
    (line,) = layers_with(vega_lite(curves(wild, y=Axis("loss", "log"))), "line")
    assert [(row["x"], row["y"]) for row in line["rows"]] == [
        (0.0, 1.0),
        (pytest.approx(0.25), pytest.approx(1e3)),
        (pytest.approx(1.75), pytest.approx(1e3)),
        (2.0, 1.0),
    ]
    assert len({row["line"] for row in line["rows"]}) == 2


def test_many_curves_are_thinned_more_than_a_few():
    steps = list(range(MOST_POINTS // 2))
    lines = [Curve(steps, [float(step % 7) for step in steps], str(number)) for number in range(100)]
    (line,) = layers_with(vega_lite(curves(*lines)), "line")
    assert 100 * 100 < len(line["rows"]) < 50_000


def boxes(*given, x=K, y=ERROR):
    return BoxesFigure("b", "Boxes", x, y, given, legend="optimizer")


def test_boxes_of_several_series_are_beside_each_other_and_do_not_overlap():
    given = [Box(k, 1, 2, 3, 4, 5, series) for k in (1, 2, 4) for series in ("a", "b")]
    definition = vega_lite(boxes(*given))
    rows = layers_with(definition, "rect")[0]["rows"]
    assert all(left["right"] < right["left"] for left, right in pairwise(rows))
    assert [rows[0]["left"] < 1 < rows[1]["right"], rows[4]["left"] < 4 < rows[5]["right"]] == [True, True]
    low, high = horizontal(definition)["scale"]["domain"]
    assert low <= rows[0]["left"] < rows[-1]["right"] <= high
    assert (rows[0]["lower"], rows[0]["median"], rows[0]["upper"]) == (2, 3, 4)


def test_boxes_are_drawn_on_log_and_category_axes_too():
    log = layers_with(vega_lite(boxes(*(Box(k, 1, 2, 3, 4, 5) for k in (1, 10, 100)), x=Axis("k", "log"))), "rect")[0]
    assert [row["left"] < k < row["right"] for row, k in zip(log["rows"], (1, 10, 100), strict=True)] == [True] * 3
    named = [Box("x", 1, 2, 3, 4, 5), Box("y", 1, 2, 3, 4, 5)]
    rows = layers_with(vega_lite(boxes(*named, x=Axis("k", "category"))), "rect")[0]["rows"]
    assert [row["middle"] for row in rows] == [0.0, 1.0]


def test_a_box_with_infeasible_draws_ends_at_the_edge_and_says_so():
    definition = vega_lite(boxes(Box(1, 0.1, 0.2, 0.3, math.inf, math.inf), Box(2, 0.1, 0.2, 0.3, 0.4, math.nan)))
    (row,) = layers_with(definition, "rect")[0]["rows"]
    assert row["upper"] == row["high"] == definition["layer"][0]["encoding"]["y"]["scale"]["domain"][1]
    note = " ".join(definition["title"]["subtitle"])
    assert "ends at the edge" in note
    assert "without a position on these axes: 1" in note


@pytest.mark.parametrize(
    "figure",
    [
        boxes(),
        boxes(Box(1, 1, 1, 1, 1, 1)),
        boxes(Box("gone", 1, 2, 3, 4, 5)),
        boxes(Box(1, math.nan, 2, 3, 4, 5)),
        boxes(Box(1, 0, 0, 0, 0, math.inf), y=Axis("loss", "log")),
        boxes(Box(1, 1e-5, 1e-4, 1e-3, 1e-2, 1), y=Axis("loss", "one_minus_log")),
        points(Axis("nothing", "category"), []),
        points(Axis("m", "one_minus_log"), []),
        points(Axis("m", "one_minus_log"), [0.9]),
        curves(Curve([1], [1.0], dimmed=True)),
        CurvesFigure(
            "c", "m", Axis("m", "one_minus_log"), ERROR, [Curve([0.9, 0.99], [1, 2])], [MarkedValue(0.95, "here")]
        ),
    ],
    ids=range(11),
)
def test_figures_with_little_on_them_are_drawn_in_files_and_on_the_page(figure, capfd):
    assert "NaN" not in vl_convert.vegalite_to_svg(vega_lite(figure))
    assert "NaN" not in vl_convert.vegalite_to_svg(vega_lite(figure, interactive=True) | {"width": 300})
    assert capfd.readouterr() == ("", "")


def test_the_page_s_definitions_mark_what_is_selected_and_the_files_do_not():
    figure = PointsFigure("p", "P", STEP, ERROR, [Point(1, 1, trial=7), Point(2, None, trial=8)])
    definition = vega_lite(figure, interactive=True)
    assert {"name": "selected", "value": None} in definition["params"]
    assert "selected" not in json.dumps(vega_lite(figure))
    definition |= {"width": 300, "params": [{"name": "selected", "value": {"7": True}}]}
    svg = vl_convert.vegalite_to_svg(definition)
    assert svg.count('stroke="#111111"') == 1
    assert svg.count('fill-opacity="0.22"') == 1


def test_a_selected_curve_is_thick_and_dark_where_it_was_dimmed():
    front, behind = Curve([0, 1], [1.0, 0.5], "a", trial=1), Curve([0, 1], [1.0, 0.7], trial=2, dimmed=True)
    definition = vega_lite(curves(front, behind), interactive=True) | {"width": 300}
    for trial, stroke, width in ((1, COLOURS[0], 3), (2, "#111111", 2.5)):
        definition["params"] = [{"name": "selected", "value": {str(trial): True}}]
        svg = vl_convert.vegalite_to_svg(definition)
        assert f'stroke="{stroke}" stroke-opacity="1" stroke-width="{width}"' in svg


def test_definitions_follow_vega_lite_s_schema(every_figure):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import altair
    # Slow, so one of each kind of layer and axis.
    names = {"axis-activation", "curves", "budget"}
    chosen = [item for item in every_figure if item.name in names]
    assert {item.name for item in chosen} == names
    for figure in chosen:
        definition = vega_lite(figure, interactive=figure.name != "budget")
        for part in definition["layer"]:
            # Every row is validated, and they are all alike.
            part["data"]["values"] = part["data"]["values"][:1]
        altair.LayerChart.from_dict(definition, validate=True)


@pytest.mark.parametrize("cores", [1, 2])
def test_the_processes_that_draw_share_the_drawings_and_are_gone_afterwards(tmp_path, monkeypatch, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {*range(cores)}, raising=False)
    text = json.dumps(vega_lite(boxes(Box(1, 1, 2, 3, 4, 5))))
    plots = plots_in(tmp_path, text)
    with renderers() as ready:
        assert len(ready) == cores
        assert draw_all(plots, ready) == []
    assert [renderer.process.returncode for renderer in ready] == [0] * cores
    contents = {Path(path).read_bytes() for plot in plots for path in (plot.svg, plot.png)}
    assert contents == {vl_convert.vegalite_to_svg(text).encode(), (tmp_path / "0.png").read_bytes()}


def test_processes_that_are_given_nothing_end_with_the_block(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 1}, raising=False)
    with renderers() as ready:
        pass
    assert {renderer.process.returncode for renderer in ready} == {-signal.SIGKILL}


@pytest.mark.parametrize("started", [True, False])
def test_a_process_that_cannot_draw_at_all_costs_the_drawings_and_says_why(tmp_path, monkeypatch, started):
    """As under `ulimit -v`: the library ends its process before it draws anything."""
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho '# Fatal process out of memory: Oilpan' >&2\nkill -TRAP $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    plots = plots_in(tmp_path, json.dumps(vega_lite(boxes())))
    drawing: contextlib.AbstractContextManager[list[Renderer]] = renderers() if started else contextlib.nullcontext([])
    with drawing as ready:
        undrawn = draw_all(plots, ready)
    assert {item.plot for item in undrawn} == {*plots}
    cause = "the process that draws was ended by SIGTRAP (Fatal process out of memory: Oilpan)"
    assert {item.cause for item in undrawn} == {cause}
    assert all(item.died for item in undrawn)


def test_a_drawing_at_which_the_library_dies_costs_no_other(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "vl_convert.py").write_text(LIBRARY_THAT_DIES)
    plots = [
        PlotFiles(text, f"{tmp_path / str(number)}.svg", f"{tmp_path / str(number)}.png")
        for number, text in enumerate(["a", "b", "die", "c", "refuse", "d", "die", "e"])
    ]
    with renderers() as ready:
        undrawn = draw_all(plots, ready)
    assert sorted((item.plot.definition, item.died) for item in undrawn) == [
        ("die", True),
        ("die", True),
        ("refuse", False),
    ]
    assert {item.cause for item in undrawn if not item.died} == {"ValueError: no such mark"}
    assert sorted(path.read_text() for path in tmp_path.glob("*.svg")) == ["a", "b", "c", "d", "e"]


def test_a_file_that_cannot_be_written_is_an_error_of_the_disk(tmp_path):
    (plot,) = plots_in(tmp_path, json.dumps(vega_lite(boxes())))[:1]
    Path(plot.svg).mkdir()
    with pytest.raises(OSError, match="directory"):
        draw_all([plot])


LIBRARY_THAT_DIES = """
import os, sys

def vegalite_to_svg(definition):
    if definition == "die":
        os.kill(os.getpid(), 11)
    if definition == "refuse":
        raise ValueError("no such mark")
    return definition

def svg_to_png(svg, scale):
    return svg.encode()
"""


def plots_in(folder, text):
    """Enough plots of one definition for two processes."""
    folder.mkdir(exist_ok=True)
    return [PlotFiles(text, f"{folder / str(number)}.svg", f"{folder / str(number)}.png") for number in range(8)]


def test_figures_are_written_with_their_paths_in_order(tmp_path):
    names = [path.name for path in write_figures(tmp_path / "plots", [boxes(), points(STEP, [1.0])]).paths]
    assert names == ["b.svg", "b.png", "p.svg", "p.png"]
    assert COLOURS[0] in (tmp_path / "plots" / "p.svg").read_text()
