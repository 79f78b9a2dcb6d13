"""Batch sizes in made-up worlds whose law is known: perfect, diminishing and no returns, and what hides them.

Tests procedures/batch_scaling.py with its options, trials, outcomes, notes, conclusion and figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_up_runs import World, play, play_in_pieces, spec_with

from tunectl.analysis.figures.figures import CurvesFigure, PointsFigure
from tunectl.core.objective import Objective
from tunectl.procedures.batch_scaling import BATCH_SCALING
from tunectl.procedures.batch_scaling_options import (
    AGAIN,
    FINER,
    SEARCH,
    WIDER,
    BatchScaling,
    BatchScalingOptions,
    problems,
)
from tunectl.procedures.batch_scaling_trials import CONTENDERS
from tunectl.procedures.procedure import Conclusion, SweepSetting

TARGET = 0.5
OBJECTIVE = Objective("train/loss", "minimize")


def sweep(*, rates: tuple[float, float] = (1e-3, 10.0), **changes: Any) -> BatchScaling:
    """A study with a batch of 16 and a target of 0.5; the options are among the changes."""
    options = {"steps_to": TARGET, "high": 1024, **changes.pop("options", {})}
    values = {"optimizer": "sgd", "batch_size": 16}
    content = {"values": values, "objective": OBJECTIVE, "max_train_steps": 4000, "learning_rates": rates}
    return spec_with(BatchScalingOptions, options=options, **{**content, **changes})


def world(
    fewest: float,
    critical: float,
    *,
    best: float = 1.0,
    ratio: float = 1.0,
    diverges_at: float = math.inf,
    spread: float = 0.0,
    examples: int | None = 100_000,
    step_seconds: float | None = None,
) -> World:
    """Steps `fewest` * (1 + `critical` / batch), the law of McCandlish et al. 2018; the best rate is `best` divided by
    the same factor, to the power `ratio`. Another rate takes more steps, by the square of the logarithm of the factor;
    from `diverges_at` on it diverges. `spread` is the deviation of the logarithm of the steps between seeds.
    """

    def made(values: Mapping[str, Any], repeat: int) -> dict[str, Any]:
        factor = 1 + critical / int(values["batch_size"])
        rate = float(values["learning_rate"])
        off = math.log(rate / (best / factor**ratio))
        seed = (repeat, int(values["batch_size"]), round(1e6 * rate))
        noise = math.exp(spread * np.random.default_rng(seed).normal())
        steps = fewest * factor * math.exp(0.5 * off**2) * noise
        known = {"train_examples": examples, "step_seconds": step_seconds, "longest": 100_000}
        if rate >= diverges_at:
            return {**known, "state": "infeasible", "reason": "nan_loss", "infeasible_step": 3}
        return {**known, "evaluated": lambda step: 0.5 ** (step / steps)}

    return made


def found(conclusion: Conclusion) -> dict[str, Any]:
    """The only setting of a conclusion."""
    (setting,) = conclusion.answers["settings"]
    return dict(setting)


def steps_of(conclusion: Conclusion) -> dict[int, float | None]:
    """The steps to the target by batch size."""
    return {item["batch_size"]: item["steps"] for item in found(conclusion)["batch_sizes"]}


def test_perfect_scaling_is_found_over_all_batches_and_the_best_rate_grows_with_the_batch() -> None:
    # Far below the critical batch twice the batch takes half the steps.
    asked, conclusion = play(BATCH_SCALING, sweep(), world(1.0, 16_000.0, best=100.0))
    answer = found(conclusion)
    assert answer["critical_batch_size"] == answer["largest_useful_batch_size"] == 1024
    assert answer["critical_is_largest_tried"]
    assert answer["useful_is_largest_tried"]
    assert answer["speed_up"] == pytest.approx(1001 / (1 + 16_000 / 1024), rel=0.15)
    assert answer["best_rate_growth"] == pytest.approx(64, rel=0.7)
    assert answer["best_rate_exponent"] == pytest.approx(0.95, abs=0.15)
    assert not answer["curvature_limited"]
    assert answer["best_rate_is_still"] is False
    assert "nearly perfect over all batch sizes, from 16 to 1024" in conclusion.verdict
    # The smaller batch says how long the next one trains, and how often it is evaluated.
    lengths = {int(w.changes["batch_size"] or 0): w.training for w in asked if w.phase == SEARCH}
    assert lengths[16]["max_train_steps"] == 4000
    assert lengths[1024]["max_train_steps"] < 4000 / 16
    assert all(wish.changes["schedule"] == "constant" for wish in asked)


def test_returns_diminish_at_the_critical_batch_and_larger_ones_are_left_out_after_two_without_use() -> None:
    law = world(100.0, 128.0)
    _, conclusion = play(BATCH_SCALING, sweep(options={"high": 16_384, "seeds": 2}), law)
    answer = found(conclusion)
    # By the law 64 has a speed-up of 3 (perfect 4), 128 one of 4.5 (8): 0.75 and 0.56 of perfect scaling.
    assert answer["critical_batch_size"] == 64
    assert answer["largest_useful_batch_size"] in (512, 1024)
    assert not answer["critical_is_largest_tried"]
    assert not answer["useful_is_largest_tried"]
    assert "the last 2 took not clearly fewer steps" in answer["no_larger_batch_because"]
    assert max(steps_of(conclusion)) == 4 * answer["largest_useful_batch_size"]
    for size, steps in steps_of(conclusion).items():
        assert steps == pytest.approx(100 * (1 + 128 / size), rel=0.15)
    everything = sweep(options={"high": 4 * 4096, "seeds": 1, "all_batches": True})
    assert max(steps_of(play(BATCH_SCALING, everything, law)[1])) == 16_384


def test_a_batch_that_brings_nothing_is_curvature_limited_where_the_best_rate_is_the_largest_that_trains() -> None:
    # The optimum, 1, cannot be used: everything from 0.3 on diverges, at every batch size.
    asked, conclusion = play(BATCH_SCALING, sweep(options={"all_batches": True}), world(50.0, 0.0, diverges_at=0.3))
    answer = found(conclusion)
    assert answer["critical_batch_size"] == answer["largest_useful_batch_size"] == 16
    assert answer["best_rate_growth"] == 1.0
    assert answer["best_rate_is_still"] is True
    assert answer["curvature_limited"] is True
    assert "hardly moves (the same over 64 times the batch)" in conclusion.verdict
    assert "curvature-limited" in conclusion.verdict
    assert "not nearly perfect at any batch size above 16, the smallest" in conclusion.verdict
    assert "No larger batch takes clearly fewer steps than 16" in conclusion.verdict
    assert not any(wish.phase == WIDER for wish in asked)


def test_a_rate_that_does_not_move_although_larger_ones_train_is_not_the_curvatures_fault() -> None:
    _, conclusion = play(BATCH_SCALING, sweep(options={"all_batches": True}), world(50.0, 128.0, best=0.1, ratio=0.0))
    answer = found(conclusion)
    assert answer["best_rate_is_still"] is True
    assert answer["curvature_limited"] is False
    assert "though it is not the largest that trains" in conclusion.verdict


def test_a_best_rate_that_falls_with_the_batch_moves_and_is_no_limit_of_the_curvature() -> None:
    _, conclusion = play(BATCH_SCALING, sweep(options={"all_batches": True}), world(50.0, 512.0, best=0.1, ratio=-1.0))
    answer = found(conclusion)
    assert answer["best_rate_growth"] < 0.1
    assert answer["best_rate_is_still"] is False
    assert answer["curvature_limited"] is False
    assert "hardly moves" not in conclusion.verdict
    assert f"becomes {answer['best_rate_growth']:.3g} times as large" in conclusion.verdict


def test_a_best_rate_that_is_the_same_over_few_batch_sizes_is_not_judged() -> None:
    _, conclusion = play(BATCH_SCALING, sweep(options={"high": 64}), world(50.0, 128.0, best=0.1, ratio=0.0))
    assert found(conclusion)["best_rate_is_still"] is None
    assert "The best learning rate is the same over 4 times the batch" in conclusion.verdict


def test_a_rate_that_moves_is_not_limited_although_it_is_the_largest_at_some_batch_sizes() -> None:
    _, conclusion = play(BATCH_SCALING, sweep(options={"all_batches": True}), world(50.0, 512.0, diverges_at=0.5))
    assert found(conclusion)["best_rate_is_still"] is False
    assert found(conclusion)["curvature_limited"] is False


@pytest.mark.parametrize("rates", [(1e-3, 0.1), (20.0, 2000.0)])
def test_rates_are_extended_by_decades_until_the_best_one_is_inside(rates: tuple[float, float]) -> None:
    asked, conclusion = play(BATCH_SCALING, sweep(rates=rates, options={"high": 32}), world(50.0, 1e-3))
    assert any(wish.phase == WIDER for wish in asked)
    assert all(item["learning_rate"] == pytest.approx(1.0, rel=0.7) for item in found(conclusion)["batch_sizes"])
    assert all(item["edge_of_the_rates"] is None for item in found(conclusion)["batch_sizes"])
    assert "a better one may be beyond it" not in conclusion.verdict


def test_a_best_rate_that_stays_at_the_end_is_named_as_such_and_not_as_the_best() -> None:
    # The best rate is six decades above the range, which is extended by four.
    def ever_faster(values: Mapping[str, Any], repeat: int) -> Mapping[str, Any]:
        steps = 1000 * float(values["learning_rate"]) ** -0.1
        return {"longest": 100_000, "evaluated": lambda step: 0.5 ** (step / steps)}

    _, conclusion = play(BATCH_SCALING, sweep(rates=(0.1, 1.0), options={"high": 32}), ever_faster)
    assert [item["edge_of_the_rates"] for item in found(conclusion)["batch_sizes"]] == ["highest", "highest"]
    assert found(conclusion)["batch_sizes"][0]["learning_rate"] == pytest.approx(1e4)
    assert "At batches of 16 and 32 the best rate is the highest that was tried" in conclusion.verdict


def test_batches_that_do_not_reach_the_target_are_censored_and_the_others_relative_to_the_first_that_does() -> None:
    short = sweep(max_train_steps=1000, options={"high": 256})
    _, conclusion = play(BATCH_SCALING, short, world(1.0, 32_000.0, best=1000.0))
    steps = steps_of(conclusion)
    assert steps[16] is None
    assert steps[64] == pytest.approx(501, rel=0.15)
    first = next(item for item in found(conclusion)["batch_sizes"] if item["batch_size"] == 64)
    assert first["speed_up"] == first["perfect_speed_up"] == 1.0
    assert "Within 1000 steps the target was not reached at" in conclusion.verdict.replace(",", "")
    assert "all factors are relative to 64" in conclusion.verdict
    row = conclusion.rows[0]
    assert row[0] == 16
    assert row[1] is None
    assert row[-1] == "not reached in 1,000 steps"


def test_a_larger_batch_that_does_not_reach_the_target_is_named() -> None:
    usual = world(50.0, 16.0)

    def worse(values: Mapping[str, Any], repeat: int) -> Mapping[str, Any]:
        stuck = {"longest": 100_000, "evaluated": lambda _step: 0.6}
        return stuck if int(values["batch_size"]) >= 64 else usual(values, repeat)

    _, conclusion = play(BATCH_SCALING, sweep(options={"high": 128, "all_batches": True}), worse)
    assert steps_of(conclusion)[64] is None
    assert "At batches of 64 and 128 the target was not reached within" in conclusion.verdict
    assert found(conclusion)["largest_useful_batch_size"] == 32


def test_a_target_that_no_batch_reaches_gives_no_answer_and_no_advice() -> None:
    asked, conclusion = play(BATCH_SCALING, sweep(), world(1e6, 1.0))
    assert {wish.changes["batch_size"] for wish in asked} == {16, 32, 64}
    answer = found(conclusion)
    assert answer["critical_batch_size"] is None
    assert answer["largest_useful_batch_size"] is None
    assert answer["curvature_limited"] is None
    assert answer["best_rate_growth"] is None
    assert conclusion.verdict.startswith("The target was not reached at any batch size.")
    assert "--steps" in conclusion.verdict
    assert conclusion.advice == ""


def test_a_gain_that_is_within_the_noise_of_the_seeds_is_not_useful() -> None:
    # 512 against 256 saves 6 %, and seeds differ by 30 %.
    options = {"low": 256, "high": 1024, "seeds": 5, "all_batches": True}
    _, conclusion = play(BATCH_SCALING, sweep(options=options), world(50.0, 64.0, spread=0.3))
    assert found(conclusion)["largest_useful_batch_size"] == 256
    assert "No larger batch takes clearly fewer steps than 256" in conclusion.verdict


def test_one_seed_is_said_to_show_no_noise() -> None:
    _, conclusion = play(BATCH_SCALING, sweep(options={"high": 32, "seeds": 1}), world(50.0, 64.0))
    assert "it is not known which differences are noise" in conclusion.verdict


def test_no_batch_is_larger_than_the_training_set() -> None:
    asked, conclusion = play(BATCH_SCALING, sweep(options={"high": None}), world(1.0, 16_000.0, examples=100))
    assert {wish.changes["batch_size"] for wish in asked} == {16, 32, 64}
    assert "larger than the training set (100 examples)" in conclusion.verdict


def test_a_batch_that_runs_out_of_memory_ends_the_search_and_is_in_the_table() -> None:
    small = world(1.0, 16_000.0, best=100.0)

    def limited(values: Mapping[str, Any], repeat: int) -> Mapping[str, Any]:
        if int(values["batch_size"]) < 128:
            return small(values, repeat)
        return {"state": "infeasible", "reason": "out_of_memory", "infeasible_step": 0}

    asked, conclusion = play(BATCH_SCALING, sweep(), limited)
    assert max(int(wish.changes["batch_size"] or 0) for wish in asked) == 128
    assert found(conclusion)["critical_batch_size"] == 64
    assert conclusion.rows[-1][-1] == "infeasible: out_of_memory"
    assert "a batch of 128 runs out of memory" in conclusion.verdict


def test_the_best_run_under_all_seeds_and_the_median_counts() -> None:
    asked, conclusion = play(BATCH_SCALING, sweep(options={"high": 32, "seeds": 5}), world(100.0, 32.0, spread=0.1))
    again = [wish for wish in asked if wish.phase == AGAIN and wish.changes["batch_size"] == 16]
    assert len(again) == CONTENDERS * 4
    first = found(conclusion)["batch_sizes"][0]
    assert len(first["steps_by_seed"]) == 5
    assert first["steps"] == np.median(first["steps_by_seed"])
    assert first["examples"] == 16 * first["steps"]


def test_a_target_that_only_the_first_seed_reaches_is_not_reached() -> None:
    usual = world(50.0, 16.0)

    def lucky(values: Mapping[str, Any], repeat: int) -> Mapping[str, Any]:
        return {**usual(values, repeat), **({"state": "infeasible", "reason": "diverged"} if repeat else {})}

    _, conclusion = play(BATCH_SCALING, sweep(options={"high": 32}), lucky)
    assert found(conclusion)["critical_batch_size"] is None
    assert conclusion.rows[0][-1] == "reached by 1 of 3 seeds in 4,000 steps"


def test_a_rate_that_loses_a_seed_is_not_the_best_although_its_median_is() -> None:
    usual = world(50.0, 16.0)

    def edgy(values: Mapping[str, Any], repeat: int) -> Mapping[str, Any]:
        is_lost = float(values["learning_rate"]) > 0.4 and repeat == 1
        return {**usual(values, repeat), **({"state": "infeasible", "reason": "nan_loss"} if is_lost else {})}

    _, conclusion = play(BATCH_SCALING, sweep(options={"high": 16}), edgy)
    (item,) = found(conclusion)["batch_sizes"]
    assert item["learning_rate"] < 0.4
    assert None not in item["steps_by_seed"]


def test_a_run_that_ends_infeasible_after_it_reached_the_target_does_not_count() -> None:
    usual = world(50.0, 16.0)

    def unsound(values: Mapping[str, Any], repeat: int) -> Mapping[str, Any]:
        made = usual(values, repeat)
        is_best = 0.5 < float(values["learning_rate"]) < 2
        return {**made, "state": "infeasible", "reason": "diverged"} if is_best else made

    _, conclusion = play(BATCH_SCALING, sweep(options={"high": 32}), unsound)
    rates = [item["learning_rate"] for item in found(conclusion)["batch_sizes"]]
    assert all(rate < 0.5 or rate > 2 for rate in rates)


def test_a_target_that_is_reached_between_few_evaluations_is_looked_at_more_closely() -> None:
    asked, conclusion = play(BATCH_SCALING, sweep(options={"high": 16}), world(20.0, 32.0))
    finer = [wish for wish in asked if wish.phase == FINER]
    assert len(finer) == CONTENDERS * 3
    first = found(conclusion)["batch_sizes"][0]
    assert first["resolution"] <= first["steps"] / 10
    assert first["steps"] == pytest.approx(60, rel=0.15)


def test_the_fastest_batch_by_measured_time_is_advised_with_its_rate() -> None:
    # A step of the double batch takes twice as long: nothing is gained beyond perfect scaling.
    def timed(values: Mapping[str, Any], repeat: int) -> Mapping[str, Any]:
        return world(100.0, 128.0, step_seconds=1e-4 * int(values["batch_size"]))(values, repeat)

    _, conclusion = play(BATCH_SCALING, sweep(options={"high": 128}), timed)
    answer = found(conclusion)
    assert answer["fastest_batch_size"] == 16
    first = answer["batch_sizes"][0]
    assert first["seconds"] == pytest.approx(first["steps"] * 1.6e-3)
    assert "batch_size: 16" in conclusion.advice
    assert f"learning_rate: {first['learning_rate']:.4g}"[:18] in conclusion.advice
    free = play(BATCH_SCALING, sweep(options={"high": 128}), world(100.0, 128.0, step_seconds=1e-3))[1]
    assert found(free)["fastest_batch_size"] == 128


def test_times_are_those_of_batch_size_where_it_measured_every_batch_in_question() -> None:
    usual = world(100.0, 128.0, step_seconds=1e-3)
    seconds = {"16": 0.1, "32": 0.2, "64": 0.3}
    beside = {"batch-size": {"batch_size": 64, "seconds_per_step": seconds}}
    _, known = play(BATCH_SCALING, sweep(options={"high": 64}, beside=beside), usual)
    assert [item["seconds_per_step"] for item in found(known)["batch_sizes"]] == list(seconds.values())
    assert found(known)["times_measured_by"] == "batch-size"
    assert "as batch-size measured the time of a step" in known.advice
    _, more = play(BATCH_SCALING, sweep(options={"high": 128}, beside=beside), usual)
    assert all(item["seconds_per_step"] == pytest.approx(1e-3) for item in found(more)["batch_sizes"])
    assert found(more)["times_measured_by"] != "batch-size"


def test_other_tuned_hyperparameters_come_from_the_points_of_the_study_and_stay_beyond_their_range() -> None:
    points = [
        {"learning_rate": 0.01 * 2**place, "momentum": 0.5 if place % 2 else 0.9, "batch_size": 3} for place in range(4)
    ]
    setting = SweepSetting("", {"optimizer": "momentum", "batch_size": 16}, (0.01, 0.1), points)
    usual = world(50.0, 16.0)

    def better_with_low_momentum(values: Mapping[str, Any], repeat: int) -> Mapping[str, Any]:
        return usual(
            {**values, "learning_rate": values["learning_rate"] * (1 if values["momentum"] == 0.5 else 0.2)}, repeat
        )

    spec = sweep(settings=(setting,), options={"high": 32})
    asked, conclusion = play(BATCH_SCALING, spec, better_with_low_momentum)
    searched = [wish for wish in asked if wish.phase == SEARCH and wish.changes["batch_size"] == 16]
    assert [wish.changes["momentum"] for wish in searched] == [0.9, 0.5, 0.9, 0.5]
    assert {wish.changes["momentum"] for wish in asked if wish.phase == WIDER} == {0.5}
    assert {item["tuned_with_it"]["momentum"] for item in found(conclusion)["batch_sizes"]} == {0.5}
    assert "momentum: 0.5" in conclusion.advice


def test_each_setting_has_its_own_answer_and_the_same_conclusion_follows_whatever_ends_first() -> None:
    settings = [
        SweepSetting(
            f"normalization {name}", {"optimizer": "sgd", "batch_size": 16, "normalization": name}, (1e-2, 10.0)
        )
        for name in ("batch", "none")
    ]
    spec = sweep(settings=settings, options={"high": 128, "seeds": 2, "all_batches": True})

    def differing(values: Mapping[str, Any], repeat: int) -> Mapping[str, Any]:
        if values["normalization"] == "batch":
            return world(10.0, 1000.0, best=20.0)(values, repeat)
        return world(50.0, 0.0, diverges_at=0.3)(values, repeat)

    _, conclusion = play(BATCH_SCALING, spec, differing)
    first, second = conclusion.answers["settings"]
    assert first["setting"] == "normalization batch"
    assert first["critical_batch_size"] == 128
    assert second["curvature_limited"] is True
    assert first["curvature_limited"] is False
    assert conclusion.advice == ""
    assert conclusion.header[0] == "setting"
    assert len(conclusion.rows) == 8
    in_pieces = play_in_pieces(BATCH_SCALING, spec, differing, seed=1)[1]
    assert in_pieces.answers == conclusion.answers
    assert in_pieces.verdict == conclusion.verdict


def test_the_figures_show_steps_and_rates_by_batch_with_perfect_scaling_and_steps_by_rate() -> None:
    _, conclusion = play(BATCH_SCALING, sweep(options={"high": 64}), world(100.0, 128.0))
    steps, rates, by_rate = conclusion.figures
    assert isinstance(steps, CurvesFigure)
    assert isinstance(rates, CurvesFigure)
    assert isinstance(by_rate, PointsFigure)
    measured, perfect = steps.curves
    assert list(perfect.y) == [1, 1 / 2, 1 / 4]
    assert perfect.dashed
    assert measured.y[0] == 1
    assert list(measured.x) == list(steps.x.ticks) == list(rates.x.ticks) == [16, 32, 64]
    assert measured.dotted
    assert rates.curves[0].dotted
    assert rates.curves[1].y[2] == pytest.approx(4 * rates.curves[0].y[0])
    assert steps.x.scale == steps.y.scale == rates.y.scale == "log"
    assert {point.series for point in by_rate.points} == {"16", "32", "64"}
    assert any(point.y is None for point in by_rate.points)


def test_own_code_that_trains_for_epochs_gets_a_warning() -> None:
    usual = world(50.0, 64.0)

    def of_epochs(values: Mapping[str, Any], repeat: int) -> Mapping[str, Any]:
        return {**usual(values, repeat), "longest": 64_000 // int(values["batch_size"])}

    own = sweep(own_code=True, options={"high": 64, "seeds": 1}, max_train_steps=100_000)
    _, conclusion = play(BATCH_SCALING, own, of_epochs)
    assert "compares batch sizes by epochs" in conclusion.verdict
    _, conclusion = play(BATCH_SCALING, replace(own, max_train_steps=2000), usual)
    assert "epochs" not in conclusion.verdict
    named = replace(own, max_train_steps=2000, values={**own.values, "num_epochs": 3})
    assert "num_epochs gives the same number of epochs" in play(BATCH_SCALING, named, usual)[1].verdict


def test_the_target_is_the_studys_own_unless_the_user_gives_one() -> None:
    own = sweep(target=TARGET, options={"steps_to": None, "high": 16, "seeds": 1})
    _, conclusion = play(BATCH_SCALING, own, world(50.0, 16.0))
    assert conclusion.answers["target"]["value"] == TARGET
    given = sweep(target=TARGET, options={"steps_to": 0.25, "high": 16, "seeds": 1})
    _, later = play(BATCH_SCALING, given, world(50.0, 16.0))
    # By the law the loss halves in as many steps as it takes to 0.5.
    assert steps_of(later)[16] == pytest.approx(2 * (steps_of(conclusion)[16] or 0), rel=0.15)


def test_a_smaller_batch_than_the_studys_gets_as_many_examples() -> None:
    spec = sweep(values={"batch_size": 64, "optimizer": "sgd"}, options={"low": 16, "high": 32, "seeds": 1})
    asked, _ = play(BATCH_SCALING, spec, world(10.0, 16.0))
    assert asked[0].changes["batch_size"] == 16
    assert asked[0].training["max_train_steps"] == 16_000


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"options": {"steps_to": None}}, "--steps-to: expected the value of train/loss to reach"),
        ({"options": {"steps_to": math.nan}}, "--steps-to: expected a finite number"),
        ({"options": {"high": 8}}, "--high: expected at least the first batch size, 16, got 8"),
        ({"options": {"seeds": 0}}, "--seeds: expected at least 1, got 0"),
        ({"options": {"points": 1}}, "--points: expected at least 2, got 1"),
        ({"own_code": True, "options": {"high": None}}, "--high: expected the largest batch size"),
        ({"own_code": True, "options": {"steps": 10}}, "--steps: own code decides itself how long it trains"),
        (
            {"settings": (SweepSetting("", {"batch_size": 16}, None, ({"momentum": 0.9},)),)},
            "learning_rate has one value; give it a range",
        ),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(changes: dict[str, Any], line: str) -> None:
    assert any(line in found for found in problems(sweep(**changes)))


def test_a_study_that_is_right_has_no_problems_and_its_own_batch_sizes_are_the_ends() -> None:
    own = sweep(batch_sizes=(32, 128), values={"optimizer": "sgd"}, options={"high": None})
    assert problems(own) == []
    asked, _ = play(BATCH_SCALING, own, world(50.0, 1000.0))
    assert {wish.changes["batch_size"] for wish in asked} == {32, 64, 128}
