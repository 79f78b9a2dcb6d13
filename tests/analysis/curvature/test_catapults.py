"""Tests curvature/catapults.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from planted_curvature import measured_run

from tunectl.analysis.curvature.catapults import catapults


def losses(start=40, length=20, factor=10.0, updates=400, noise=0.05, seed=0):
    """A loss that falls, with one rise that comes back."""
    t = np.arange(updates)
    rise = np.exp(np.log(factor) * np.sin(np.pi * np.clip((t - start) / length, 0, 1)))
    fall = 0.1 + 2 * np.exp(-t / 100)
    return np.asarray(fall * rise * np.exp(noise * np.random.default_rng(seed).normal(size=updates)))


STEPS = [0, 20, 40, 60, 80, 100, 200, 300, 400]
FALLING = [0.8, 1.2, 1.8, 0.6, 0.6, 0.6, 0.6, 0.7, 0.7]


def test_a_rise_above_the_bound_after_which_both_fall_is_a_catapult():
    [found] = catapults(measured_run(STEPS, FALLING, loss=losses()))
    assert 35 <= found.start <= 45
    assert 45 <= found.peak <= 55
    assert 55 <= found.end <= 65
    assert 5 < found.factor < 12
    assert (found.ratio_before, found.ratio_after) == (1.8, 0.6)


def test_it_may_begin_with_the_first_update_and_be_seen_in_sparse_lines():
    [found] = catapults(measured_run([0, 100, 200], [2.5, 0.6, 0.6], loss=losses(start=0)))
    assert found.start <= 3


def test_no_rise_a_ratio_below_one_and_a_ratio_that_stays_are_none():
    assert catapults(measured_run(STEPS, FALLING, loss=losses(factor=1.0))) == []
    assert catapults(measured_run(STEPS, 0.5 * np.array(FALLING), loss=losses())) == []
    assert catapults(measured_run(STEPS, np.full(9, 1.8), loss=losses())) == []
    assert catapults(measured_run([0, 100, 200], [0.9, 0.6, 0.6], loss=losses())) == []


def test_a_ratio_that_falls_only_with_the_rate_is_none():
    rate = np.where(np.array(STEPS) > 40, 0.03, 0.1)
    assert catapults(measured_run(STEPS, FALLING, rate=rate, loss=losses())) == []


def test_training_that_does_not_go_on_has_none():
    loss = losses()
    lost = np.concatenate([loss[:50], loss[50:60] * np.geomspace(1, 1e6, 10), [np.nan]])
    run = measured_run(STEPS[:3], FALLING[:3], loss=lost, state="infeasible", reason="nan_loss", infeasible_step=60)
    assert catapults(run) == []


def test_lower_bounds_after_it_do_not_show_that_the_ratio_has_fallen():
    known = np.array(STEPS) <= 40
    assert catapults(measured_run(STEPS, FALLING, loss=losses(), known=known)) == []


def test_without_losses_of_updates_the_loss_of_the_measured_examples_is_used():
    steps = np.arange(0, 200, 2)
    ratio = np.where(steps < 30, 1.8, 0.6)
    run = measured_run(steps, ratio)
    assert catapults(run) == []
    loss = losses(start=20, updates=200, noise=0.0)[steps]
    [found] = catapults(replace(run, curves={**run.curves, "curvature/loss": (steps.astype(float), loss)}))
    assert 16 <= found.start <= 24


def test_a_trial_without_a_bound_has_none():
    run = measured_run(STEPS, FALLING, loss=losses())
    assert catapults(replace(run, curves={"curvature/lambda_1": run.curves["curvature/lambda_1"]})) == []
