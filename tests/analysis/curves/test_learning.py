"""Tests curves/learning.py on curves made by formula: guesses, memorised noise, slow learners, wild initialisations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tunectl.analysis.curves.learning import learning
from tunectl.analysis.results.runs import Run, curves_of
from tunectl.core.measurements import Measurement
from tunectl.core.objective import Objective
from tunectl.core.records import PlannedTrial

ERROR = Objective("valid/error_rate", "minimize")
LOSS = Objective("valid/loss", "minimize")
BASELINE = math.log(10)
EVALUATIONS = 31


def run(seed: int, baseline: float | None = BASELINE, **curves: Any) -> Run:
    measured = [
        Measurement(10 * place, {name.replace("__", "/"): float(values[place]) for name, values in curves.items()})
        for place in range(EVALUATIONS)
    ]
    plan = PlannedTrial(seed, 0, 0, seed, (), {"learning_rate": 0.1}, seed, "sweep")
    best = min(values[place] for values in (curves["valid__error_rate"],) for place in range(1, EVALUATIONS))
    return Run(plan, "completed", best_value=float(best), baseline_loss=baseline, curves=curves_of(measured))


def guesses(seed: int, level: float = 0.9, examples: int = 300) -> np.ndarray:
    """The error rate of a network that guesses anew at every evaluation."""
    return np.random.default_rng(seed).binomial(examples, level, EVALUATIONS) / examples


def fall(begin: float, end: float, seed: int, noise: float = 0.01) -> np.ndarray:
    places = np.arange(EVALUATIONS)
    falling = end + (begin - end) * np.exp(-places / 6)
    return np.asarray(falling * np.exp(np.random.default_rng(seed).normal(0, noise, EVALUATIONS)))


@pytest.mark.parametrize("seeds", [3, 5])
def test_guesses_are_no_better_than_a_constant_though_the_best_of_thirty_looks_so(seeds: int) -> None:
    for first in range(0, 40 * seeds, seeds):
        runs = []
        for seed in range(first, first + seeds):
            loss = np.random.default_rng(seed + 1000).normal(BASELINE, 0.005, EVALUATIONS)
            runs.append(run(seed, train__loss=loss, valid__loss=loss + 0.004, valid__error_rate=guesses(seed)))
        assert learning(runs, ERROR).better is False, first
        assert learning(runs, LOSS).better is False, first


def test_memorised_noise_does_not_count_as_learned() -> None:
    runs = [
        run(s, train__loss=fall(2.4, 0.01, s), valid__loss=5 - fall(2.6, 0.1, s), valid__error_rate=guesses(s))
        for s in range(5)
    ]
    assert learning(runs, ERROR).better is False
    assert learning(runs, LOSS).better is False


@pytest.mark.parametrize("objective", [ERROR, LOSS])
def test_a_network_that_learns_and_then_overfits_has_learned(objective: Objective) -> None:
    rising = np.linspace(0, 3, EVALUATIONS)
    runs = [
        run(
            s,
            train__loss=fall(2.4, 0.01, s),
            valid__loss=fall(2.4, 0.3, s) + rising,
            valid__error_rate=fall(0.9, 0.1, s),
        )
        for s in range(3)
    ]
    assert learning(runs, objective).better is True


def test_a_slow_learner_has_learned_though_its_loss_hardly_fell() -> None:
    runs = [
        run(s, train__loss=fall(2.31, 2.29, s, 1e-4), valid__loss=fall(2.31, 2.295, s, 1e-4),
            valid__error_rate=fall(0.9 + 0.01 * s, 0.5, s))
        for s in range(5)
    ]  # fmt: skip
    assert learning(runs, ERROR).better is True
    assert learning(runs, LOSS).better is False, "its loss is within 1 % of a constant's"


def test_a_wild_beginning_may_predict_well_with_a_loss_above_that_of_a_constant() -> None:
    runs = [
        run(s, train__loss=fall(70, 3, s), valid__loss=fall(70, 5, s), valid__error_rate=fall(0.9 + 0.01 * s, 0.15, s))
        for s in range(3)
    ]
    assert learning(runs, ERROR).better is True


def test_every_seed_at_the_error_of_the_commonest_class_is_a_constant_prediction() -> None:
    runs = [
        run(
            s,
            baseline=0.325,
            train__loss=fall(0.9, 0.326, s, 1e-3),
            valid__loss=fall(0.9, 0.33, s, 1e-3),
            valid__error_rate=np.where(np.arange(EVALUATIONS) == 0, 0.5 + 0.01 * s, 0.1),
        )
        for s in range(5)
    ]
    assert learning(runs, ERROR).better is False


def test_without_a_baseline_step_0_is_compared_and_without_step_0_the_answer_is_unknown() -> None:
    better = [run(s, baseline=None, valid__error_rate=fall(0.9, 0.3, s)) for s in range(3)]
    level = [run(s, baseline=None, valid__error_rate=guesses(s)) for s in range(3)]
    assert learning(better, ERROR).better is True
    assert learning(level, ERROR).better is False
    assert learning(better[:1], ERROR).better is None
    assert learning([], ERROR).better is None


def test_a_maximised_objective_counts_in_the_other_direction() -> None:
    accuracy = Objective("valid/error_rate", "maximize")
    runs = [run(s, baseline=None, valid__error_rate=1 - fall(0.9, 0.3, s)) for s in range(3)]
    found = learning(runs, accuracy)
    assert found.better is True
    assert found.reached is not None
    assert found.reached == pytest.approx(0.69, abs=0.03)
