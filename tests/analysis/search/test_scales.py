"""Ranges on a linear scale whose order of magnitude matters."""

from __future__ import annotations

import pytest
from simulated_studies import Response, Shape, evidence_of

from tunectl.analysis.search.next_search import agreed_changes
from tunectl.analysis.search.scales import linear_scale_findings


def findings(domain: str, name: str = "learning_rate"):
    names = ("learning_rate",) if name == "learning_rate" else ("learning_rate", name)
    response = Response(dict.fromkeys(names, 0.5), dict.fromkeys(names, 1.0))
    evidence = evidence_of(0, Shape(names=names, domains={name: domain}), response)
    return evidence.spec, linear_scale_findings(evidence)


@pytest.mark.parametrize(
    ("domain", "changes"),
    [
        ("range: [1e-4, 1]", {"scale": "log"}),
        ("range: [1e-4, 1], scale: log", None),
        ("range: [0.1, 0.9]", None),
    ],
)
def test_a_learning_rate_over_more_than_a_decade_gets_a_logarithmic_scale(domain, changes):
    spec, found = findings(domain)
    agreed, _ = agreed_changes(spec, found)
    assert ({item.change.path[-1]: item.change.value for item in agreed} or None) == changes


def test_a_range_that_begins_at_0_begins_above_it():
    spec, found = findings("range: [0.0, 0.1]", "weight_decay")
    agreed, _ = agreed_changes(spec, found)
    assert {item.change.path[-1]: item.change.value for item in agreed} == {"scale": "log", "range": [1e-5, 0.1]}


def test_the_sentence_counts_the_trials_in_the_lowest_tenth():
    _, (finding,) = findings("range: [1e-4, 1]")
    assert (finding.level, finding.numbers) == ("warning", {"trials": 24, "below_a_tenth": 3})


def test_a_hyperparameter_whose_order_of_magnitude_does_not_matter_may_be_linear():
    assert findings("range: [0.0, 0.5]", "label_smoothing")[1] == []
