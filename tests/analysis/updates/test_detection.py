from __future__ import annotations

import math

import numpy as np
import pytest
from loss_curves import LN_10, calm, healthy
from narrowing import present

from tunectl.analysis.results.runs import Run, curves_of
from tunectl.analysis.updates.detection import (
    PerfectFit,
    diverged,
    explosion,
    fits_perfectly,
    plateau,
    spikes,
)
from tunectl.core.measurements import Measurement
from tunectl.core.records import PlannedTrial


def test_a_single_outlier_is_a_spike_that_recovers_at_once():
    loss = calm(np.random.default_rng(0), 600)
    loss[300] = 40.0
    (spike,) = spikes(loss)
    assert (spike.start, spike.peak, spike.recovered) == (300, 300, 301)


def test_a_spike_of_several_updates_is_one_and_one_that_stays_has_not_recovered():
    loss = calm(np.random.default_rng(1), 600)
    loss[300:305] = [20.0, 60.0, 30.0, 10.0, 5.0]
    (spike,) = spikes(loss)
    assert (spike.start, spike.peak) == (300, 301)
    assert 304 <= present(spike.recovered) <= 306
    loss[400:] = 50.0
    assert [item.recovered is None for item in spikes(loss)] == [False, True]


def test_clean_noisy_curves_have_spikes_in_less_than_1_of_100():
    curves = [healthy(np.random.default_rng(seed)) for seed in range(120)]
    assert sum(bool(spikes(loss)) for loss in curves) <= 1
    assert sum(explosion(loss) is not None for loss in curves) == 0
    assert sum(diverged(loss) for loss in curves) == 0


def test_a_converged_loss_and_the_noise_of_small_batches_have_no_spikes():
    t = np.arange(2000)
    generator = np.random.default_rng(0)
    assert spikes(LN_10 * np.exp(-t / 50) + 1e-6 * generator.exponential(size=2000)) == []
    assert spikes(LN_10 * np.exp(-t / 50) + 0.01 * generator.gamma(0.25, 4.0, size=2000), baseline=LN_10) == []
    assert spikes(np.zeros(100)) == []


def test_growth_over_orders_of_magnitude_that_stays_is_an_explosion():
    norms = np.concatenate([np.full(100, 2.0), 2.0 * 10 ** np.linspace(0, 8, 40)])
    found = present(explosion(norms))
    assert 100 < found.start < 110
    assert found.factor > 1e6
    assert present(explosion(np.concatenate([norms, [math.inf]]))).factor == math.inf


def test_what_comes_back_or_never_grew_is_no_explosion():
    norms = np.full(200, 2.0)
    norms[100:120] = 1e9
    assert explosion(norms) is None
    assert explosion(np.append(np.full(50, 2.0), math.nan)) is None
    assert present(explosion(np.append(np.full(50, 2.0), math.inf))).start == 50
    # A converged loss of 1e-8 that wanders up to 1e-3 has not exploded.
    assert explosion(np.concatenate([np.geomspace(2.3, 1e-8, 100), np.full(100, 1e-3)])) is None
    assert explosion(np.zeros(0)) is None
    assert explosion(np.zeros(50)) is None


def test_diverged_compares_the_end_with_the_beginning():
    assert diverged(np.linspace(2.3, 30.0, 200))
    assert not diverged(np.full(200, 2.3))
    assert not diverged(np.linspace(100.0, 2.3, 200))
    assert diverged(np.append(np.full(50, 2.3), math.nan))
    assert not diverged(np.zeros(0))


def test_a_flat_stretch_at_the_end_is_a_plateau_with_its_start_and_level():
    generator = np.random.default_rng(0)
    t = np.arange(1200)
    loss = (0.7 + 1.6 * np.exp(-t / 60)) * np.exp(0.05 * generator.normal(size=1200))
    found = present(plateau(loss))
    assert found.level == pytest.approx(0.7, rel=0.02)
    assert 100 <= found.start <= 400


def test_a_loss_that_falls_rises_or_has_converged_is_no_plateau():
    generator = np.random.default_rng(1)
    t = np.arange(1200)
    noise = np.exp(0.05 * generator.normal(size=1200))
    for loss in (2.3 * np.exp(-t / 800) * noise, (1 + t / 1200) * noise, 2.3 * np.exp(-t / 30) + 1e-4 * noise):
        assert plateau(loss) is None
    assert plateau(np.full(30, 1.0)) is None
    assert plateau(np.append(np.full(300, 1.0), math.nan)) is None
    assert present(plateau(np.full(300, 1.0))).start == 0


def test_noise_that_would_hide_a_fall_gives_no_plateau():
    generator = np.random.default_rng(2)
    assert plateau(np.abs(1 + 3 * generator.normal(size=200))) is None


def test_a_dead_network_of_a_bad_initialisation_is_on_a_plateau_where_the_baseline_is_known():
    loss = np.concatenate([[4000.0, 9000.0, 1000.0, 800.0, 500.0, 5.0], np.full(600, 2.3026)])
    loss += 0.005 * np.random.default_rng(0).normal(size=606)
    assert plateau(loss) is None
    assert present(plateau(loss, baseline=2.3026)).level == pytest.approx(2.3026, rel=1e-3)


def run_with(**metrics):
    measurements = tuple(
        Measurement(100 * place, {name.replace("__", "/"): values[place] for name, values in metrics.items()})
        for place in range(len(next(iter(metrics.values()))))
    )
    plan = PlannedTrial(
        trial=0, setting=0, point=0, repeat=0, coordinates=(), hyperparameters={}, seed=0, trial_kind="sweep"
    )
    return Run(plan, "completed", curves=curves_of(measurements))


def test_a_perfect_fit_is_the_first_step_without_an_error_on_train():
    assert fits_perfectly(run_with(train__error_rate=[0.9, 0.1, 0.0, 0.01, 0.0])) == PerfectFit(200, before=100)
    assert fits_perfectly(run_with(train__error_rate=[0.9, 0.1, 0.001])) is None
    assert fits_perfectly(run_with(train__error_rate=[0.9, math.nan, 0.1])) is None
    assert fits_perfectly(run_with(train__accuracy=[0.1, 0.99, 0.999, 1.0])) == PerfectFit(300, before=200)
    assert fits_perfectly(run_with(train__loss=[2.3, 0.0])) is None


def test_a_named_loss_fits_at_the_threshold():
    run = run_with(train__loss=[2.3, 0.5, 0.01, 0.001])
    assert fits_perfectly(run, "train/loss", 0.01) == PerfectFit(200, before=100)
    assert fits_perfectly(run, "train/loss", 1e-6) is None
    assert fits_perfectly(run, "train/perplexity", 1.0) is None


def test_a_perfect_fit_before_any_update_does_not_count():
    assert fits_perfectly(run_with(train__error_rate=[0.0, 0.1, 0.0])) == PerfectFit(200, before=100)
