"""Sweeps whose seeds change nothing."""

from __future__ import annotations

import numpy as np

from tunectl.analysis.results.runs import Run
from tunectl.analysis.results.seed_variation import NO_VARIATION
from tunectl.core.records import PlannedTrial
from tunectl.procedures.procedure import Conclusion
from tunectl.procedures.repeated_seeds import seeds_change_nothing, without_evidence

CONCLUSION = Conclusion("best learning rate 0.1", {"best_learning_rate": 0.1}, advice="learning_rate: 0.1")


def run(point: int, repeat: int, values: list[float], *, state="completed", trial_kind="sweep") -> Run:
    curves = {"valid/loss": (np.arange(1.0, len(values) + 1), np.array(values))}
    plan = PlannedTrial(0, 0, point, repeat, (), {}, repeat, trial_kind)
    return Run(plan, state, best_value=min(values), best_step=1, curves=curves)


def results(*runs: Run):
    return {(0, run.plan.point, run.plan.repeat): run for run in runs}


def test_a_sweep_of_identical_seeds_says_so_first_and_advises_nothing():
    found = results(*(run(point, repeat, [1.0, 0.5 + point]) for point in (0, 1) for repeat in (0, 1, 2)))
    conclusion = without_evidence(CONCLUSION, found)
    assert conclusion.verdict.startswith(NO_VARIATION)
    assert conclusion.verdict.endswith("best learning rate 0.1")
    assert (conclusion.advice, conclusion.answers["seeds_change_nothing"]) == ("", True)


def test_a_sweep_in_which_one_rate_varies_with_the_seed_is_concluded_as_usual():
    found = results(run(0, 0, [1.0]), run(0, 1, [1.0]), run(1, 0, [0.5]), run(1, 1, [0.6]))
    assert without_evidence(CONCLUSION, found) is CONCLUSION


def test_lost_seeds_and_single_runs_say_nothing_about_seeds():
    lost = [run(0, repeat, [1.0], state="infeasible") for repeat in (0, 1, 2)]
    assert not seeds_change_nothing(results(*lost, run(1, 0, [0.5])))


def test_timings_are_not_asked():
    assert not seeds_change_nothing(results(*(run(0, repeat, [1.0], trial_kind="throughput") for repeat in (0, 1))))
