"""Tests report/plots.py.

The intervals of axes (intervals.py) are tested by test_plot_layers.py.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest
import vl_convert

from tunectl.analysis.figures.figures import (
    Axis,
    Curve,
    CurvesFigure,
    HistogramFigure,
    MarkedValue,
    Point,
    PointsFigure,
)
from tunectl.report.intervals import Interval, bins, thinned
from tunectl.report.plots import HEIGHT, INFEASIBLE_COLOUR, MOST_POINTS, PNG_SCALE, WIDTH, vega_lite, write_figure

RATE = Axis("learning rate", "log")
ERROR = Axis("best valid/error_rate")
STEP = Axis("step")
LOSS = Axis("loss (nats)", "log")


def points_figure(points, marks=(), x=RATE, y=ERROR):
    return PointsFigure("points", "Error against learning rate", x, y, points, marks, "warmup")


def curves_figure(curves, marks=(), x=STEP, y=LOSS):
    return CurvesFigure("curves", "Loss", x, y, curves, marks, "learning rate")


POINTS = [Point(0.001, 0.3, "no", "trial 0"), Point(0.01, 0.1, "yes", "trial 1"), Point(0.1, None, "no", "trial 2")]
MARKS = [MarkedValue(0.01, "best 0.01"), MarkedValue(0.2, "goal", "y")]


def layers_with(definition, mark):
    """The layers of this mark, each with its rows under "rows"."""
    found = []
    for layer in definition["layer"]:
        data = layer.get("data") or definition["data"]
        if layer["mark"]["type"] == mark:
            found.append({**layer, "rows": data["values"]})
    return found


def values(layer):
    return layer["rows"]


def lines(definition):
    found: dict[str, list[tuple[object, object]]] = {}
    for row in values(layers_with(definition, "line")[0]):
        found.setdefault(row["line"], []).append((row["x"], row["y"]))
    return found


def test_a_figure_is_written_as_svg_and_png_and_only_where_it_changed(tmp_path):
    paths = write_figure(tmp_path / "plots", points_figure(POINTS, MARKS))
    assert [path.name for path in paths] == ["points.svg", "points.png"]
    svg, png = (path.read_bytes() for path in paths)
    assert svg.startswith(b"<svg")
    width, height = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
    assert PNG_SCALE * WIDTH < width < 1.4 * PNG_SCALE * WIDTH
    assert PNG_SCALE * HEIGHT < height < 1.6 * PNG_SCALE * HEIGHT
    before = [(path.stat().st_mtime_ns, path.stat().st_ino) for path in paths]
    assert write_figure(tmp_path / "plots", points_figure(POINTS, MARKS)) == paths
    assert [(path.stat().st_mtime_ns, path.stat().st_ino) for path in paths] == before
    write_figure(tmp_path / "plots", points_figure(POINTS[:1]))
    assert paths[0].read_bytes() != svg
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["points.png", "points.svg"]


def test_the_same_figure_gives_the_same_definition():
    for figure in (points_figure(POINTS, MARKS), curves_figure([Curve([1, 2], [3, 4], "a")], MARKS)):
        assert json.dumps(vega_lite(figure)) == json.dumps(vega_lite(figure))


def test_infeasible_trials_are_red_crosses_in_a_strip_above_the_others():
    circles, crosses = layers_with(vega_lite(points_figure(POINTS)), "point")
    assert [row["x"] for row in values(circles)] == [0.001, 0.01]
    (cross,) = values(crosses)
    assert (cross["x"], cross["shown_y"]) == (0.1, "infeasible")
    assert (crosses["mark"]["shape"], crosses["mark"]["color"]) == ("cross", INFEASIBLE_COLOUR)
    low, high = crosses["encoding"]["y"]["scale"]["domain"]
    assert low < 0.1 < 0.3 < cross["y"] < high


def test_colours_follow_the_order_of_the_series_and_differ():
    scale = layers_with(vega_lite(points_figure(POINTS)), "point")[0]["encoding"]["color"]["scale"]
    assert scale["domain"] == ["no", "yes"]
    assert len(set(scale["range"])) == 2
    alone = layers_with(vega_lite(points_figure([Point(1.0, 1.0)])), "point")[0]["encoding"]["color"]
    assert "legend" not in alone


def test_log_axes_have_ticks_at_powers_of_ten():
    x = layers_with(vega_lite(points_figure([Point(1e-6, 1.0), Point(1.0, 2.0)])), "point")[0]["encoding"]["x"]
    assert x["scale"]["type"] == "log"
    assert x["axis"]["values"] == [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]


def test_a_log_axis_of_known_numbers_has_its_ticks_at_them():
    figure = CurvesFigure("c", "Steps", Axis("batch", "log", ticks=[32, 64]), Axis("steps"), [Curve([32, 64], [2, 1])])
    assert layers_with(vega_lite(figure), "line")[0]["encoding"]["x"]["axis"]["values"] == [32, 64]


@pytest.mark.parametrize(
    ("interval", "ticks"),
    [
        (Interval(0.9, 30.0, True), [1, 2, 5, 10, 20]),
        (Interval(1e-20, 1e20, True), [1e-20, 1e-15, 1e-10, 1e-5, 1, 1e5, 1e10, 1e15, 1e20]),
        (Interval(2.1, 3.9, True), [2.5, 3.0]),
    ],
)
def test_ticks_are_neither_too_few_nor_too_many(interval, ticks):
    assert interval.log_ticks() == ticks


def test_marks_are_rules_with_their_names():
    definition = vega_lite(points_figure(POINTS, MARKS))
    assert [values(layer)[0]["at"] for layer in layers_with(definition, "rule")] == [0.01, 0.2]
    names = {json.dumps(layer["encoding"]["text"]["value"]) for layer in layers_with(definition, "text")}
    assert names == {'["best 0.01"]', '"goal"'}


def test_a_mark_beyond_the_data_widens_the_axis():
    definition = vega_lite(points_figure(POINTS, [MarkedValue(10.0, "high")]))
    assert definition["layer"][0]["encoding"]["x"]["scale"]["domain"][1] > 10


def test_values_that_are_not_finite_interrupt_a_curve():
    broken = curves_figure([Curve(list(range(6)), [1.0, 2.0, math.nan, 3.0, math.inf, 4.0], "a")])
    assert list(lines(vega_lite(broken)).values()) == [[(0, 1), (1, 2)], [(3, 3)], [(5, 4)]]


def test_zeros_and_negative_values_interrupt_a_curve_on_a_log_axis_alone():
    curve = Curve([0, 1, 2, 3], [1.0, 0.0, -1.0, 4.0], "a")
    assert len(lines(vega_lite(curves_figure([curve])))) == 2
    assert len(lines(vega_lite(curves_figure([curve], y=Axis("loss"))))) == 1


def test_a_long_curve_is_thinned_and_keeps_a_spike_of_one_update():
    y = [1.0 + 0.1 * math.sin(place) for place in range(30_000)]
    y[12_345], y[23_456] = 90.0, 0.001
    definition = vega_lite(curves_figure([Curve(list(range(30_000)), y, "a")]))
    (drawn,) = lines(definition).values()
    assert 0.3 * MOST_POINTS < len(drawn) <= 1.25 * MOST_POINTS
    assert (12_345, 90.0) in drawn
    assert (23_456, 0.001) in drawn
    assert [drawn[0][0], drawn[-1][0]] == [0, 29_999]
    assert [x for x, _ in drawn] == sorted(x for x, _ in drawn)
    assert "thinned" in definition["title"]["subtitle"][0]


def test_thinning_keeps_gaps_and_short_curves_as_they_are():
    y: list[float | None] = [1.0] * 10_000
    y[5000] = None
    kept = thinned(list(range(10_000)), y, 200, Interval(0, 10_000))
    assert (5000, None) in kept
    assert thinned([1, 2], [3.0, None], 200, Interval(0, 3)) == [(1, 3.0), (2, None)]


def test_a_blow_up_does_not_press_all_else_together():
    calm = Curve(list(range(100)), [2.0] * 100, "0.01")
    wild = Curve(list(range(5)), [2.0, 1e3, 1e9, 1e20, 1e34], "0.1")
    definition = vega_lite(curves_figure([calm, wild]))
    assert definition["layer"][0]["encoding"]["y"]["scale"]["domain"][1] == 2000
    assert "cut off" in definition["title"]["subtitle"][0]


def test_a_histogram_counts_every_value_once_in_bins_even_on_its_axis():
    norms = [10 ** (place / 100) for place in range(-200, 200)] + [math.nan, math.inf, 0.0]
    definition = vega_lite(HistogramFigure("h", "Norms", Axis("norm", "log"), norms, [MarkedValue(1.0, "typical")]))
    bars = values(layers_with(definition, "rect")[0])
    assert sum(bar["count"] for bar in bars) == 400
    assert all(bar["to"] / bar["from"] == pytest.approx(bars[0]["to"] / bars[0]["from"]) for bar in bars)
    assert "3 values" in definition["title"]["subtitle"][0]


def test_bins_hold_what_lies_between_their_edges():
    numbers = [0.0, 0.1, 0.25, 0.5, 0.99, 1.0]
    found = bins(numbers, Interval(0.0, 1.0), 4)
    assert [count for _, _, count in found] == [2, 1, 1, 2]


EMPTY = [
    points_figure([]),
    points_figure([Point(0.1, None), Point(0.2, math.nan)]),
    points_figure([Point(0.1, 0.5)]),
    points_figure([Point(0.1, 0.5), Point(0.1, 0.5)]),
    points_figure([Point(0.0, 0.5), Point(-1.0, 0.0)], y=Axis("loss", "log")),
    points_figure([Point(1e-300, 1e-300), Point(1e300, 1e300)], y=Axis("loss", "log")),
    points_figure([Point(0.1, 0.0), Point(0.2, 0.0)]),
    points_figure([Point(0.1, -1e308), Point(0.2, 1e308)]),
    curves_figure([]),
    curves_figure([Curve([], [], "a")]),
    curves_figure([Curve([0], [math.nan], "a")]),
    curves_figure([Curve([0, 1], [0.0, 0.0], "a")]),
    curves_figure([Curve([0], [1.0], "a")], [MarkedValue(math.nan, "none"), MarkedValue(0.0, "zero", "y")]),
    HistogramFigure("h", "Norms", Axis("norm", "log"), []),
    HistogramFigure("h", "Norms", Axis("norm", "log"), [0.0, 0.0, math.inf]),
    HistogramFigure("h", "Norms", Axis("norm"), [3.0] * 10),
]


@pytest.mark.parametrize("figure", EMPTY, ids=range(len(EMPTY)))
def test_figures_with_little_or_nothing_on_them_are_drawn(figure, capfd):
    assert "NaN" not in vl_convert.vegalite_to_svg(vega_lite(figure))
    assert capfd.readouterr() == ("", "")


def test_what_a_user_wrote_is_plain_text(tmp_path):
    nasty = "<script>alert('x')</script> & \"q\" datum.x ${1} \\n"
    figure = PointsFigure(
        "n", nasty, Axis(nasty), Axis(nasty), [Point(1, 2, nasty, nasty)], [MarkedValue(1, nasty)], nasty
    )
    svg, _ = write_figure(tmp_path, figure)
    text = svg.read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_long_titles_are_wrapped():
    definition = vega_lite(PointsFigure("n", "word " * 60, RATE, ERROR, POINTS))
    assert len(definition["title"]["text"]) > 3
    assert all(len(line) <= 70 for line in definition["title"]["text"])


def test_the_drawing_libraries_are_loaded_only_for_drawing():
    code = (
        "import sys, tunectl.report.plots; print([n for n in ('altair', 'vl_convert', 'pandas') if n in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
