"""Ranges whose best trials lie close together, well inside."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from simulated_studies import SLANTED, Response, Shape, evidence_of, findings_of, simulated_evidence

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.search.narrowing import (
    CLEAR_OF_END,
    FEWEST_TO_NARROW,
    chance_of_span,
    range_too_wide_findings,
)
from tunectl.space.domains import Range

NAMES = ("learning_rate", "weight_decay")


def bowl(seed: int, at: float = 0.5, *, strength: float = 6.0, trials: int = 30, **changes: Any) -> StudyEvidence:
    names = changes.pop("names", NAMES)
    shape = Shape(names=names, trials=trials, **{key: changes.pop(key) for key in ("domains",) if key in changes})
    response = Response(
        {**dict.fromkeys(names, 0.5), "learning_rate": at}, {**dict.fromkeys(names, 0.1), "learning_rate": strength}
    )
    response = replace(response, **changes)
    return evidence_of(seed, replace(shape, settings=len(response.offsets)), response)


def domain_of(evidence: StudyEvidence, key: str) -> Range:
    (domain,) = [item.domain for item in evidence.spec.hyperparameters if item.key == key]
    assert isinstance(domain, Range)
    return domain


@pytest.mark.parametrize("at", [0.3, 0.5, 0.7])
def test_the_new_range_keeps_the_best_place_clear_of_both_ends(at):
    found = [finding for seed in range(6) for finding in range_too_wide_findings(bowl(seed, at))]
    assert len(found) == 6
    for finding in found:
        assert (finding.id, finding.level, finding.hyperparameters) == ("range-too-wide", "note", ("learning_rate",))
        (change,) = finding.changes
        domain = domain_of(bowl(0), "learning_rate")
        low, high = (domain.to_unit(value) for value in change.value)
        assert high - low <= 0.75
        assert min(at - low, high - at) >= 0.15 * (high - low), "rounded, and the best trials are not exactly there"


def test_the_margin_is_that_with_which_no_crowd_is_seen():
    evidence = bowl(1)
    (finding,) = range_too_wide_findings(evidence)
    domain = domain_of(evidence, "learning_rate")
    low, high = (domain.to_unit(value) for value in finding.changes[0].value)
    best = [domain.to_unit(finding.numbers[name]) for name in ("best_low", "best_high")]
    for margin in (best[0] - low, high - best[1]):
        assert margin == pytest.approx(CLEAR_OF_END * (high - low), abs=0.03)


def test_where_nothing_makes_a_difference_a_range_is_hardly_ever_narrowed():
    flat = [bowl(seed, strengths=dict.fromkeys(NAMES, 0.0), trials=24) for seed in range(40)]
    assert sum(bool(range_too_wide_findings(evidence)) for evidence in flat) <= 2


def test_a_best_place_at_an_end_is_not_narrowed():
    for seed in range(6):
        assert not range_too_wide_findings(bowl(seed, -0.4, strength=0.6))
        assert not range_too_wide_findings(bowl(seed, 0.9, strength=2.0, edge=0.7)), "nor one at a threshold"


def test_settings_with_different_best_places_keep_them_all_and_one_that_is_unknown_keeps_the_range():
    apart = bowl(3, offsets=(0.0, 0.3))
    moved = bowl(3, 0.42, offsets=(0.0, 0.3))
    mixed = replace(
        apart, runs=tuple(moved.runs[place] if run.plan.setting else run for place, run in enumerate(apart.runs))
    )
    (finding,) = range_too_wide_findings(mixed)
    domain = domain_of(apart, "learning_rate")
    low, high = (domain.to_unit(value) for value in finding.changes[0].value)
    assert low < 0.42 < 0.5 < high
    few = [run for run in apart.runs if not run.plan.setting or run.plan.point < FEWEST_TO_NARROW - 1]
    assert not range_too_wide_findings(replace(apart, runs=tuple(few)))


def test_whole_numbers_stay_whole_and_several():
    names = ("learning_rate", "num_layers")
    evidence = bowl(
        2,
        names=names,
        domains={"num_layers": "range: [1, 40], type: int"},
        strengths={"learning_rate": 0.05, "num_layers": 8.0},
    )
    (finding,) = [item for item in range_too_wide_findings(evidence) if "num_layers" in item.hyperparameters]
    low, high = finding.changes[0].value
    assert type(low) is type(high) is int
    assert 1 < low < 20 < high < 40


def test_the_trials_in_the_new_ranges_are_counted():
    evidence = bowl(4)
    (finding,) = range_too_wide_findings(evidence)
    low, high = finding.changes[0].value
    rates = [run.plan.hyperparameters["learning_rate"] for run in evidence.searched]
    assert finding.numbers["trials_in_new_ranges"] == sum(low <= rate <= high for rate in rates)
    assert f"{finding.numbers['trials_in_new_ranges']} of the 30 trials" in finding.action


def test_the_chance_of_a_span_is_that_of_all_draws():
    generator = np.random.default_rng(0)
    for count in (2, 3, 5):
        positions = np.round(generator.uniform(size=10), 1)  # with ties
        for span in (0.1, 0.25, 0.6, 1.0):
            spans = [max(drawn) - min(drawn) <= span + 1e-9 for drawn in combinations(positions.tolist(), count)]
            assert chance_of_span(positions, count, span) == pytest.approx(np.mean(spans))


def test_neither_the_rate_nor_the_momentum_is_narrowed_where_the_best_are_next_to_an_edge_along_both():
    for seed in (2, 10, 16):
        evidence = simulated_evidence(seed, flaw=SLANTED, trials=60)
        assert {item.id for item in findings_of(evidence, "range-too-wide", "stability-edge")} == {"stability-edge"}


def test_a_range_whose_ends_are_near_each_other_is_not_rounded_past_the_margin():
    found = []
    domain = Range(7.9e-5, 1.14e-4, "log")
    for seed, at in enumerate(np.linspace(0.3, 0.95, 12)):
        evidence = bowl(seed, at, strength=30.0, domains={"learning_rate": "range: [7.9e-5, 1.14e-4], scale: log"})
        found += [item for item in range_too_wide_findings(evidence) if item.hyperparameters == ("learning_rate",)]
    assert found
    for finding in found:
        best = [domain.to_unit(finding.numbers[name]) for name in ("best_low", "best_high")]
        width = max((best[1] - best[0]) / (1 - 2 * CLEAR_OF_END), 0.25)
        ends = [max(sum(best) / 2 - width / 2, 0.0), min(sum(best) / 2 + width / 2, 1.0)]
        assert [domain.to_unit(end) for end in finding.changes[0].value] == pytest.approx(ends, abs=0.021)
