"""What findings, figures and `compare` say about trials that a model proposed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from study_of_losses import study_of_losses

from tunectl.analysis.figures.axis_figures import axis_figures
from tunectl.analysis.figures.budget_figure import budget_figure
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.study_findings import study_findings
from tunectl.core.earlier_trials import EarlierTrial, EarlierTrials
from tunectl.core.records import Scalar

SUGGESTION: Mapping[str, Scalar] = {"engine": "made-up 1.0", "seed": 1, "data": "ab", "pending": 0, "at_once": 1}

OF_COVERAGE = {
    *("search-boundary", "infeasible-fraction", "stability-edge", "sampled-enough"),
    *("sensitive", "interaction", "insensitive", "range-too-wide"),
}


def at_the_end(_generator: np.random.Generator, rate: float, _decay: float) -> float:
    """The best trials crowd the high end of the learning rate; half of the others are infeasible."""
    return 1 - rate if rate > 0.5 or rate < 0.2 else float("inf")


def of_half(generator: np.random.Generator, rate: float, _decay: float) -> float:
    return rate + 0.01 * generator.normal() if rate < 0.4 else float("inf")


def proposed(evidence: StudyEvidence, earlier: EarlierTrials | None = None) -> StudyEvidence:
    """The same trials, as if a model had proposed them."""
    runs = tuple(replace(run, plan=replace(run.plan, suggestion=SUGGESTION)) for run in evidence.runs)
    return replace(evidence, runs=runs, earlier=earlier)


def before(best: float | None) -> EarlierTrials:
    values = {"learning_rate": 0.1, "weight_decay": 1e-4}
    trials = [
        EarlierTrial("runs/explore", 3, values, "completed", best, 100),
        EarlierTrial("runs/explore", 4, values, "infeasible", 1e-9, 20),
    ]
    return EarlierTrials("runs/explore", "", tuple(trials))


@pytest.mark.parametrize(
    ("loss", "of_coverage"),
    [(at_the_end, {"search-boundary", "sampled-enough"}), (of_half, {"infeasible-fraction", "sampled-enough"})],
)
def test_what_is_said_by_how_trials_cover_the_space_is_said_without_them(loss, of_coverage: set[str]) -> None:
    sampled = study_of_losses(1, 40, loss)
    found = {finding.id for finding in study_findings(sampled)}
    assert of_coverage <= found
    assert {finding.id for finding in study_findings(proposed(sampled))} == found - OF_COVERAGE


def test_sampled_trials_of_the_same_study_are_still_judged() -> None:
    sampled = study_of_losses(1, 40, at_the_end)
    more = [replace(run, plan=replace(run.plan, point=run.plan.point + 40)) for run in proposed(sampled).runs]
    both = replace(sampled, runs=(*sampled.runs, *more))
    assert both.evenly_sampled.runs == sampled.runs
    assert sampled.evenly_sampled is sampled
    (enough,) = [finding for finding in study_findings(both) if finding.id == "sampled-enough"]
    assert enough.numbers["trials"] == 40


def test_a_retrain_of_a_proposed_trial_is_no_proposal() -> None:
    evidence = proposed(study_of_losses(1, 10, at_the_end))
    again = replace(evidence.runs[0], plan=replace(evidence.runs[0].plan, repeat=1, trial_kind="retrain"))
    assert replace(evidence, runs=(*evidence.runs, again)).evenly_sampled.runs == (again,)


@pytest.mark.parametrize(("best", "said"), [(0.0, True), (0.5, False), (None, False)])
def test_proposals_that_gain_nothing_are_noted(best: float | None, said: bool) -> None:
    evidence = proposed(study_of_losses(1, 20, at_the_end), before(best))
    found = [finding for finding in study_findings(evidence) if finding.id == "not-improved"]
    assert bool(found) == said
    for finding in found:
        assert "The best of 20 proposed trials" in finding.sentence
        assert "is no better than the best of the 2 trials before: 0, trial 3 of runs/explore." in finding.sentence


def test_axis_plots_show_the_trials_before_beside_the_proposed_ones() -> None:
    evidence = proposed(study_of_losses(1, 20, at_the_end), before(0.5))
    rate, _ = axis_figures(evidence)
    assert rate.legend == "trials"
    earlier = [point for point in rate.points if point.series == "earlier"]
    assert [(point.x, point.y, point.trial) for point in earlier] == [(0.1, 0.5, None), (0.1, None, None)]
    own = [point for point in rate.points if point.series == "proposed"]
    assert len(own) == 20
    assert all("proposed by a model" in point.label for point in own)
    assert budget_figure(evidence) is None
    assert budget_figure(study_of_losses(1, 20, at_the_end)) is not None
