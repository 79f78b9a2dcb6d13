from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.stats
from each_case import each_case

from tunectl.training.feasibility import (
    Exchange,
    TrialEvidence,
    fixed_batch_steps,
    is_flat,
    judge,
    kendall_tau,
    moved,
    tail_updates,
)

LN10 = float(np.log(10))
SEEDS = 300


def dead_network(seed: int, evaluations: int = 20, memory: float = 0.5) -> np.ndarray:
    """Losses of 64 examples of 10 classes under a constant prediction, whose biases follow an AR(1) noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, 64)
    biases = rng.normal(0, 0.05, 10)
    rows = []
    for _ in range(evaluations):
        biases = memory * biases + np.sqrt(1 - memory**2) * rng.normal(0, 0.05, 10)
        rows.append(np.log(np.exp(biases).sum()) - biases[labels])
    return np.array(rows)


def slow_network(seed: int, fall: float, noise: float, evaluations: int = 20) -> np.ndarray:
    """Losses that fall by `fall` in the mean, by different amounts for single examples, some of which rise."""
    rng = np.random.default_rng(seed)
    start = LN10 + rng.normal(0, 0.1, 64)
    slopes = -fall * (1 + 2 * rng.normal(0, 1, 64))
    times = np.linspace(0, 1, evaluations)[:, None]
    return start + slopes * times + rng.normal(0, noise, (evaluations, 64))


def evidence(losses: np.ndarray, **changes: Any) -> TrialEvidence:
    """A trial of 300 updates that ended at its baseline."""
    base = TrialEvidence(
        total_steps=300,
        start_mean=2.35,
        start_spread=0.2,
        end_mean=LN10,
        end_spread=0.1,
        examples=360,
        lowest_loss=2.29,
        tail_mean=LN10 + 0.001,
        tail_spread=0.01,
        tail_count=15,
        fixed_batch_losses=losses.tolist(),
    )
    return replace(base, **changes)


def reason(case: TrialEvidence, baseline: float | None = LN10, no_progress: bool = True) -> str:
    verdict = judge(case, baseline=baseline, no_progress=no_progress)
    return "" if verdict is None else verdict.reason


@pytest.mark.parametrize("n", [2, 3, 10, 20])
def test_tau_agrees_with_scipy_where_there_are_no_ties(n: int):
    series = np.random.default_rng(n).normal(size=(n, 4))
    for column, tau in enumerate(kendall_tau(series)):
        assert tau == pytest.approx(scipy.stats.kendalltau(np.arange(n), series[:, column]).statistic)


def test_tau_of_a_constant_is_zero_and_of_a_fall_minus_one():
    assert kendall_tau([2.0, 2.0, 2.0]) == 0
    assert kendall_tau([3.0, 2.0, 1.0]) == -1
    assert kendall_tau([1.0]) == 0


@pytest.mark.parametrize(("memory", "least"), [(0.0, 0.98), (0.3, 0.97), (0.6, 0.9)])
def test_dead_networks_are_found_also_when_the_noise_of_their_biases_has_a_memory(memory: float, least: float):
    found = sum(reason(evidence(dead_network(seed, memory=memory))) == "no_progress" for seed in range(SEEDS))
    assert found >= least * SEEDS


@pytest.mark.parametrize(("fall", "noise"), [(1e-6, 0.0), (1e-5, 1e-7), (1e-3, 3e-4), (0.05, 0.02)])
def test_networks_that_still_fall_however_slowly_are_never_called_infeasible(fall: float, noise: float):
    assert sum(reason(evidence(slow_network(seed, fall, noise))) != "" for seed in range(SEEDS)) == 0


def test_a_network_whose_examples_drift_apart_is_not_flat_although_their_mean_is():
    opposed = slow_network(1, 1e-3, 0.0)
    opposed += opposed[:1].mean() - opposed.mean(axis=1, keepdims=True)
    opposed[:, 0] += np.random.default_rng(0).normal(0, 1e-6, len(opposed))
    assert abs(float(kendall_tau(opposed.mean(axis=1)))) < 0.5
    assert not is_flat(opposed.tolist(), 300)


def test_a_network_that_does_not_move_at_all_makes_no_progress_however_short_the_trial():
    still = np.tile(slow_network(0, 0.0, 0.0)[:1], (4, 1))
    assert reason(evidence(still, total_steps=8)) == "no_progress"


def test_a_noisy_series_of_fewer_than_20_updates_is_not_judged_flat():
    assert not is_flat(dead_network(1, evaluations=9).tolist(), 19)
    assert is_flat(dead_network(1, evaluations=10).tolist(), 20)


def test_a_network_that_learned_is_feasible_even_when_it_wanders_at_the_end():
    flat = dead_network(3)
    assert reason(evidence(flat, tail_mean=0.4, end_mean=0.4)) == ""


@each_case("seed", range(50))
def test_a_network_that_has_learned_and_only_spikes_above_the_baseline_at_its_end_is_feasible(seed: int):
    """Momentum near 1 on a trained network: its losses jump between nearly nothing and some ten, without a trend."""
    rng = np.random.default_rng(seed)
    levels = rng.choice([0.01, 0.2, 0.6, 4.0], size=20)
    levels[-1] = 2.5
    losses = levels[:, None] * rng.exponential(1.0, (20, 64))
    spiking = evidence(losses, end_mean=2.4, end_spread=6.0, tail_mean=2.6, tail_spread=3.0, lowest_loss=0.001)
    assert reason(spiking) == ""


def test_a_network_that_learned_and_then_died_is_no_progress():
    assert reason(evidence(dead_network(3), lowest_loss=0.05)) == "no_progress"


def test_a_loss_clearly_below_the_baseline_by_either_measure_is_progress():
    flat = dead_network(3)
    assert reason(evidence(flat)) == "no_progress"
    assert reason(evidence(flat, tail_mean=LN10 - 0.05)) == ""
    assert reason(evidence(flat, end_mean=LN10 - 0.05)) == ""


def test_a_dead_network_slightly_below_the_baseline_by_chance_is_found():
    assert reason(evidence(dead_network(3), tail_mean=2.3014, end_mean=2.2977)) == "no_progress"


def test_a_hard_problem_that_gains_one_part_in_300_with_certainty_is_feasible():
    case = evidence(dead_network(3), tail_mean=0.688, end_mean=0.688, tail_spread=0.004, tail_count=500, examples=10**5)
    assert reason(case, baseline=0.6906) == ""


def test_a_flat_end_above_the_baseline_is_no_progress_too():
    assert reason(evidence(dead_network(5) + 1.0, tail_mean=3.3, end_mean=3.3)) == "no_progress"


def test_no_progress_can_be_turned_off_and_then_diverged_is_still_found():
    assert reason(evidence(dead_network(3)), no_progress=False) == ""
    assert reason(evidence(dead_network(3), tail_mean=50.0, end_mean=50.0), no_progress=False) == "diverged"


@pytest.mark.parametrize(("tail", "expected"), [(2.35 + 0.99, ""), (2.35 + 1.02, "diverged")])
def test_diverged_begins_five_standard_deviations_above_the_start(tail: float, expected: str):
    assert reason(evidence(slow_network(0, 0.1, 0.0), tail_mean=tail, end_mean=tail)) == expected


def test_a_bad_start_is_no_measure_of_divergence():
    case = evidence(dead_network(3), start_mean=80.0, start_spread=60.0)
    assert reason(case) == "no_progress"


def test_a_start_without_spread_is_guarded():
    moving = slow_network(0, 0.1, 0.0)
    assert reason(evidence(moving, start_mean=2.3026, start_spread=0.0, tail_mean=2.4)) == ""
    assert reason(evidence(moving, start_mean=2.3026, start_spread=0.0, tail_mean=4.0)) == "diverged"
    assert reason(evidence(moving, start_mean=0.0, start_spread=0.0, tail_mean=4.0)) == ""


def test_a_start_that_is_not_finite_cannot_be_diverged_from():
    assert reason(evidence(slow_network(0, 0.1, 0.0), start_mean=float("inf"), tail_mean=1e9, end_mean=1e9)) == ""


def test_without_a_baseline_only_a_loss_that_was_never_below_step_0_is_no_progress():
    never = evidence(dead_network(3), start_mean=1.0, start_spread=1.0, lowest_loss=1.0, tail_mean=1.2, end_mean=1.2)
    assert reason(never, baseline=None) == "no_progress"
    assert reason(replace(never, lowest_loss=0.9999999), baseline=None) == ""
    assert reason(replace(never, total_steps=10), baseline=None) == ""


@pytest.mark.parametrize("total", [1, 2, 3, 19, 20, 39, 40, 41, 300, 12345])
def test_the_fixed_batch_is_evaluated_in_the_second_half_and_at_the_end(total: int):
    steps = sorted(fixed_batch_steps(total))
    assert steps[-1] == total
    assert steps[0] > total // 2
    assert len(steps) == min(20, total - total // 2)
    assert max(np.diff(steps, prepend=total // 2)) - min(np.diff(steps, prepend=total // 2)) <= 1


def test_the_tail_is_a_twentieth_and_at_least_ten():
    assert [tail_updates(total) for total in (1, 9, 10, 200, 201, 3000)] == [1, 9, 10, 10, 10, 150]


def settling_network(seed: int, evaluations: int = 20) -> np.ndarray:
    """Losses under a constant prediction whose biases come to rest, as under a schedule that decays."""
    rng = np.random.default_rng(seed)
    labels, start = rng.integers(0, 10, 64), rng.normal(0, 0.05, 10)
    biases = start * np.linspace(1, 0, evaluations)[:, None] ** 2
    return np.array([np.log(np.exp(row).sum()) - row[labels] for row in biases])


def changing(by: float, gain: float = 0.0) -> Exchange:
    """Losses of about ln 10 that change by `by`."""
    return Exchange(size=LN10, changed=by, gain=gain, spread=0.1, most=by)


def test_a_dead_network_that_settles_under_a_decaying_schedule_is_seen_by_its_predictions_alone():
    losses = [settling_network(seed) for seed in range(100)]
    assert sum(reason(evidence(each)) == "no_progress" for each in losses) == 0
    assert all(reason(evidence(each, exchange=changing(0.0))) == "no_progress" for each in losses)


def test_predictions_that_depend_on_the_input_are_progress_also_where_the_losses_wander():
    wandering = [dead_network(seed) for seed in range(20)]
    assert sum(reason(evidence(losses)) == "no_progress" for losses in wandering) >= 18
    assert sum(reason(evidence(losses, exchange=changing(0.01))) == "no_progress" for losses in wandering) == 0


@pytest.mark.parametrize(
    ("changed", "gain", "expected"),
    [(0.0, 0.0, "no_progress"), (1e-6, 1.0, "no_progress"), (1e-6, 5.0, ""), (1e-3, 1.0, "")],
)
def test_what_single_precision_changes_is_nothing_unless_the_own_predictions_are_the_better_ones(
    changed: float, gain: float, expected: str
):
    assert reason(evidence(dead_network(1), exchange=changing(changed, gain))) == expected


def test_losses_that_move_as_little_as_an_exchange_changes_them_are_those_of_a_slow_network():
    slow = slow_network(1, 1e-6, 0.0)
    assert moved(slow.tolist()) < 1e-5
    assert reason(evidence(slow, exchange=changing(1e-6))) == ""
    assert reason(evidence(dead_network(1), exchange=changing(1e-6))) == "no_progress"


def test_a_constant_prediction_clearly_below_the_baseline_shows_a_wrong_baseline_and_no_dead_network():
    assert reason(evidence(dead_network(3), end_mean=LN10 - 0.05, exchange=changing(0.0))) == ""
    assert reason(evidence(dead_network(3), tail_mean=LN10 - 0.05, exchange=changing(0.0))) == "no_progress"


def test_without_a_baseline_a_constant_prediction_is_no_progress_unless_all_examples_have_one_loss():
    fallen = evidence(dead_network(3), exchange=changing(0.0))
    assert fallen.lowest_loss < fallen.start_mean
    assert reason(fallen, baseline=None) == "no_progress"
    assert reason(replace(fallen, exchange=replace(changing(0.0), spread=0.0)), baseline=None) == ""
    assert reason(replace(fallen, exchange=changing(0.01)), baseline=None) == ""
    assert reason(fallen, baseline=None, no_progress=False) == ""


def test_an_exchange_is_summed_up_as_numpy_and_scipy_do():
    rng = np.random.default_rng(0)
    own, others, one = rng.normal(2, 1, 200), rng.normal(2.5, 1, 200), rng.normal(2, 1, 200)
    found = Exchange.of(own.tolist(), others.tolist(), one.tolist())
    largest = max(sorted(abs(given - own))[189] for given in (others, one))
    assert found.changed == pytest.approx(largest, rel=0.02)
    assert found.size == pytest.approx(np.linalg.norm(own) / np.sqrt(200))
    assert found.spread == pytest.approx(np.std(own))
    paired = scipy.stats.ttest_rel(others, own).statistic
    assert found.gain == pytest.approx(paired * np.sqrt(200 / 199))


def test_one_unit_that_few_inputs_reach_makes_no_living_network():
    own = [2.3] * 100
    few, many = ([9.0] * count + own[count:] for count in (4, 10))
    assert Exchange.of(own, few, own).changed == 0
    assert Exchange.of(own, many, own).changed > 0


def test_a_rare_class_that_is_learned_without_a_baseline_is_progress():
    # Of 1,000 examples 20 are of the rare class, and all are fitted: exchanges change the losses of those few alone.
    own = [0.0] * 980 + [1e-4] * 20
    others = [0.0] * 980 + [9.0] * 20
    found = Exchange.of(own, others, [0.0] * 980 + [12.0] * 20)
    assert found.changed == 0
    fitted = evidence(dead_network(3), end_mean=2e-6, exchange=found)
    assert reason(fitted, baseline=None) == ""
    assert reason(replace(fitted, exchange=replace(found, most=0.0, gain=0.0)), baseline=None) == "no_progress"


def test_few_inputs_that_differ_and_are_learned_are_progress_before_the_loss_is_below_the_baseline():
    own, others = [LN10] * 960 + [1.0] * 40, [LN10] * 960 + [3.0] * 40
    found = Exchange.of(own, others, own)
    assert (found.changed, found.gain > 5) == (0, True)
    assert reason(evidence(dead_network(3), exchange=found)) == ""


NEVER_BELOW = {"lowest_loss": 2.4, "end_mean": 2.4, "tail_mean": 2.36, "tail_spread": 0.05, "tail_count": 16}


def test_without_a_baseline_evaluations_that_were_never_below_step_0_count_only_once_they_are_of_the_weights():
    """Running statistics that lag make a network that learned evaluate badly; the training loss does not know them."""
    losses = dead_network(0)
    assert reason(evidence(losses, **NEVER_BELOW), None) == "no_progress"
    assert reason(evidence(losses, **NEVER_BELOW, statistics="lagging"), None) == ""
    learned = {**NEVER_BELOW, "tail_mean": 2.35 - 0.05}
    assert reason(evidence(losses, **learned), None) == "", "four standard errors below the start"
    falls = {"statistics": "settled", **NEVER_BELOW}
    assert reason(evidence(losses, **falls), None) == "no_progress"
    assert reason(evidence(slow_network(0, 0.05, 0.0), **falls), None) == "", "slow, from another start"
    assert reason(evidence(slow_network(0, 0.05, 0.0)[::-1], **falls), None) == "no_progress"
    assert reason(evidence(slow_network(0, 0.05, 0.0), **NEVER_BELOW), None) == "no_progress"
    by_chance = {**NEVER_BELOW, "tail_mean": 2.35 - 0.03}
    assert reason(evidence(losses, **by_chance), None) == "no_progress", "two and a half"


def test_what_is_seen_in_the_predictions_needs_no_settled_statistics():
    dead = Exchange(size=1.0, changed=0.0, gain=0.0, spread=0.1, most=0.0)
    assert reason(evidence(dead_network(0), exchange=dead, statistics="lagging"), None) == "no_progress"
    assert reason(evidence(dead_network(0), exchange=dead, statistics="lagging")) == "no_progress"
