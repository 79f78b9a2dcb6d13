"""`stages-agree`, and which stage the findings of a study with stages are about.

Tests analysis/findings/stage_findings.py, analysis/findings/stage_changes.py and analysis/figures/stage_figures.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from planted_stages import staged_evidence

from tunectl.analysis.figures.figures import PointsFigure
from tunectl.analysis.figures.stage_figures import stage_figures
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Change, Finding
from tunectl.analysis.findings.stage_changes import with_changes_of_stage
from tunectl.analysis.findings.stage_findings import paired_stages, stages_agree
from tunectl.analysis.findings.study_findings import study_findings
from tunectl.space.search_space import Stage


def test_an_order_that_carries_over_is_a_note_with_its_interval() -> None:
    evidence = staged_evidence("stages-agree", 1)
    (found,) = stages_agree(evidence)
    assert (found.level, found.numbers["verdict"]) == ("note", "agree")
    assert 0 < found.numbers["low"] < found.numbers["rank_correlation"] <= found.numbers["high"] <= 1
    assert "the order of the short trials carries over" in found.sentence
    assert set(found.trials) == {run.plan.trial for run in evidence.runs}


def test_an_order_that_is_turned_round_is_a_warning() -> None:
    (found,) = stages_agree(staged_evidence("stages-disagree", 1))
    assert (found.level, found.numbers["verdict"]) == ("warning", "disagree")
    assert found.numbers["high"] < 0


def test_a_peak_rate_that_falls_with_the_length_is_named() -> None:
    (found,) = stages_agree(staged_evidence("peak-rate-drifts", 1))
    assert (found.level, found.hyperparameters) == ("warning", ("learning_rate",))
    assert "Longer training favours lower learning_rate" in found.sentence
    assert found.action.startswith("tune learning_rate again at the longer length")


def test_two_trials_say_nothing_and_are_said_to_say_nothing() -> None:
    evidence = staged_evidence("stages-agree", 1)
    (found,) = stages_agree(replace(evidence, runs=evidence.runs[:2]))
    assert (found.level, found.numbers["verdict"]) == ("note", "unknown")
    assert "so few trials do not show whether the order carries over" in found.sentence
    assert stages_agree(replace(evidence, runs=evidence.runs[:1])) == []
    assert stages_agree(evidence.of_search) == []


def test_a_long_trial_that_is_infeasible_has_the_last_rank_and_a_failed_one_has_none() -> None:
    evidence = staged_evidence("stages-agree", 1)
    lost, failed, *rest = evidence.runs
    runs = (replace(lost, state="infeasible"), replace(failed, state="failed"), *rest)
    (pairs,) = paired_stages(replace(evidence, runs=runs)).values()
    assert len(pairs.long) == len(evidence.runs) - 1
    assert pairs.long_ranks[0] == len(pairs.long)


def test_what_needs_evenly_spread_points_is_said_of_the_first_stage_alone() -> None:
    evidence = staged_evidence("", 4, trials=24, settings=1)
    short = len(evidence.of_search.runs)
    found = {finding.id: finding for finding in study_findings(evidence)}
    assert found["sampled-enough"].sentence.startswith(f"Stage 0 ({evidence.of_search.spec.training.max_train_steps:,}")
    assert found["sampled-enough"].numbers["trials"] == short
    assert max(found["stages-agree"].trials) >= short


def change(value: int, name: str = "max_train_steps") -> Finding:
    return Finding("a", "warning", "It is so.", "do it", changes=(Change(("training", name), value, "so"),))


@pytest.fixture
def three() -> tuple[StudyEvidence, StudyEvidence, StudyEvidence]:
    """The evidence of three stages of 1000, 10000 and 50000 steps."""
    second = staged_evidence("", 4, max_train_steps=1000)
    search = replace(second.spec.search, promote=(Stage(2, 10_000), Stage(2, 50_000)))
    spec = replace(second.spec, search=search)
    first = replace(second.of_search, spec=replace(second.of_search.spec, search=search))
    second = replace(second, spec=spec, earlier_stages=(first,))
    longest = replace(spec, training=replace(spec.training, max_train_steps=50_000))
    return first, second, replace(second, spec=longest, stage=2, earlier_stages=(first, second))


def test_a_change_of_the_length_goes_to_the_stage_that_it_is_about(three) -> None:
    first, second, third = three
    assert with_changes_of_stage(first, change(500)).changes == change(500).changes
    assert with_changes_of_stage(second, change(20_000)).changes[0].path == ("search", "promote", 0, "max_train_steps")
    assert with_changes_of_stage(third, change(100_000)).changes[0].path == ("search", "promote", 1, "max_train_steps")
    every = with_changes_of_stage(second, change(7, "eval_every"))
    assert every.changes[0].path == ("search", "promote", 0, "eval_every")


def test_a_length_beyond_that_of_the_next_stage_or_below_the_one_before_is_not_proposed(three) -> None:
    first, second, _ = three
    longer = with_changes_of_stage(first, change(20_000))
    assert (longer.changes, longer.level) == ((), "note")
    assert longer.action == "nothing: stage 1 (10,000 steps) trains longer; judge it there"
    shorter = with_changes_of_stage(second, change(800))
    assert (shorter.changes, shorter.action) == ((), "leave this stage out: stage 0 trains for 1,000 steps")


def test_the_plot_has_a_point_for_each_promoted_trial_and_none_without_a_stage_before() -> None:
    evidence = staged_evidence("stages-agree", 1)
    (figure,) = stage_figures(evidence)
    assert isinstance(figure, PointsFigure)
    assert sorted(point.trial or 0 for point in figure.points) == sorted(run.plan.trial for run in evidence.runs)
    assert stage_figures(evidence.of_search) == []


@pytest.mark.parametrize(("case", "narrowed"), [("stages-agree", True), ("peak-rate-drifts", False)])
def test_a_range_is_not_narrowed_by_short_trials_where_its_best_place_does_not_carry_over(case, narrowed) -> None:
    evidence = staged_evidence(case, 1)
    assert any(item.id == "range-too-wide" for item in study_findings(evidence.of_search))
    assert any(item.id == "range-too-wide" for item in study_findings(evidence)) == narrowed
