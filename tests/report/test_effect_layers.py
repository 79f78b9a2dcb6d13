"""Tests report/effect_layers.py: bars, matrix and coloured trials as they are drawn."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import pytest
import vl_convert
from made_up_figures import layers_with

from tunectl.analysis.figures.figures import Axis, Bar, BarsFigure, MatrixFigure, ShadedFigure, ShadedPoint, Tile
from tunectl.report.plots import vega_lite

NAMES = ["momentum", "learning_rate"]
CATEGORY = Axis("", "category", NAMES)
SHARE = Axis("% of the variance")


def bars(*given):
    return BarsFigure("b", "Bars", SHARE, CATEGORY, given, legend="setting")


def pair(*given, colour=SHARE):
    return ShadedFigure("s", "Pair", Axis("learning rate", "log"), CATEGORY, given, colour)


def test_bars_begin_at_zero_and_those_of_several_series_do_not_overlap():
    given = [Bar(name, 40.0, 30.0, 50.0, series) for name in NAMES for series in ("a", "b", "c")]
    definition = vega_lite(bars(*given))
    rows = layers_with(definition, "rect")[0]["rows"]
    assert definition["layer"][0]["encoding"]["x"]["scale"]["domain"][0] == 0
    spans = sorted((row["bottom"], row["top"]) for row in rows)
    assert all(lower[1] < upper[0] for lower, upper in pairwise(spans))
    assert [round(row["middle"]) for row in rows] == [0, 0, 0, 1, 1, 1]
    assert layers_with(definition, "rule")[0]["rows"][0]["high"] == 50.0


def test_an_unknown_pair_is_grey_and_a_framed_one_has_a_frame():
    tiles = [Tile("momentum", "momentum", 0.5, "50%"), Tile("momentum", "learning_rate", None, "?")]
    definition = vega_lite(MatrixFigure("m", "Pairs", CATEGORY, CATEGORY, [*tiles], SHARE))
    unknown, known = layers_with(definition, "rect")
    assert [len(unknown["rows"]), len(known["rows"])] == [1, 1]
    assert "color" not in unknown["encoding"]
    (text,) = layers_with(definition, "text")
    assert {row["text"] for row in text["rows"]} == {"50%", "?"}


@pytest.mark.parametrize(("ends", "reverse"), [((0.1, 0.4), False), ((0.9, 0.5), True)], ids=["low", "high"])
def test_the_best_trials_are_the_darkest_whichever_direction_is_better(ends, reverse):
    points = [ShadedPoint(0.1 * place, "momentum", 0.1 * place, trial=place) for place in range(1, 5)]
    definition = vega_lite(pair(*points, colour=Axis("error", searched=ends)))
    (circles,) = [layer for layer in layers_with(definition, "point") if layer["mark"]["shape"] == "circle"]
    scale = circles["encoding"]["color"]["scale"]
    assert (scale["domain"], scale["reverse"]) == (sorted(ends), reverse)


def test_infeasible_trials_are_crosses_and_counted():
    definition = vega_lite(pair(ShadedPoint(0.1, "momentum", None), ShadedPoint(0.2, "momentum", 0.5)))
    circles, crosses = layers_with(definition, "point")  # drawn last: settings share points, and a circle would hide it
    assert (circles["mark"]["shape"], crosses["mark"]["shape"]) == ("circle", "cross")
    assert len(crosses["rows"]) == 1
    assert definition["title"]["subtitle"] == ["× infeasible (1 of 2)"]


@pytest.mark.parametrize(
    "figure",
    [
        bars(),
        bars(Bar("gone", 1.0, 0.0, 2.0)),
        bars(Bar("momentum", 0.0, 0.0, 0.0)),
        MatrixFigure("m", "Pairs", Axis("", "category"), Axis("", "category"), [], SHARE),
        MatrixFigure("m", "Pairs", CATEGORY, CATEGORY, [Tile("momentum", "momentum", 0.0)], SHARE),
        pair(),
        pair(ShadedPoint(0.0, "gone", 1.0), ShadedPoint(math.nan, "momentum", 1.0)),
        pair(*[ShadedPoint(0.1, "momentum", 1.0)] * 3, colour=Axis("error", "log", searched=(1.0, 1.0))),
    ],
    ids=["no bars", "no place", "zero", "no tiles", "tile of zero", "no points", "no position", "one value"],
)
def test_a_figure_with_little_in_it_is_drawn(figure):
    assert vl_convert.vegalite_to_svg(vega_lite(figure)).startswith("<svg")
    vega_lite(figure, interactive=True)


def test_the_legend_of_bars_has_a_setting_below_the_other_and_each_of_its_values_on_a_line():
    names = ["optimizer=nesterov, schedule=linear", "optimizer=adam, schedule=constant"]
    definition = vega_lite(bars(*(Bar("momentum", 40.0, 30.0, 50.0, name) for name in names)), interactive=True)
    legend = definition["layer"][0]["encoding"]["color"]["legend"]
    assert legend["columns"] == 1
    svg = vl_convert.vegalite_to_svg({**definition, "width": 150, "autosize": "pad"})
    for part in (name for setting in names for name in setting.replace(", ", ",\n").split("\n")):
        assert f">{part}</" in svg, "a text of its own"


def test_a_scale_of_colours_is_not_wider_than_a_narrow_plot():
    point = ShadedPoint(0.1, "momentum", 0.5)
    definition = vega_lite(pair(point))
    for width, expected in ((640, 220), (150, 135), (20, 90)):
        svg = vl_convert.vegalite_to_svg({**definition, "width": width})
        lengths = re.findall(r'd="M0,0h([\d.]+)v[\d.]+h-[\d.]+Z" fill="url\(#gradient', svg)
        assert [float(length) for length in lengths] == [expected]
