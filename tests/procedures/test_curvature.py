"""Tests procedures/curvature.py, its options, runs, measures, conclusion and figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from made_up_runs import blow_up, play, play_in_pieces, spec_with
from narrowing import as_number

from tunectl.analysis.figures.figures import CurvesFigure, PointsFigure
from tunectl.core.curvature_settings import CurvatureSettings
from tunectl.procedures.curvature import CURVATURE_SWEEP
from tunectl.procedures.curvature_measures import measured_steps
from tunectl.procedures.curvature_options import (
    INITIAL,
    SHOWN,
    WITH,
    WITHOUT,
    CurvatureOptions,
    CurvatureSweep,
)
from tunectl.procedures.curvature_runs import RateOutcomes
from tunectl.procedures.procedure import MOST_COVERED, SweepSetting, Wish

MOMENTUM = {"optimizer": "momentum", "momentum": 0.9, "batch_size": 64, "warmup_steps": 7}

spec = partial(
    spec_with, CurvatureOptions, values=MOMENTUM, learning_rates=(0.001, 1.0), options={"points": 7, "warmup": 300}
)


def sharp(
    at_init: float = 100.0, *, allowed: float = 3.8, warmed_up: float = 10.0, metric: str = "lambda_1", nan: bool = True
):
    """A loss whose eigenvalue at initialisation grows by a tenth with every seed, from `at_init` on.

    A rate trains up to `allowed` / the eigenvalue, and with a warmup up to `warmed_up` times as far. What diverges has
    its eigenvalue tenfold at update 40, and then a NaN, or dies without one.
    """

    def happens(values: Mapping[str, Any], repeat: int) -> dict[str, Any]:
        rate, eigenvalue = as_number(values["learning_rate"]), at_init * (1 + 0.1 * repeat)
        limit = allowed / at_init * (warmed_up if values.get("warmup_steps") else 1.0)

        def measured(step: int) -> dict[str, float]:
            diverging = rate > limit and step >= 40
            value = 10 * eigenvalue if diverging else eigenvalue if step < 100 else 3.8 / rate
            bound = {"bound": 3.8 / rate, "ratio": value * rate / 3.8}
            critical = {"critical_learning_rate": 3 / eigenvalue}
            return {"lambda_1": eigenvalue, metric: value, "converged": 1.0, "loss": 2.0, **bound, **critical}

        if rate <= limit:
            return {"value": 0.1 - 0.01 * math.log(rate / 1e-4), "curvature": measured}
        end = {"reason": "nan_loss", "infeasible_step": 55} if nan else {"reason": "no_progress"}
        return {"value": 0.9, "state": "infeasible", "loss": blow_up(400, repeat, 40), "curvature": measured, **end}

    return happens


def of_phase(asked: list[Wish], phase: int) -> list[Wish]:
    return [wish for wish in asked if wish.phase == phase]


def test_the_predicted_rate_the_largest_that_trained_and_what_the_warmup_changed_are_answered():
    _, found = play(CURVATURE_SWEEP, spec(), sharp())
    (setting,) = found.answers["settings"]
    assert setting["lambda_1_at_init"] == {"median": 120.0, "lowest": 100.0, "highest": 140.0, "seeds": 5}
    # Momentum is unstable where the eigenvalue is above 2 (1 + beta) / rate; the paper draws 2 / rate.
    assert setting["predicted_rate"] == pytest.approx(2 * 1.9 / 120)
    assert setting["predicted_rate_of_the_paper"] == pytest.approx(2 / 120)
    assert setting["critical_learning_rate"]["median"] == pytest.approx(3 / 120)
    # The grid: 0.001, 0.00316, 0.01, 0.0316, 0.1, 0.316, 1.
    assert setting["largest_rate_that_trained"] == pytest.approx(0.0316228)
    assert setting["smallest_rate_that_diverged"] == pytest.approx(0.1)
    assert setting["measured_over_predicted"] == 1.0
    assert setting["largest_rate_that_trained_with_warmup"] == pytest.approx(0.316228)
    assert setting["warmup_factor"] == pytest.approx(10)
    assert "120 (median of 5 seeds, 100 to 140)" in found.verdict
    assert "by it training is predicted to be unstable above a rate of 0.0317" in found.verdict
    assert "the prediction holds" in found.verdict
    assert "With a warmup of 300 steps rates up to 0.316 train, 10 times as large." in found.verdict
    assert len(found.rows) == 1
    assert len(found.rows[0]) == len(found.header)


@pytest.mark.parametrize(("allowed", "way", "by"), [(38.0, "too low", 10.0), (0.38, "too high", 3.16667)])
def test_a_prediction_that_does_not_hold_is_off_by_the_factor_to_the_nearest_measured_rate(allowed, way, by):
    _, found = play(CURVATURE_SWEEP, spec(), sharp(allowed=allowed))
    (setting,) = found.answers["settings"]
    ratio = setting["measured_over_predicted"]
    assert (ratio > 1) is (way == "too low")
    nearest = setting["largest_rate_that_trained" if way == "too low" else "smallest_rate_that_diverged"]
    assert ratio == pytest.approx(nearest / setting["predicted_rate"])
    assert max(ratio, 1 / ratio) == pytest.approx(by, rel=0.06)
    assert f"the prediction is {way} by a factor of {by:.2g}"[:40] in found.verdict


def test_at_initialisation_every_seed_takes_one_update_and_the_grid_a_majority_of_its_seeds_first():
    asked, _ = play(CURVATURE_SWEEP, spec(options={"points": 7, "seeds": 4}), sharp())
    first = of_phase(asked, INITIAL)
    assert [wish.repeat for wish in first] == [0, 1, 2, 3]
    assert {wish.training["max_train_steps"] for wish in first} == {1}
    assert all(wish.curvature and wish.curvature.at == (0,) for wish in first)
    grid = [*of_phase(asked, WITHOUT), *of_phase(asked, WITH)]
    assert all(wish.changes["warmup_steps"] is None for wish in of_phase(asked, WITHOUT)), "not the study's own either"
    assert {wish.changes["warmup_steps"] for wish in of_phase(asked, WITH)} == {300}
    diverged = [wish for wish in of_phase(asked, WITHOUT) if as_number(wish.changes["learning_rate"]) > 0.04]
    assert {wish.repeat for wish in diverged} == {0, 1}, "the third seed could change nothing"
    for wish in grid:
        steps = wish.curvature.at if wish.curvature else ()
        assert {0, 1, 2, 5, 10, 20, 50, 100, 200, 300, 500, 1000, 2000} <= {*steps}
        assert max(steps) == (3300 if wish.phase == WITH else 3000), "the end is measured"


def test_measured_steps_are_dense_early_and_include_the_end():
    assert measured_steps(130, 64) == (0, 1, 2, 5, 10, 20, 50, 64, 100, 130)
    assert measured_steps(1) == (0, 1)
    assert measured_steps(10, 11) == (0, 1, 2, 5, 10)


def test_a_stable_an_edge_a_diverging_and_a_rescued_run_are_repeated_under_their_seed_and_measured_more_often():
    asked, found = play(CURVATURE_SWEEP, spec(), sharp())
    again = of_phase(asked, SHOWN)
    rates = [round(as_number(wish.changes["learning_rate"]), 4) for wish in again]
    assert rates == [0.0032, 0.0316, 0.3162, 0.3162]
    assert [wish.changes.get("warmup_steps") for wish in again] == [None, None, None, 300]
    diverging = again[2].curvature
    assert diverging is not None
    assert set(range(45, 56)) <= {*diverging.at}, "each of its last updates"
    assert max(diverging.at) == 55
    curves = next(figure for figure in found.figures if figure.name == "eigenvalue-by-step")
    assert isinstance(curves, CurvesFigure)
    assert {curve.series.partition(", ")[2] for curve in curves.curves} == {
        "stable",
        "at the edge",
        "diverges",
        "rescued by the warmup",
    }
    assert sum(curve.dashed for curve in curves.curves) == 4, "a bound for each"


def test_the_scatter_plots_have_a_cross_where_a_run_diverged_and_the_lines_of_both_bounds():
    _, found = play(CURVATURE_SWEEP, spec(), sharp())
    figures = {figure.name: figure for figure in found.figures}
    first, second = figures["lambda-1-at-initialisation"], figures["lambda-1-at-step"]
    assert isinstance(first, PointsFigure)
    assert isinstance(second, PointsFigure)
    assert heights(first) == [100.0, 110.0, 120.0]
    assert {(as_number(point.x) > 0.04, point.crossed) for point in first.points} == {(False, False), (True, True)}
    bound, paper = second.lines
    assert [rate * height for rate, height in zip(bound.x, bound.y, strict=True)] == pytest.approx([3.8] * 7)
    assert [rate * height for rate, height in zip(paper.x, paper.y, strict=True)] == pytest.approx([2.0] * 7)
    # After 300 updates: at the bound where it trains, ten times the first value where it diverged before.
    for point in second.points:
        trained = 3.8 / as_number(point.x)
        expected = (1000.0, 1100.0) if point.crossed else (trained,)
        assert any(point.y == pytest.approx(height) for height in expected)
    assert {point.series for point in second.points} == {"without warmup", "300 steps of warmup"}


def heights(figure: PointsFigure) -> list[float]:
    return sorted({round(as_number(point.y), 6) for point in figure.points})


def test_another_step_can_be_compared():
    _, found = play(CURVATURE_SWEEP, spec(options={"points": 7, "warmup": 300, "step": 33}), sharp())
    figure = next(figure for figure in found.figures if figure.name == "lambda-1-at-step")
    assert isinstance(figure, PointsFigure)
    assert heights(figure) == [100.0, 110.0, 120.0]
    assert found.answers["compared_at_step"] == 33


SETTINGS = tuple(
    SweepSetting(f"width {width}", {"optimizer": "sgd", "width": width, **more}, (0.01, 1.0))
    for width, more in ((8, {"dropout": 0.1}), (64, {}))
)


def test_every_setting_has_its_own_trials_and_its_own_answers():
    several = spec(values=SETTINGS[0].values, settings=SETTINGS, options={"points": 5})

    def world(values: Mapping[str, Any], repeat: int) -> dict[str, Any]:
        # The wide one is ten times as sharp; sgd is unstable above 2 / eigenvalue.
        return sharp(10.0 if values["width"] == 8 else 100.0, allowed=2.0, warmed_up=1.0)(values, repeat)

    asked, found = play(CURVATURE_SWEEP, several, world)
    narrow, wide = found.answers["settings"]
    assert (narrow["setting"], wide["setting"]) == ("width 8", "width 64")
    assert narrow["lambda_1_at_init"]["median"] == 12.0
    assert wide["lambda_1_at_init"]["median"] == 120.0
    assert narrow["predicted_rate"] == pytest.approx(2 / 12)
    assert wide["predicted_rate"] == pytest.approx(2 / 120)
    changes = [wish.changes for wish in asked if wish.changes.get("width") == 64]
    assert changes
    assert all(item["dropout"] is None for item in changes), "what the setting does not have is left out"
    assert found.header[0] == "setting"
    assert "In 2 of 2 settings" in found.verdict
    assert "larger rates in none of them" in found.verdict
    points = next(figure for figure in found.figures if figure.name == "lambda-1-at-initialisation")
    assert isinstance(points, PointsFigure)
    assert {point.series for point in points.points} == {"width 8", "width 64"}


def test_an_adaptive_optimizer_is_predicted_from_its_preconditioner_after_some_updates_and_lamb_not_at_all():
    values = {"optimizer": "adam", "beta1": 0.9, "batch_size": 64}

    def world(values: Mapping[str, Any], repeat: int) -> dict[str, Any]:
        made = sharp()(values, repeat)
        plain = made["curvature"]
        after = {"preconditioned_lambda_1": 500.0 + repeat, "preconditioned_lambda_1_converged": 1.0}
        return {**made, "curvature": lambda step: plain(step) | (after if step else {})}

    asked, found = play(CURVATURE_SWEEP, spec(values=values), world)
    assert all(wish.curvature and "preconditioned" in wish.curvature.measures for wish in asked)
    assert all(wish.curvature and wish.curvature.at == (0, 50) for wish in of_phase(asked, INITIAL))
    (setting,) = found.answers["settings"]
    assert {wish.training["max_train_steps"] for wish in of_phase(asked, INITIAL)} == {50}
    assert setting["bounded_eigenvalue_step"] == 50
    assert setting["bounded_eigenvalue"]["median"] == 502.0
    assert setting["predicted_rate"] == pytest.approx(2 * 1.9 / 0.1 / 502)
    assert setting["predicted_rate_of_the_paper"] == pytest.approx(40 / 502)
    assert "by the preconditioned one, 502 after 50 updates, training is predicted" in found.verdict

    _, found = play(CURVATURE_SWEEP, spec(values={**values, "optimizer": "lamb"}), sharp())
    (setting,) = found.answers["settings"]
    assert setting["predicted_rate"] is None
    assert "no stability bound is known for lamb" in setting["no_prediction_because"]
    assert setting["lambda_1_at_init"]["median"] == 120.0
    assert "no unstable rate is predicted (no stability bound is known for lamb" in found.verdict


def test_eigenvalues_that_cannot_be_compared_have_figures_of_their_own():
    both = tuple(SweepSetting(name, {"optimizer": name}, (0.01, 1.0)) for name in ("sgd", "adam"))
    world = sharp(metric="preconditioned_lambda_1")
    _, found = play(CURVATURE_SWEEP, spec(values=both[0].values, settings=both, options={"points": 3}), world)
    figures = {figure.name: figure for figure in found.figures if figure.name.endswith("-at-step")}
    assert [*figures] == ["lambda-1-at-step", "preconditioned-lambda-1-at-step"]
    for figure, optimizer, line in zip(figures.values(), ("sgd", "adam"), (2.0, 40.0), strict=True):
        assert isinstance(figure, PointsFigure)
        assert {point.series.partition(",")[0] for point in figure.points} == {optimizer}
        paper = next(item for item in figure.lines if item.dashed)
        assert [rate * height for rate, height in zip(paper.x, paper.y, strict=True)] == pytest.approx([line] * 3)


def test_what_is_not_known_is_null_with_a_reason():
    _, found = play(CURVATURE_SWEEP, spec(options={"points": 3, "high": 0.01}), sharp())
    (setting,) = found.answers["settings"]
    assert setting["smallest_rate_that_diverged"] is None
    assert setting["none_diverged_because"] == "no rate of the grid diverged: try a larger --high"
    assert setting["measured_over_predicted"] is None
    assert setting["not_compared_because"] == setting["none_diverged_because"]

    at = {"lambda_1": -1.0, "ratio": -0.1, "loss": 2.0, "converged": 1.0}

    def flat(values: Mapping[str, Any], repeat: int) -> dict[str, Any]:
        return {**sharp()(values, repeat), "curvature": lambda step: at}

    _, found = play(CURVATURE_SWEEP, spec(), flat)
    (setting,) = found.answers["settings"]
    assert setting["predicted_rate"] is None
    assert "no eigenvalue is above 0" in setting["no_prediction_because"]

    def unmeasured(values: Mapping[str, Any], repeat: int) -> dict[str, Any]:
        return {**sharp()(values, repeat), "curvature": None}

    _, found = play(CURVATURE_SWEEP, spec(), unmeasured)
    (setting,) = found.answers["settings"]
    assert setting["lambda_1_at_init"] is None
    assert setting["no_prediction_because"] == "the curvature was not measured"
    assert setting["largest_rate_that_trained"] == pytest.approx(0.0316228), "the rates are judged all the same"


def test_a_rate_that_is_too_low_to_learn_and_one_without_memory_have_not_diverged():
    def world(values: Mapping[str, Any], repeat: int) -> dict[str, Any]:
        rate = as_number(values["learning_rate"])
        reason = "no_progress" if rate < 0.002 else "out_of_memory" if rate > 0.5 else ""
        return {
            **sharp(allowed=1e9)(values, repeat),
            "reason": reason,
            "state": "infeasible" if reason else "completed",
        }

    _, found = play(CURVATURE_SWEEP, spec(), world)
    (setting,) = found.answers["settings"]
    assert setting["largest_rate_that_trained"] == pytest.approx(0.316228)
    assert setting["smallest_rate_that_diverged"] is None
    assert RateOutcomes({}).trained is None
    assert RateOutcomes({}).diverged is None


def test_the_examples_and_the_mode_are_those_of_the_study():
    own = CurvatureSettings(every=100, examples=64, mode="eval", eigenvalues=5)
    asked, _ = play(CURVATURE_SWEEP, spec(curvature=own), sharp())
    for wish in asked:
        assert wish.curvature is not None
        assert (wish.curvature.examples, wish.curvature.mode) == (64, "eval")
        assert (wish.curvature.every, wish.curvature.eigenvalues) == (None, 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"low": 1.0, "high": 0.1}, "--low, --high: expected 0 < low < high"),
        ({"points": 1}, "--points: expected at least 2, got 1"),
        ({"seeds": 0}, "--seeds: expected at least 1, got 0"),
        ({"warmup": 0}, "--warmup: expected at least 1, got 0"),
        ({"step": 4000}, "--step 4000: expected at most 3000"),
    ],
)
def test_options_that_cannot_work_are_refused(options, said):
    (line,) = CURVATURE_SWEEP.problems(spec(options=options))
    assert line.startswith(said)


def test_too_many_settings_are_refused_with_a_way_to_choose():
    many = tuple(replace(SETTINGS[0], name=f"width {width}") for width in range(MOST_COVERED + 1))
    (line,) = CURVATURE_SWEEP.problems(spec(settings=many))
    assert "make 21 settings, and at most 20 are trained: choose some of them by --at NAME=VALUE" in line


@pytest.mark.parametrize(("steps", "warmup"), [(3000, 300), (50_000, 1000), (20, 2), (5, 1)])
def test_the_warmup_is_a_tenth_of_the_steps_and_at_most_the_paper_s_thousand(steps, warmup):
    sweep: CurvatureSweep = spec(options={"points": 3}, max_train_steps=steps)
    assert play(CURVATURE_SWEEP, sweep, sharp())[1].answers["warmup_steps"] == warmup


@pytest.mark.parametrize("seed", range(5))
def test_killed_and_asked_again_at_any_moment_it_wants_the_same_trials_and_concludes_the_same(seed):
    calm, pieces = play(CURVATURE_SWEEP, spec(), sharp(nan=seed % 2 == 0)), None
    pieces = play_in_pieces(CURVATURE_SWEEP, spec(), sharp(nan=seed % 2 == 0), seed)
    assert pieces[1].answers == calm[1].answers
    assert pieces[1].verdict == calm[1].verdict

    def key(wish: Wish) -> tuple[int, int, int]:
        return wish.phase, wish.point, wish.repeat

    assert {key(wish): wish for wish in pieces[0]} == {key(wish): wish for wish in calm[0]}
    assert CURVATURE_SWEEP.trainings(spec()) == (28, 46)
