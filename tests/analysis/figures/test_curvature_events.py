"""Where crossings, catapults and divergences are on the curves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from planted_curvature import PLANTED, run_of

from tunectl.analysis.curvature.catapults import catapults
from tunectl.analysis.figures.curvature_events import MOST_CROSSINGS, loss_events, ratio_events
from tunectl.analysis.results.runs import Run
from tunectl.core.records import PlannedTrial

PLAN = PlannedTrial(7, 0, 0, 0, (), {"learning_rate": 0.1}, 0)


def run_with(ratio, steps=None, **changes):
    steps = 10.0 * np.arange(len(ratio)) if steps is None else np.array(steps, dtype=float)
    values = np.array(ratio, dtype=float)
    bound = np.full(len(ratio), 2.0)
    curves = {"ratio": values, "bound": bound, "lambda_1": values * bound, "converged": np.ones(len(ratio))}
    return Run(
        PLAN,
        changes.pop("state", "completed"),
        curves={f"curvature/{name}": (steps, array) for name, array in curves.items()},
        **changes,
    )


def test_a_crossing_is_where_the_drawn_line_crosses_the_bound():
    rise, fall = ratio_events(run_with([0.25, 4.0, 0.5]), "trial 7")
    assert (rise.kind, rise.y) == ("rise", 1.0)
    assert rise.x == pytest.approx(5.0), "halfway on a logarithmic axis"
    assert fall.kind == "fall"
    assert fall.x == pytest.approx(10 + 10 * math.log(4) / math.log(8))
    assert rise.trial == 7
    assert rise.label == "trial 7 goes above the stability bound between steps 0 and 10"


def test_a_rise_from_a_ratio_of_zero_is_where_the_curve_begins():
    (rise,) = ratio_events(run_with([0.0, 3.0, 4.0]), "trial 7")
    assert (rise.kind, rise.x) == ("rise", 10)


def test_at_the_edge_of_stability_only_some_of_the_crossings_are_marked():
    found = ratio_events(run_with([0.9, 1.1] * 200), "trial 7")
    assert len(found) == MOST_CROSSINGS
    assert found[-1].x > 3500


def test_crossings_of_dimmed_trials_are_not_marked():
    assert ratio_events(run_with([0.25, 4.0]), "") == []


def test_a_catapult_is_at_its_peak_on_both_curves():
    run = run_of(PLANTED["catapult"][1](np.random.default_rng(4)), 3)
    steps, ratio = run.curves["curvature/ratio"]
    run = Run(
        run.plan, run.state, curves={**run.curves, "curvature/loss": (steps, 5 - ratio / 10)}, updates=run.updates
    )
    found = catapults(run)
    assert found
    on_ratio = [event for event in ratio_events(run, "trial 3") if event.kind == "catapult"]
    assert [event.x for event in on_ratio] == [item.peak for item in found]
    assert [event.x for event in loss_events(run, "trial 3")] == [item.peak for item in found]
    assert ratio.min() <= on_ratio[0].y <= ratio.max()
    assert "the loss rises by a factor of" in on_ratio[0].label


def test_a_divergence_is_at_the_last_point_that_is_drawn():
    lost = run_with([0.5, 2.0, math.inf], state="infeasible", reason="nan_loss", infeasible_step=23)
    rise, end = ratio_events(lost, "trial 7")
    assert (rise.kind, end.kind) == ("rise", "divergence")
    assert end.x == 10.0
    assert end.y == pytest.approx(2.0)
    assert end.label == "trial 7 diverges at step 23 (nan_loss)"


def test_what_is_infeasible_for_another_reason_has_not_diverged():
    assert ratio_events(run_with([0.5, 0.6], state="infeasible", reason="out_of_memory"), "trial 7") == []


def test_a_trial_without_any_line_has_no_events():
    assert ratio_events(Run(PLAN, "infeasible", "nan_loss", 1), "trial 7") == []
