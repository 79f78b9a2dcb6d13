"""What findings say where trials were stopped early. Tests early_stopping_findings.py."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from simulated_studies import Response, Shape, evidence_of

from tunectl.analysis.comparison.not_distinguishable import by_point
from tunectl.analysis.findings import early_stopping_findings
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Finding
from tunectl.analysis.findings.study_findings import FINDINGS, study_findings


@pytest.fixture(scope="module")
def whole() -> StudyEvidence:
    return evidence_of(
        0, Shape(), Response({"learning_rate": 0.5, "weight_decay": 0.5}, {"learning_rate": 3.0, "weight_decay": 0.5})
    )


def stopped(evidence: StudyEvidence, count: int) -> StudyEvidence:
    """The study with its worst completed trials stopped half way."""
    worst = sorted((run for run in evidence.runs if run.feasible), key=lambda run: run.cost(evidence.objective))[
        -count:
    ]

    def half(steps, values):
        return steps[: len(steps) // 2], values[: len(steps) // 2]

    return replace(
        evidence,
        runs=tuple(
            replace(run, state="stopped", reason="stopped_early", curves={k: half(*v) for k, v in run.curves.items()})
            if run in worst
            else run
            for run in evidence.runs
        ),
    )


def of(findings: list[Finding], name: str) -> Finding:
    (found,) = (item for item in findings if item.id == name)
    return found


def test_a_study_without_stopped_trials_says_nothing_of_them(whole):
    found = study_findings(whole)
    assert "stopped-early" not in {item.id for item in found}
    assert not any("stopped early" in item.sureness for item in found)


def test_stopped_trials_are_counted_and_named(whole):
    evidence = stopped(whole, 8)
    found = of(study_findings(evidence), "stopped-early")
    search = [run for run in evidence.runs if run.plan.trial_kind == "search" and run.state != "failed"]
    assert found.sentence.startswith(f"8 of {len(search)} trials were stopped early")
    assert found.trials == tuple(run.plan.trial for run in evidence.runs if run.state == "stopped")
    assert found.numbers["saved_share_of_steps"] == pytest.approx(8 * 0.5 / len(search), rel=0.1)


def test_each_finding_that_would_rest_on_them_says_that_they_are_left_out(whole):
    found = study_findings(stopped(whole, 8))
    said = {item.id: item.sureness for item in found if item.id not in early_stopping_findings.UNAFFECTED}
    assert said
    assert all("8 of 24 trials were stopped early" in sureness for sureness in said.values())
    assert "stopped early" not in of(found, "fixed-caveat").sureness


def test_a_point_where_one_setting_was_stopped_counts_for_the_other(whole):
    evidence = stopped(whole, 8)
    costs = by_point(evidence, 0)
    assert len(costs) == len(by_point(whole, 0)), "no point is left out"
    assert sum(cost == math.inf for cost in costs.values()) == 8 + sum(run.state == "infeasible" for run in whole.runs)


def test_insensitive_is_not_made_without_the_bad_trials(whole):
    kept = early_stopping_findings.without_stopped(
        whole, [Finding("insensitive", "note", "It may be fixed.", "fix it")]
    )
    assert [item.id for item in kept] == ["insensitive"]
    assert early_stopping_findings.without_stopped(stopped(whole, 1), kept) == []


def test_the_findings_that_they_do_not_concern_exist():
    assert {*FINDINGS} >= early_stopping_findings.UNAFFECTED
