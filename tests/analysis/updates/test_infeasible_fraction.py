"""Ranges that are cut off where trials become infeasible."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulated_studies import Response, Shape, evidence_of

from tunectl.analysis.updates.infeasible_fraction import infeasible_fraction_findings


def new_range(name, domain, *, lost):
    """The proposed range of a hyperparameter whose trials are infeasible where `lost` says so of their position."""
    names = ("learning_rate", name)
    response = Response(dict.fromkeys(names, 0.3), {"learning_rate": 1.0, name: 0.1})
    evidence = evidence_of(3, Shape(names=names, domains={name: domain}, trials=40), response)
    scale = next(item.sampled_domain for item in evidence.spec.hyperparameters if item.name == name)
    runs = tuple(
        replace(run, state="infeasible", reason="nan_loss", infeasible_step=1, best_value=None, best_step=None)
        if lost(scale.to_unit(run.plan.hyperparameters[name]))
        else run
        for run in evidence.runs
    )
    (finding,) = infeasible_fraction_findings(replace(evidence, runs=runs))
    (change,) = finding.changes
    return change.value


@pytest.mark.parametrize(
    ("name", "domain", "low", "high"),
    [
        ("label_smoothing", "range: [0.12345, 0.98765]", 0.12345, 0.98765),
        ("momentum", "range: [0.9, 0.9999], scale: one_minus_log", 0.9, 0.9999),
        ("num_layers", "range: [2, 90], type: int", 2, 90),
    ],
)
def test_the_end_where_trials_are_feasible_stays_as_it_is(name, domain, low, high):
    cut = new_range(name, domain, lost=lambda at: at > 0.5)
    assert cut[0] == low
    assert cut[0] < cut[1] < high
    cut = new_range(name, domain, lost=lambda at: at < 0.5)
    assert low < cut[0] < cut[1]
    assert cut[1] == high
