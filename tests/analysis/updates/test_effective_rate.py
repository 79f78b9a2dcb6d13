"""A stability edge along learning_rate / (1 - momentum): it is not mistaken for one of the learning rate alone, and the
study that is proposed searches it.

Tests updates/effective_rate.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from simulated_studies import SLANTED, effective_place, findings_of, simulated_evidence

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Finding
from tunectl.analysis.search.next_search import agreed_changes
from tunectl.analysis.updates.effective_rate import stand_ins
from tunectl.analysis.updates.infeasible_fraction import infeasible_fraction_findings
from tunectl.language.study_edit import with_value
from tunectl.language.study_reader import parse_study
from tunectl.language.study_spec import StudySpec
from tunectl.space.trial_plan import plan_trials

NAMES = ("learning_rate", "momentum")
SEEDS = range(4)


def slanted(seed: int, **changes: Any) -> tuple[StudyEvidence, Finding]:
    evidence = simulated_evidence(seed, flaw=SLANTED, **{"names": NAMES, "trials": 30, **changes})
    (finding,) = findings_of(evidence, "stability-edge")
    return evidence, finding


def next_study(evidence: StudyEvidence, *findings: Finding) -> StudySpec:
    changes, conflicts = agreed_changes(evidence.spec, findings)
    assert conflicts == []
    text = evidence.spec.text
    for item in changes:
        text = with_value(text, item.change.path, item.change.value)
    return parse_study(text, Path("/studies/next.yaml"))


@pytest.mark.parametrize("seed", SEEDS)
def test_an_edge_of_the_effective_rate_is_found_with_both_hyperparameters(seed):
    _, finding = slanted(seed)
    assert finding.hyperparameters == NAMES
    assert "with learning_rate / (1 - momentum) at " in finding.sentence
    assert finding.command.startswith("tunectl lr-sweep /studies/simulated.yaml --at momentum=")


@pytest.mark.parametrize("seed", SEEDS)
def test_an_edge_of_the_learning_rate_alone_stays_one_of_the_learning_rate(seed):
    evidence = simulated_evidence(seed, flaw="stability-edge", names=NAMES)
    (finding,) = findings_of(evidence, "stability-edge")
    assert finding.hyperparameters == ("learning_rate",)
    assert not finding.changes


@pytest.mark.parametrize("seed", SEEDS)
def test_the_proposed_study_has_few_infeasible_trials_and_none_beyond_what_was_feasible(seed):
    evidence, finding = slanted(seed, edge=0.6)
    lost = sum(not run.feasible for run in evidence.searched)
    spec = next_study(evidence, finding)
    domains = {item.name: item.domain for item in evidence.spec.hyperparameters}
    trials = plan_trials(spec)
    assert len(trials) == 30
    assert lost >= 6
    assert sum(effective_place(trial.hyperparameters, domains) > 0.6 for trial in trials) == 0
    # Its range covers the feasible part, and not only what is next to the threshold.
    places = [effective_place(trial.hyperparameters, domains) for trial in trials]
    assert min(places) < 0.25
    assert max(places) > 0.5


def test_the_learning_rate_keeps_its_range_where_there_is_no_momentum():
    evidence, _ = slanted(0)
    text = evidence.spec.text.replace(
        "optimizer: nesterov", "optimizer: {role: scientific, values: [nesterov, adam]}"
    ).replace("momentum: {role: nuisance, ", "momentum: {role: nuisance, when: {optimizer: nesterov}, ")
    spec = parse_study(text, Path("/studies/both.yaml"))
    runs = tuple(
        replace(run, plan=plan)
        for plan, run in zip(
            [plan for plan in plan_trials(spec) if plan.hyperparameters["optimizer"] == "nesterov"],
            evidence.runs,
            strict=True,
        )
    )
    both = replace(evidence, spec=spec, runs=runs)
    (finding,) = findings_of(both, "stability-edge")
    found = next_study(both, finding)
    for trial in plan_trials(found):
        values: dict[str, Any] = dict(trial.hyperparameters)
        if values["optimizer"] == "adam":
            assert values.keys() == {"optimizer", "schedule", "learning_rate"}
            assert 1e-3 <= values["learning_rate"] <= 1
        else:
            assert values["learning_rate"] == values["effective_rate"] * (1 - values["momentum"])


def test_nothing_is_proposed_where_the_study_lists_its_trials():
    evidence, _ = slanted(0)
    points = tuple(run.plan.hyperparameters for run in evidence.runs)
    listed = replace(evidence.spec.search, sampler="points", points=points, trials=None)
    (finding,) = findings_of(replace(evidence, spec=replace(evidence.spec, search=listed)), "stability-edge")
    assert not finding.changes
    assert "learning_rate with a formula" in finding.action


def test_many_infeasible_trials_far_from_the_best_propose_the_effective_rate_too():
    evidence, _ = slanted(1, edge=0.5, trials=40)
    domains = {item.name: item.domain for item in evidence.spec.hyperparameters}
    runs = tuple(
        replace(run, best_value=0.1 + abs(effective_place(run.plan.hyperparameters, domains) - 0.15))
        for run in evidence.runs
    )
    moved = replace(evidence, runs=runs)
    assert findings_of(moved, "stability-edge") == []
    (finding,) = infeasible_fraction_findings(moved)
    assert [change.path for change in finding.changes] == [
        ("hyperparameters", "effective_rate"),
        ("hyperparameters", "learning_rate"),
    ]
    assert next_study(moved, finding).alternatives("learning_rate")[0].formula is not None


def test_what_the_learning_rate_is_computed_from_counts_as_a_rate():
    evidence, finding = slanted(0)
    assert stand_ins(evidence.spec) == set()
    assert stand_ins(next_study(evidence, finding)) == {"effective_rate"}
