"""Tests procedures/curvature_measures.py and bound_figures.py: what lr-sweep and warmup-sweep say of the curvature."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
from made_up_runs import blow_up, play, spec_with
from narrowing import as_number, of_type

from tunectl.analysis.figures.figures import CurvesFigure
from tunectl.procedures.lr_options import LrSweepOptions
from tunectl.procedures.lr_phases import GRID
from tunectl.procedures.lr_sweep import LR_SWEEP
from tunectl.procedures.warmup_search import WarmupSweepOptions
from tunectl.procedures.warmup_sweep import LENGTHS, REFINED, WARMUP_SWEEP

MOMENTUM = {"optimizer": "momentum", "momentum": 0.9, "batch_size": 64}

sweep = partial(
    spec_with,
    LrSweepOptions,
    values=MOMENTUM,
    learning_rates=(0.001, 1.0),
    options={"follow_up": False, "points": 7},
)


def measured(values: Mapping[str, Any], repeat: int) -> dict[str, Any]:
    """Rates above 0.05 diverge; at the start the eigenvalue is 100 for the first seed, 110, 120 for the others."""
    rate, eigenvalue = as_number(values["learning_rate"]), 100.0 + 10 * repeat
    at = {"lambda_1": eigenvalue, "converged": 1.0, "loss": 2.3, "critical_learning_rate": 0.04}
    bound = {"bound": 3.8 / rate, "ratio": eigenvalue * rate / 3.8}
    found: dict[str, Any] = {"value": 0.1 + abs(rate - 0.03), "curvature": lambda _step: at | bound}
    if rate > 0.05:
        return {**found, "value": 0.9, "state": "infeasible", "reason": "nan_loss", "loss": blow_up(400, repeat, 9)}
    return found


def test_lr_sweep_measures_the_start_once_for_each_seed_and_says_the_predicted_rate_beside_the_measured_one():
    asked, found = play(LR_SWEEP, sweep(), measured)
    at = [(wish.phase, wish.changes["learning_rate"], wish.repeat) for wish in asked if wish.curvature is not None]
    assert sorted(at) == [(GRID, 0.001, repeat) for repeat in range(3)], "where training begins all rates are alike"
    assert all(wish.curvature.at == (0,) for wish in asked if wish.curvature is not None)
    assert not any(wish.curvature_needed for wish in asked if wish.curvature is not None)
    assert found.answers["predicted_unstable_learning_rate"] == pytest.approx(3.8 / 110)
    assert found.answers["unstable_base_learning_rate"] == pytest.approx(0.1)
    assert found.answers["curvature"]["critical_learning_rate"]["median"] == 0.04
    assert (
        "The largest eigenvalue of the Hessian is 110 (median of 3 seeds, 100 to 120) at the start; by it training is "
        "predicted to be unstable above a rate of 0.0345 (the first update alone raises the loss from about 0.04 on); "
        "the sweep found 0.1."
    ) in found.verdict


def test_a_prediction_from_eigenvalues_that_did_not_converge_says_so_and_a_limit_of_a_search_is_no_critical_rate():
    def unsure(values: Mapping[str, Any], repeat: int) -> dict[str, Any]:
        found = measured(values, repeat)
        at = found["curvature"](0) | {"converged": 0.0, "critical_limit": 1.0}
        return found | {"curvature": lambda _step: at}

    _, found = play(LR_SWEEP, sweep(), unsure)
    assert found.answers["curvature"]["eigenvalues_not_converged"] == 3
    assert found.answers["curvature"]["critical_learning_rate"] is None
    assert "0.0345, or above a lower one, since the eigenvalue did not converge under 3 of 3 seeds" in found.verdict


def test_no_rate_is_predicted_where_the_trials_compare_their_eigenvalue_with_no_bound():
    def of_groups(values: Mapping[str, Any], repeat: int) -> dict[str, Any]:
        found = measured(values, repeat)
        at = {name: value for name, value in found["curvature"](0).items() if name not in ("bound", "ratio")}
        return found | {"curvature": lambda _step: at}

    _, found = play(LR_SWEEP, sweep(), of_groups)
    assert found.answers["predicted_unstable_learning_rate"] is None
    assert (
        "no stability bound is known where the workload's parameter_groups have options of their own" in found.verdict
    )


def test_an_adaptive_optimizer_is_measured_when_its_preconditioner_is_made_of_many_gradients_too():
    asked, _ = play(LR_SWEEP, sweep(values={"optimizer": "adamw", "batch_size": 64}), measured)
    assert {wish.curvature.at for wish in asked if wish.curvature is not None} == {(0, 50)}


def test_where_the_curvature_was_not_measured_lr_sweep_says_what_it_said_before():
    def unmeasured(values: Mapping[str, Any], repeat: int) -> dict[str, Any]:
        return {**measured(values, repeat), "curvature": None}

    _, found = play(LR_SWEEP, sweep(), unmeasured)
    assert found.answers["predicted_unstable_learning_rate"] is None
    assert found.answers["curvature"] is None
    assert "eigenvalue" not in found.verdict


def test_own_code_is_not_measured_and_its_conclusions_are_as_before():
    own: dict[str, Any] = {"values": {"width": 3}, "own_code": True}
    asked, found = play(LR_SWEEP, sweep(**own), measured)
    assert all(wish.curvature is None for wish in asked)
    assert "curvature" not in found.answers
    before = {"best_learning_rate": 0.02, "unstable_base_learning_rate": 0.05, "edge_of_stability": True}
    asked, _ = play(WARMUP_SWEEP, spec_with(WarmupSweepOptions, before=before, **own), measured)
    assert all(wish.curvature is None for wish in asked)


def test_warmup_sweep_draws_the_eigenvalue_and_its_bound_over_the_warmups_that_it_tried():
    before = {"best_learning_rate": 0.02, "unstable_base_learning_rate": 0.05, "edge_of_stability": True}

    def world(values: Mapping[str, Any], repeat: int) -> dict[str, Any]:
        found = measured({**values, "learning_rate": 0.03}, repeat)
        return found if int(values.get("warmup_steps") or 0) >= 100 else {**found, "loss": blow_up(400, repeat, 30)}

    asked, found = play(WARMUP_SWEEP, spec_with(WarmupSweepOptions, values=MOMENTUM, before=before), world)
    measuring = [wish for wish in asked if wish.curvature is not None]
    assert {wish.phase for wish in measuring} == {LENGTHS, REFINED}
    assert {wish.repeat for wish in measuring} == {0}, "one seed of each"
    for wish in measuring:
        warmup = int(as_number(wish.changes["warmup_steps"]))
        at = wish.curvature.at if wish.curvature else ()
        assert {0, 1, 2, 5, 10, 20, 50, 100, 200, 500, warmup} <= {*at}
        assert max(at) == warmup + wish.training["max_train_steps"], "the end"
    figure = of_type(CurvesFigure, next(item for item in found.figures if item.name == "curvature-at-0_5"))
    assert {curve.series for curve in figure.curves} == {"10", "33", "11", "100", "300"}
    solid = [curve for curve in figure.curves if not curve.dashed]
    dashed = [curve for curve in figure.curves if curve.dashed]
    assert len(solid) == len(dashed) == 5
    assert {value for curve in solid for value in curve.y} == {100.0}
    assert solid[0].x[0] == 1, "step 0 has a place on the logarithmic axis: the next update is the first"
