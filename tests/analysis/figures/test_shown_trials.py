"""Tests figures/shown_trials.py: which of many trials are drawn, and that it is said."""

from __future__ import annotations

from itertools import pairwise

from builders import NUISANCE_RATE, study

from tunectl.analysis.figures.axis_figures import axis_figures
from tunectl.analysis.figures.shown_trials import MOST_AXIS_TRIALS, chosen_runs, left_out_note
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.runs import Run
from tunectl.report.plots import vega_lite
from tunectl.space.trial_plan import plan_trials


def evidence(trials: int) -> StudyEvidence:
    spec = study({"learning_rate": NUISANCE_RATE, "optimizer": "sgd"}, search=f"{{trials: {trials}}}")
    runs = [Run(plan, "completed", best_value=1.0 - plan.trial / trials, best_step=1) for plan in plan_trials(spec)]
    return StudyEvidence(spec, spec.objective, tuple(runs))


def test_of_many_trials_the_best_and_others_evenly_are_chosen():
    found = evidence(100)
    half = [run.plan.trial for run in chosen_runs(found, found.runs, 20)]
    assert half == [*range(0, 90, 9), *range(90, 100)]
    few = [run.plan.trial for run in chosen_runs(found, found.runs, 20, best=5)]
    assert few[-5:] == [95, 96, 97, 98, 99]
    assert len(few) == 20
    assert max(after - before for before, after in pairwise(few)) <= 7
    assert chosen_runs(found, found.runs, 100) == [*found.runs]


def test_what_is_left_out_of_a_plot_is_said_in_numbers():
    found = evidence(MOST_AXIS_TRIALS + 200)
    (figure,) = axis_figures(found)
    assert (
        f"{MOST_AXIS_TRIALS:,} of {MOST_AXIS_TRIALS + 200:,} trials: the best"
        in vega_lite(figure)["title"]["subtitle"][0]
    )
    assert left_out_note(100, evidence(100).runs) == []
