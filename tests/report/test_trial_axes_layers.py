"""Tests report/trial_axes_layers.py: parallel coordinates and small plots of pairs as they are drawn."""

from __future__ import annotations

import math

import pytest
import vl_convert
from made_up_figures import layers_with

from tunectl.analysis.figures.figures import Axis, PairsFigure, ParallelFigure, TrialOnAxes
from tunectl.report import trial_axes_layers
from tunectl.report.plots import vega_lite

AXES = [Axis("learning_rate", "log"), Axis("optimizer", "category", ["adam", "sgd"]), Axis("error")]
TRIALS = [
    TrialOnAxes([1e-3, "adam", 0.4], 0.4, "0", 0),
    TrialOnAxes([1e-2, None, 0.2], 0.2, "1", 1),
    TrialOnAxes([1e-1, "sgd", None], None, "2", 2),
]
COLOUR = Axis("error", searched=(0.2, 0.4))


def parallel(trials=TRIALS):
    return ParallelFigure("parallel", "All", AXES, trials, COLOUR)


def pairs(trials=TRIALS):
    return PairsFigure("pairs", "Pairs", AXES, trials, COLOUR)


def test_a_line_goes_from_axis_to_axis_at_the_share_of_each_value():
    (infeasible, feasible) = layers_with(vega_lite(parallel()), "line")
    places = {(row["line"], row["x"]): row["y"] for layer in (infeasible, feasible) for row in layer["rows"]}
    low, middle, high = (places[number, 0] for number in range(3))
    assert 0 <= low < middle < high <= 1
    assert middle == pytest.approx((low + high) / 2), "the axis is logarithmic"
    assert places[0, 1] < places[2, 1], "adam is below sgd"
    assert {row["line"] for row in infeasible["rows"]} == {2}
    assert infeasible["mark"]["strokeDash"]


def test_what_is_not_active_is_below_the_axes_and_an_infeasible_end_above_and_both_are_explained():
    definition = vega_lite(parallel())
    infeasible, feasible = layers_with(definition, "line")
    (inactive,) = [row for row in feasible["rows"] if row["shown_y"] == "not active"]
    assert (inactive["line"], inactive["x"]) == (1, 1)
    assert inactive["y"] < 0
    (end,) = [row for row in infeasible["rows"] if row["shown_y"] == "infeasible"]
    assert end["y"] > 1
    notes = trial_axes_layers.parallel(parallel(), interactive=False)[2]
    assert notes == ["below the axes: not active", "dashed, to above the last axis: infeasible (1)"]
    assert trial_axes_layers.parallel(parallel(TRIALS[:1]), interactive=False)[2] == []


def test_the_trials_of_one_category_are_spread_so_that_their_lines_do_not_overlap():
    same = [TrialOnAxes([1e-3, "adam", 0.1 * number], 0.1 * number, str(number), number) for number in range(1, 6)]
    (lines,) = layers_with(vega_lite(parallel(same)), "line")
    heights = [row["y"] for row in lines["rows"] if row["x"] == 1]
    assert len(set(heights)) == 5


def test_each_pair_has_a_square_below_the_diagonal_and_a_trial_without_a_value_on_an_axis_is_not_in_its_squares():
    circles, crosses = layers_with(vega_lite(pairs()), "point")
    squares = {(math.floor(row["x"]), math.floor(-row["y"])) for row in circles["rows"] + crosses["rows"]}
    assert all(left < down for left, down in squares)
    assert {(row["trial"], math.floor(row["x"]), math.floor(-row["y"])) for row in circles["rows"]} == {
        *((0, 0, 1), (0, 0, 2), (0, 1, 2)),
        (1, 0, 2),
    }
    assert {(row["trial"], math.floor(row["x"]), math.floor(-row["y"])) for row in crosses["rows"]} == {(2, 0, 1)}
    (frames,) = layers_with(vega_lite(pairs()), "rect")
    assert len(frames["rows"]) == 3


@pytest.mark.parametrize("figure", [parallel(), pairs(), parallel([]), pairs([])], ids=["p", "q", "no-p", "no-q"])
def test_the_library_draws_it(figure):
    assert "<svg" in vl_convert.vegalite_to_svg(vega_lite(figure))
