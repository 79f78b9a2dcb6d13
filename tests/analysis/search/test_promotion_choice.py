"""Which trials are promoted: the best by the study's objective, and those that noise does not separate from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from builders import NUISANCE_RATE, study
from simulated_studies import judged, simulated_evidence, with_target

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.runs import Run
from tunectl.analysis.search.promotion_choice import Chosen, in_words, runs_to_promote
from tunectl.space.trial_plan import plan_trials

STEPS = np.arange(0, 101, 5, dtype=float)


def evidence(
    levels: Sequence[float], *, scatter: float = 0.0, direction: str = "minimize", lost: Sequence[int] = ()
) -> StudyEvidence:
    """Trials whose curves fall from 1 to these levels, with noise from evaluation to evaluation around them."""
    metric = "valid/error_rate" if direction == "minimize" else "valid/accuracy"
    spec = study(
        {"learning_rate": NUISANCE_RATE},
        objective=f"{{metric: {metric}, direction: {direction}}}",
        search=f"{{trials: {len(levels)}}}",
    )
    generator = np.random.default_rng(1)
    runs = []
    for plan, level in zip(plan_trials(spec), levels, strict=True):
        values = level + (1 - level) * np.exp(-STEPS / 5) + scatter * generator.normal(size=len(STEPS))
        values = values if direction == "minimize" else 1 - values
        run = Run(plan, "infeasible" if plan.trial in lost else "completed", curves={metric: (STEPS, values)})
        runs.append(judged(run, spec.objective))
    return StudyEvidence(spec, spec.objective, tuple(runs), folder="runs/a")


def the_chosen(found: StudyEvidence, keep: int) -> Chosen:
    (chosen,) = runs_to_promote(found, keep)
    return chosen


def trials(runs: Sequence[Run]) -> list[int]:
    return [run.plan.trial for run in runs]


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_without_noise_the_best_are_chosen_and_no_others(direction):
    chosen = the_chosen(evidence([0.5, 0.1, 0.4, 0.2, 0.3], direction=direction), 3)
    assert (trials(chosen.best), trials(chosen.beside)) == ([1, 3, 4], [])


def test_an_infeasible_trial_is_never_chosen_however_good_it_was():
    chosen = the_chosen(evidence([0.5, 0.1, 0.4, 0.2], lost=(1,)), 2)
    assert trials(chosen.runs) == [3, 2]
    assert the_chosen(evidence([0.5, 0.1], lost=(0, 1)), 2).runs == ()


def test_trials_within_the_noise_of_a_difference_are_chosen_too():
    scatter = 0.01
    levels = [0.1, 0.2, 0.2 + 0.5 * scatter, 0.2 + 8 * scatter, 0.5, 0.5]
    chosen = the_chosen(evidence(levels, scatter=scatter), 2)
    assert (trials(chosen.best)[0], sorted(trials(chosen.runs))) == (0, [0, 1, 2])
    assert chosen.noise.deviation == pytest.approx(scatter, rel=0.4)
    # A difference of two trials deviates by sqrt(2) of that of one, and is larger than 1.645 of that in 1 of 20 cases.
    assert chosen.noise.reach == pytest.approx(1.645 * math.sqrt(2) * (chosen.noise.deviation or 0), rel=1e-3)


def test_however_much_noise_there_is_at_most_as_many_again_are_chosen():
    chosen = the_chosen(evidence([0.3] * 12, scatter=0.1), 3)
    assert (len(chosen.best), len(chosen.beside)) == (3, 3)


def test_equal_trials_are_not_separated_where_the_noise_is_not_known():
    found = evidence([0.2, 0.1, 0.2, 0.2, 0.3])
    few = tuple(
        replace(run, curves={name: (x[-2:], y[-2:]) for name, (x, y) in run.curves.items()}) for run in found.runs
    )
    few = tuple(replace(run, best_value=round(run.best_value or 0.0, 3)) for run in few)
    chosen = the_chosen(replace(found, runs=few), 2)
    assert (trials(chosen.best), trials(chosen.beside), chosen.noise.source) == ([1, 0], [2, 3], "not known")
    assert in_words(found, chosen).endswith("(the best 2 of 5), and trials 2, 3, equal to trial 0")


def test_the_deviation_of_retrains_is_used_where_it_is_known():
    found = evidence([0.1, 0.2, 0.25, 0.6], scatter=0.001)
    first = found.runs[0]
    again = [
        replace(
            first,
            plan=replace(first.plan, trial=4 + n, repeat=1 + n, seed=n, trial_kind="retrain"),
            best_value=value,
            curves={},
        )
        for n, value in enumerate((0.1, 0.16))
    ]
    chosen = the_chosen(replace(found, runs=(*found.runs, *again)), 2)
    assert chosen.noise.deviation == pytest.approx(np.std([0.1, 0.16], ddof=1))
    assert trials(chosen.runs) == [0, 1, 2]
    assert "the noise between retrains (0.04243) does not separate from trial 1" in in_words(found, chosen)


def test_with_a_target_those_that_reached_it_come_first_and_one_interval_separates_nothing():
    found = with_target(evidence([0.02, 0.3, 0.1, 0.11, 0.12]), 0.125)
    assert [run.best_value for run in found.runs] == [15.0, None, 20.0, 25.0, 30.0]
    chosen = the_chosen(found, 2)
    assert (trials(chosen.best), trials(chosen.beside)) == ([0, 2], [3])
    assert "one interval between evaluations, 5 steps behind trial 2" in in_words(found, chosen)
    far = the_chosen(with_target(found, 0.001), 2)
    assert trials(far.runs) == [0, 2]  # none reached it: those that came closest


def test_it_says_which_are_chosen_and_why():
    found = evidence([0.5, 0.1, 0.4, 0.2, 0.3])
    assert in_words(found, the_chosen(found, 2)) == "all trials: trials 1, 3 (the best 2 of 5)"
    assert in_words(found, the_chosen(found, 9)).endswith("(only 5 completed with a value, and 9 were asked for)")


def test_the_choice_of_a_simulated_study_is_the_same_again():
    found = simulated_evidence(3, settings=2, trials=20)
    first, second = (runs_to_promote(found, 4) for _ in range(2))
    assert [trials(item.runs) for item in first] == [trials(item.runs) for item in second]
    assert [item.setting for item in first] == [0, 1]
