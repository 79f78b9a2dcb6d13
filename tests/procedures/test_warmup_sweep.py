"""Tests procedures/warmup_sweep.py, warmup_search.py, quarter_initialisation.py and recipe_conclusion.py."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import yaml
from made_up_runs import BASELINE, blow_up, descent, made_up, play, play_in_pieces, rates_in, spec_with
from narrowing import as_numbers, of_type, present

from tunectl.procedures.procedure import Wish
from tunectl.procedures.warmup_search import WarmupSweepOptions, all_have_learned, has_learned, lengths, stretch
from tunectl.procedures.warmup_sweep import (
    AGAIN,
    LENGTHS,
    OTHER,
    REFINED,
    SMALL,
    SMALL_AGAIN,
    SMALL_LENGTHS,
    WARMUP_SWEEP,
    WITH,
    WITHOUT,
)

spec = partial(spec_with, WarmupSweepOptions)

BEFORE = {"best_learning_rate": 0.02, "unstable_base_learning_rate": 0.05, "edge_of_stability": True}


def dead(updates: int, repeat: int) -> dict[str, object]:
    return {"value": 0.9, "loss": blow_up(updates, repeat, 30)}


def world(shortest, *, seeds_lost: int = 3, gain: float = 0.03):
    """A rate holds where its warmup is at least `shortest(rate)` (None: none is enough); higher rates are better."""

    def happens(values, repeat):
        rate, warmup = values["learning_rate"], values.get("warmup_steps", 0)
        least = shortest(rate)
        if (least is None or warmup < least) and repeat % 3 < seeds_lost:
            return dead(400, repeat)
        return {"value": 0.06 - gain * math.log10(rate / 0.02) + 0.001 * repeat}

    return happens


def opens(factor: float, warmup: int):
    """Rates below the unstable one need no warmup; up to `factor` times it this one does it; beyond none."""
    return lambda rate: 0 if rate < 0.05 else warmup if rate <= factor * 0.05 * 1.001 else None


def test_lengths_cover_orders_of_magnitude_up_to_a_tenth_of_the_steps():
    assert lengths(3000) == [10, 100, 300]
    assert lengths(100_000) == [10, 100, 1000, 10_000]
    assert lengths(1200) == [10, 100], "no second one of nearly the same length"
    assert lengths(50) == [5]
    assert lengths(5) == [1]
    assert (stretch(100), stretch(300)) == (500, 600)


def test_a_warmup_that_opens_three_times_the_unstable_rate_is_found_and_ten_times_is_said_to_be_out_of_reach():
    asked, found = play(WARMUP_SWEEP, spec(before=BEFORE), world(opens(3, 60)))
    rates = [wish.changes["learning_rate"] for wish in asked if wish.phase == LENGTHS]
    assert list(dict.fromkeys(rates)) == pytest.approx([0.5, 0.25, 0.15]), "10, 5 and 3 times"
    held = {"learning_rate": pytest.approx(0.15), "warmup_steps": 100, "post_warmup_steps": 500}
    assert found.answers["held"] == held, "33 does not hold"
    assert "3 times the unstable rate; at 10 times that rate it is not" in found.verdict
    assert found.answers["adopt"] is True
    without, with_it = found.answers["compared"]
    assert with_it["best"] < without["best"]
    assert set(without["recipe"]) == {"learning_rate"}
    assert with_it["recipe"] == found.answers["recipe"]
    assert found.advice.endswith("warmup_steps: 100")
    assert found.answers["raise_max_train_steps"] is False


def test_the_ladder_of_thirds_finds_a_shorter_one():
    asked, found = play(WARMUP_SWEEP, spec(before=BEFORE), world(opens(10, 30)))
    assert {wish.changes["warmup_steps"] for wish in asked if wish.phase == REFINED} == {33, 11}
    assert found.answers["held"]["warmup_steps"] == 33
    assert "10 times the unstable rate." in found.verdict


def test_one_lost_seed_of_three_means_that_a_warmup_does_not_hold():
    _, found = play(WARMUP_SWEEP, spec(before=BEFORE), world(opens(10, 100), seeds_lost=1))
    assert found.answers["held"]["warmup_steps"] == 100


def test_the_other_seeds_of_a_warmup_that_loses_the_first_are_spared():
    asked, found = play(WARMUP_SWEEP, spec(before=BEFORE), world(opens(3, 60)))
    at_ten_times = [wish for wish in asked if wish.phase == LENGTHS and wish.changes["learning_rate"] == 0.5]
    assert [(wish.changes["warmup_steps"], wish.repeat) for wish in at_ten_times] == [(10, 0), (100, 0), (300, 0)]
    at_three_times = [wish for wish in asked if wish.phase == LENGTHS and wish.changes["learning_rate"] == 0.15]
    assert [wish.changes["warmup_steps"] for wish in at_three_times] == [10, 100, 300, 100, 100, 300, 300]
    assert found.answers["held"]["warmup_steps"] == 100


def test_trials_train_at_a_constant_rate_for_twice_the_warmup():
    schedule = {"schedule": "cosine", "decay_steps": 100, "warmup": "within", "learning_rate": 0.1, "optimizer": "sgd"}
    asked, _ = play(WARMUP_SWEEP, spec(values=schedule, before=BEFORE), world(opens(10, 100)))
    for wish in asked:
        values = {**schedule, **wish.changes}
        if wish.phase == LENGTHS:
            assert (values["schedule"], values["decay_steps"], values["warmup"]) == ("constant", None, None)
            assert wish.training["max_train_steps"] == max(2 * of_type(int, values["warmup_steps"]), 500)
        elif wish.phase == WITH:
            assert (values["schedule"], values["decay_steps"], values["warmup"]) == ("cosine", 100, None)
            assert wish.training == {}
        elif wish.phase == WITHOUT:
            assert values == {**schedule, "learning_rate": values["learning_rate"]}, "the study as it is"


def test_two_sweeps_are_of_equal_size_and_the_safest_of_each_kind_are_run_again_under_fresh_seeds():
    asked, _ = play(WARMUP_SWEEP, spec(before=BEFORE), world(opens(10, 100)))
    grids = [
        as_numbers(wish.changes["learning_rate"] for wish in asked if wish.phase == phase)
        for phase in (WITHOUT, WITH, OTHER)
    ]
    assert set(grids[0]) == set(grids[1])
    higher = [rate for rate in grids[1] if rate > 0.1]
    assert sorted(grids[2]) == sorted(higher), "a longer warmup is for the higher rates"
    assert (len(set(grids[0])), min(grids[0]), max(grids[0])) == (6, 0.02, 0.5)
    assert {wish.changes["warmup_steps"] for wish in asked if wish.phase == WITH} == {100}
    assert {wish.changes["warmup_steps"] for wish in asked if wish.phase == OTHER} == {300}
    assert {wish.point for wish in asked if wish.phase == OTHER} == {3, 4, 5}, "a rate has one number in all sweeps"
    again: dict[int, list[Wish]] = {}
    for wish in asked:
        if wish.phase == AGAIN:
            again.setdefault(wish.point, []).append(wish)
    assert [wishes[0].changes.get("warmup_steps") for wishes in again.values()] == [None, None, None, 100, 100, 300]
    assert all([wish.repeat for wish in wishes] == [3, 4, 5, 6, 7] for wishes in again.values())


@pytest.mark.parametrize(("steps", "shortest", "expected"), [(3000, 33, 100), (100_000, 100, 300), (1200, 100, 33)])
def test_the_other_warmup_is_three_times_the_shortest_or_a_third_where_that_is_too_long(steps, shortest, expected):
    asked, _ = play(WARMUP_SWEEP, spec(before=BEFORE, max_train_steps=steps), world(opens(10, shortest - 3)))
    assert {wish.changes["warmup_steps"] for wish in asked if wish.phase == WITH} == {shortest}
    assert {wish.changes["warmup_steps"] for wish in asked if wish.phase == OTHER} == {expected}
    rates = rates_in(asked, WITH)
    other = rates_in(asked, OTHER)
    assert other == (rates[3:] if expected > shortest else rates[2:5])


def test_a_longer_warmup_is_adopted_where_the_shortest_holds_only_the_seeds_that_found_it():
    def happens(values, repeat):
        warmup = values.get("warmup_steps", 0)
        if warmup == 100 and repeat == 4:
            return dead(400, repeat)
        return world(opens(10, 100))(values, repeat)

    _, found = play(WARMUP_SWEEP, spec(before=BEFORE), happens)
    assert found.answers["adopt"] is True
    assert found.answers["recipe"]["warmup_steps"] == 300
    assert "With a warmup, training is stable at 0.5" in found.verdict
    assert found.advice.splitlines()[-1] == "warmup_steps: 300"


def test_a_warmup_that_brings_nothing_is_not_adopted():
    _, found = play(WARMUP_SWEEP, spec(before=BEFORE), world(opens(10, 100), gain=-0.02))
    assert found.answers["adopt"] is False
    assert "do not adopt it" in found.verdict
    assert found.advice == ""


def test_where_no_warmup_helps_the_next_measures_are_named():
    asked, found = play(WARMUP_SWEEP, spec(before=BEFORE), world(opens(1, 0)))
    assert {wish.phase for wish in asked} == {LENGTHS}
    assert len({wish.changes["learning_rate"] for wish in asked}) == 4, "10, 5, 3 and 2 times"
    assert found.answers["adopt"] is False
    assert found.answers["recipe"] is None
    assert found.answers["held"] is None
    assert "clip-sweep" in found.verdict
    assert found.verdict.index("optimizer") < found.verdict.index("initialisation") < found.verdict.index("lower")


def test_a_factor_of_100_goes_upwards_as_long_as_a_warmup_holds():
    asked, found = play(WARMUP_SWEEP, spec(before=BEFORE, options={"factor": 100.0}), world(opens(30, 100)))
    rates = dict.fromkeys(wish.changes["learning_rate"] for wish in asked if wish.phase == LENGTHS)
    assert list(rates) == pytest.approx([0.5, 1.5, 5.0])
    assert found.answers["held"]["learning_rate"] == pytest.approx(1.5)


def test_a_long_warmup_asks_for_more_steps():
    _, found = play(WARMUP_SWEEP, spec(before=BEFORE), world(opens(10, 300)))
    assert found.answers["recipe"]["warmup_steps"] == 300
    assert found.answers["raise_max_train_steps"] is True
    assert "raising max_train_steps" in found.verdict


@pytest.mark.parametrize(
    "before",
    [
        {**BEFORE, "edge_of_stability": False},
        {**BEFORE, "unstable_base_learning_rate": None},
    ],
)
def test_where_no_instability_holds_the_rate_down_nothing_is_trained(before):
    asked, found = play(WARMUP_SWEEP, spec(before=before), world(opens(10, 100)))
    assert asked == []
    assert "not needed" in found.verdict
    assert found.answers["adopt"] is False


OPEN = {**BEFORE, "edge_of_stability": None}


def test_where_the_seeds_do_not_say_what_keeps_the_rate_down_a_warmup_is_tried_at_the_unstable_rate_itself_last():
    asked, found = play(WARMUP_SWEEP, spec(before=OPEN), world(opens(1, 100), gain=-0.02))
    rates = dict.fromkeys(wish.changes["learning_rate"] for wish in asked if wish.phase == LENGTHS)
    assert list(rates) == pytest.approx([0.5, 0.25, 0.15, 0.1, 0.05]), "10, 5, 3, 2 and 1 times"
    assert found.answers["held"]["learning_rate"] == pytest.approx(0.05)
    assert "stable at 0.05, the unstable rate itself; at 10 times that rate it is not" in found.verdict
    assert found.answers["adopt"] is False
    assert found.verdict.endswith("a warmup is not needed.")


def test_where_higher_rates_with_a_warmup_are_better_the_open_question_is_answered_by_the_recipe():
    _, found = play(WARMUP_SWEEP, spec(before=OPEN), world(opens(1, 100)))
    assert found.answers["adopt"] is True
    assert "not needed" not in found.verdict


def test_where_no_warmup_helps_and_nothing_says_that_an_instability_keeps_the_rate_down_both_are_said():
    _, found = play(WARMUP_SWEEP, spec(before=OPEN), world(lambda rate: None if rate >= 0.05 else 0))
    assert found.answers["adopt"] is False
    assert "makes training stable at the unstable rate itself" in found.verdict
    assert "it does not help here" in found.verdict
    assert "may be the best one even without an instability" in found.verdict


def test_an_upward_search_keeps_its_numbers_where_the_question_is_open():
    """The trials of a folder that was half done are found again by their numbers."""
    wanted = {"options": {"factor": 100.0}}
    known, _ = play(WARMUP_SWEEP, spec(before=BEFORE, **wanted), world(opens(30, 100)))
    open_, _ = play(WARMUP_SWEEP, spec(before=OPEN, **wanted), world(opens(30, 100)))
    assert known == open_


def test_a_named_rate_is_taken_whatever_was_found_before():
    asked, _ = play(WARMUP_SWEEP, spec(options={"unstable_lr": 0.05}), world(opens(10, 100)))
    assert asked[0].changes["learning_rate"] == pytest.approx(0.5)


def test_without_a_rate_to_start_from_the_command_is_refused():
    (line,) = WARMUP_SWEEP.problems(spec())
    assert "--from LR_SWEEP_DIR or --unstable-lr" in line
    assert WARMUP_SWEEP.problems(spec(before=BEFORE)) == []
    assert len(WARMUP_SWEEP.problems(spec(before=BEFORE, options={"factor": 1.0}))) == 1


@pytest.mark.parametrize(
    ("end", "baseline", "expected"),
    [
        (BASELINE, BASELINE, False),
        (0.95 * BASELINE, BASELINE, False),
        (0.5, BASELINE, True),
        (math.nan, BASELINE, False),
        (60.0, None, False),
        (20.0, None, True),
    ],
)
def test_holding_means_a_loss_clearly_below_the_baseline_not_merely_no_nan(end, baseline, expected):
    loss = np.concatenate([[100.0], descent(498, 0), [end]])
    run = made_up(Wish(0, 0, 0, {}), {"learning_rate": 0.1}, 0, loss=loss, baseline=baseline)
    assert has_learned(run) is expected


@pytest.mark.parametrize(
    ("ends", "baseline", "expected"),
    [
        ([0.01, 0.02, 0.01], BASELINE, True),
        ([0.01, 0.5, 0.01], BASELINE, True),
        ([0.01, 1.69, 0.01], BASELINE, False),
        ([1.6, 1.5, 1.7], BASELINE, True),
        ([0.01, 0.01], BASELINE, False),
        ([0.01, 0.01, 2.3], BASELINE, False),
        ([1.0, 1.0, 1.0], None, True),
        ([1.0, 45.0, 1.0], None, False),
    ],
)
def test_a_seed_that_has_learned_far_less_than_the_others_is_not_held(ends, baseline, expected):
    """A network of which half is dead: an error of 0.47 and a loss of 1.69, where the others come to 0."""
    runs = [
        made_up(
            Wish(0, 0, 0, {}), {"learning_rate": 0.1}, 0, loss=np.concatenate([[100.0] * 400, [end]]), baseline=baseline
        )
        for end in ends
    ]
    assert all_have_learned(runs) is expected


def test_where_the_shortest_that_holds_is_the_longest_one_a_third_of_it_is_swept_below_the_base_rate():
    """The base rate asks for 300 steps; half of it bears 100, which are better there."""

    def happens(values, repeat):
        found = world(lambda rate: 0 if rate < 0.05 else 100 if rate < 0.3 else 300)(values, repeat)
        longer = 0.05 if values.get("warmup_steps") == 300 else 0.0
        return found if "loss" in found else {"value": found["value"] + longer}

    asked, found = play(WARMUP_SWEEP, spec(before=BEFORE), happens)
    rates = rates_in(asked, WITH)
    other = [wish.changes for wish in asked if wish.phase == OTHER]
    assert {change["warmup_steps"] for change in other} == {100}
    assert rates_in(asked, OTHER) == rates[2:5], "not at the base rate"
    assert found.answers["held"]["learning_rate"] == rates[-1] == 0.5
    assert found.answers["held"]["warmup_steps"] == 300
    assert found.answers["recipe"] == {"learning_rate": 0.262653, "warmup_steps": 100}, "one recipe, not a bit of each"
    assert found.advice.splitlines()[-2:] == ["learning_rate: 0.262653", "warmup_steps: 100"]
    assert "at 0.262653 with 100 steps of warmup" in found.verdict
    assert "300 steps" not in found.verdict


AFTER_CLIPPING = {
    **BEFORE,
    "recipe": {"learning_rate": 0.02, "grad_clip_norm": 1.3},
    "adopt": True,
    "edge_of_stability": True,
    "seeds_used": 8,
}


def clipped(norm: float):
    """The world of a warmup of 100 steps, whose gradients have this norm."""

    def happens(values, repeat):
        norms, clip = np.full(400, norm), values.get("grad_clip_norm")
        return {**world(opens(10, 100))(values, repeat), "norms": norms, "clip": clip}

    return happens


def test_a_threshold_that_clips_nothing_any_more_is_left_out_of_the_recipe():
    _, found = play(WARMUP_SWEEP, spec(before=AFTER_CLIPPING), clipped(0.5))
    assert set(found.answers["recipe"]) == {"learning_rate", "warmup_steps"}
    assert yaml.safe_load(found.advice) == found.answers["recipe"]
    assert found.verdict.endswith("Its threshold clips no update and is left out of the recipe.")


def test_after_a_clip_sweep_every_trial_is_clipped_and_the_recipe_holds_both():
    asked, found = play(WARMUP_SWEEP, spec(before=AFTER_CLIPPING), clipped(2.0))
    assert {wish.changes["grad_clip_norm"] for wish in asked} == {1.3}
    recipe = found.answers["recipe"]
    assert recipe == {"learning_rate": recipe["learning_rate"], "warmup_steps": 100, "grad_clip_norm": 1.3}
    assert recipe["learning_rate"] > 0.02
    assert yaml.safe_load(found.advice) == recipe, "one block with all of it"
    assert {wish.repeat for wish in asked if wish.phase == AGAIN} == {8, 9, 10, 11, 12}, "not those of the clip-sweep"
    assert found.answers["seeds_used"] == 13
    assert "with 100 steps of warmup, clipped at 1.3, against" in found.verdict


def test_what_was_adopted_before_stays_where_a_warmup_brings_nothing_or_is_not_needed():
    _, found = play(WARMUP_SWEEP, spec(before=AFTER_CLIPPING), world(opens(10, 100), gain=-0.02))
    assert found.answers["adopt"] is False
    assert found.answers["recipe"] == AFTER_CLIPPING["recipe"]
    calm = {**AFTER_CLIPPING, "unstable_base_learning_rate": None, "edge_of_stability": False}
    asked, found = play(WARMUP_SWEEP, spec(before=calm), world(opens(10, 100)))
    assert asked == []
    assert found.answers["recipe"] == calm["recipe"]
    assert found.answers["best_learning_rate"] == 0.02


def test_the_next_procedure_goes_on_from_the_recipe_s_rate_and_the_one_at_which_it_becomes_unstable():
    def happens(values, repeat):
        rate, warmup = values["learning_rate"], values.get("warmup_steps", 0)
        if rate > (0.3 if warmup else 0.05) and values.get("schedule") != "constant":
            return dead(400, repeat) | {"state": "infeasible", "reason": "no_progress"}
        return world(opens(10, 100))(values, repeat)

    _, found = play(WARMUP_SWEEP, spec(before=BEFORE), happens)
    answers = found.answers
    assert answers["best_learning_rate"] == answers["recipe"]["learning_rate"] < 0.3
    assert answers["unstable_base_learning_rate"] == 0.5
    assert answers["edge_of_stability"] is True


def test_where_no_warmup_holds_the_search_is_made_again_with_a_quarter_of_the_initialisation():
    def happens(values, repeat):
        small = values.get("init_scale") == 0.5
        return world(opens(10, 100) if small else opens(1, 0))(values, repeat)

    asked, found = play(WARMUP_SWEEP, spec(before=BEFORE, init_scale=2.0), happens)
    assert {wish.changes.get("init_scale") for wish in asked if wish.phase == LENGTHS} == {None}
    assert {wish.changes.get("init_scale") for wish in asked if wish.phase in (SMALL_LENGTHS, WITH)} == {0.5}
    assert not [wish for wish in asked if wish.phase == SMALL], "it is in the recipes already"
    assert found.answers["recipe"]["init_scale"] == 0.5
    assert found.answers["recipe"]["warmup_steps"] == 100
    assert "init_scale: 0.5" in found.advice
    assert "with a quarter of the initialisation (init_scale 0.5); without that, no warmup is enough" in found.verdict
    assert len({figure.name for figure in found.figures}) == len(found.figures)
    _, found = play(WARMUP_SWEEP, spec(before=BEFORE, init_scale=2.0), world(opens(1, 0)))
    assert "with a quarter of the initialisation (init_scale 0.5) or without" in found.verdict


@pytest.mark.parametrize(("gain", "adopted"), [(0.01, True), (0.0, False)])
def test_a_quarter_of_the_initialisation_is_tried_on_top_of_the_warmup(gain, adopted):
    def happens(values, repeat):
        made = world(opens(10, 100))(values, repeat)
        return made | {"value": made["value"] - (gain if "init_scale" in values else 0.0)}

    asked, found = play(WARMUP_SWEEP, spec(before=BEFORE, init_scale=2.0), happens)
    small = [wish for wish in asked if wish.phase in (SMALL, SMALL_AGAIN)]
    assert {(wish.changes["init_scale"], wish.changes["warmup_steps"]) for wish in small} == {(0.5, 100)}
    assert ("init_scale" in found.answers["recipe"]) is adopted
    assert ("does not improve it" in found.verdict) is not adopted
    assert found.header[-1] == "with_quarter_init"
    trained = [{**wish.changes} for wish in asked if wish.phase in (AGAIN, SMALL_AGAIN)]
    assert any(found.answers["recipe"].items() <= changes.items() for changes in trained), "trained as it is adopted"


@pytest.mark.parametrize("seed", range(4))
def test_trials_that_end_in_any_order_lead_to_the_same_conclusion(seed):
    sweep = spec(before=AFTER_CLIPPING, init_scale=2.0)
    asked, calm = play(WARMUP_SWEEP, sweep, world(opens(10, 100)))
    disturbed, found = play_in_pieces(WARMUP_SWEEP, sweep, world(opens(10, 100)), seed)
    assert (found.answers, found.verdict, found.rows) == (calm.answers, calm.verdict, calm.rows)
    assert {(wish.phase, wish.point, wish.repeat) for wish in asked} == {
        (wish.phase, wish.point, wish.repeat) for wish in disturbed
    }


@pytest.mark.parametrize(("factor", "warmup"), [(10, 30), (3, 60), (2, 200)])
@pytest.mark.parametrize("init_scale", [None, 1.0])
def test_it_takes_about_as_many_trainings_as_it_says_before(factor, warmup, init_scale):
    sweep = spec(before=BEFORE, init_scale=init_scale)
    asked, _ = play(WARMUP_SWEEP, sweep, world(opens(factor, warmup)))
    fewest, most = present(WARMUP_SWEEP.trainings(sweep))
    assert fewest <= len(asked) <= most


def test_it_says_no_number_of_trainings_where_there_is_nothing_to_do():
    assert WARMUP_SWEEP.trainings(spec(before={**BEFORE, "edge_of_stability": False})) is None
