"""Tests findings/budget_findings.py, comparison/not_distinguishable.py and updates/stability_edge.py.

Infeasible trials, settings that are not distinguishable, and the notes.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from simulated_studies import Response, Shape, evidence_of, findings_of, simulated_evidence

from tunectl.analysis.comparison.not_distinguishable import retrain_deviation, settings_findings
from tunectl.analysis.comparison.study_answer import study_answer
from tunectl.analysis.findings.budget_findings import fixed_caveat_findings, sampled_enough_findings
from tunectl.analysis.updates.infeasible_fraction import infeasible_fraction_findings
from tunectl.analysis.updates.stability_edge import stability_edge_findings
from tunectl.core.jsontext import encode
from tunectl.core.objective import Objective

SEEDS = range(703, 709)  # one study in forty has no edge that is sure enough


def search_findings(evidence):
    return findings_of(
        evidence,
        *("infeasible-fraction", "stability-edge", "search-boundary"),
        *("search-boundary of the scientific hyperparameters", "settings-not-distinguishable"),
        *("sampled-enough", "insensitive", "fixed-caveat"),
    )


def ids(findings, level=None):
    return {finding.id for finding in findings if level in (None, finding.level)}


def study(*, settings=1, trials=20, seed=0, **changes):
    of_shape = {key: changes.pop(key) for key in list(changes) if key in Shape.__dataclass_fields__}
    shape = Shape(settings=settings, trials=trials, **of_shape)
    optima, strengths = dict.fromkeys(shape.names, 0.5), dict.fromkeys(shape.names, 0.5)
    drawn = {"optima": optima, "strengths": strengths, "offsets": tuple(0.5 * np.arange(settings))}
    response = Response(**{**drawn, **changes})
    return evidence_of(seed, shape, response)


def lose(evidence, is_lost):
    """The study in which some trials are infeasible."""
    return replace(
        evidence,
        runs=tuple(
            replace(run, state="infeasible", reason="nan_loss", infeasible_step=5) if is_lost(run) else run
            for run in evidence.runs
        ),
    )


def retrained(evidence, trial, values):
    """The study with retrains of a trial that ended with these values."""
    run = evidence.runs[trial]
    more = [
        replace(
            run,
            plan=replace(run.plan, trial=10_000 + 100 * trial + n, repeat=n + 1, trial_kind="retrain"),
            best_value=x,
        )
        for n, x in enumerate(values)
    ]
    return replace(evidence, runs=(*evidence.runs, *more))


@pytest.mark.parametrize("flaw", ["infeasible-fraction", "stability-edge", "settings-not-distinguishable"])
def test_a_planted_flaw_is_found_and_can_be_written_down(flaw):
    found = [search_findings(simulated_evidence(seed, flaw=flaw)) for seed in SEEDS]
    assert sum(flaw in ids(findings, "warning") for findings in found) >= len(SEEDS) - 1
    for findings in found:
        for finding in findings:
            assert "NaN" not in encode(finding.to_json())
            assert finding.sentence.endswith(".")
            assert finding.action


def test_clean_studies_have_notes_alone():
    for seed in SEEDS:
        findings = search_findings(simulated_evidence(seed))
        assert ids(findings, "warning") == set()
        assert ids(findings) == {"sampled-enough", "fixed-caveat"}


def test_a_stability_edge_is_no_boundary_and_asks_for_a_sweep_at_the_best_trials_values():
    for seed in SEEDS:
        evidence = simulated_evidence(seed, flaw="stability-edge", names=("learning_rate", "momentum", "activation"))
        (finding,) = stability_edge_findings(evidence)
        assert "search-boundary" not in ids(search_findings(evidence))
        best = evidence.ranked(evidence.runs)[0].plan.hyperparameters
        start = "tunectl lr-sweep /studies/simulated.yaml --at momentum="
        assert finding.command.startswith(f"{start}{best['momentum']:.6g} --at activation={best['activation']}")
        assert finding.numbers["last_feasible"] < finding.numbers["first_infeasible"]
        assert finding.hyperparameters == ("learning_rate",)


def test_infeasible_trials_beyond_a_stability_edge_are_no_second_finding():
    for seed in range(2):
        evidence = study(seed=seed, trials=30, names=("learning_rate",), edge=0.5, strengths={"learning_rate": 1.0},
                         optima={"learning_rate": 0.8})  # fmt: skip
        assert sum(not run.feasible for run in evidence.runs) >= 14
        assert ids(search_findings(evidence), "warning") == {"stability-edge"}


def test_many_infeasible_trials_far_from_the_best_are_no_edge_but_show_where_to_cut_the_range():
    evidence = lose(study(trials=30), lambda run: run.plan.hyperparameters["learning_rate"] > 0.1)
    evidence = replace(
        evidence,
        runs=tuple(
            replace(run, best_value=0.1 + (math.log10(run.plan.hyperparameters["learning_rate"]) + 2.5) ** 2)
            for run in evidence.runs
        ),
    )
    assert stability_edge_findings(evidence) == []
    assert infeasible_fraction_findings(evidence) == []  # a third is usual for a learning rate
    most = lose(evidence, lambda run: run.plan.hyperparameters["learning_rate"] > 0.02)
    (finding,) = infeasible_fraction_findings(most)
    assert stability_edge_findings(most) == []
    (change,) = finding.changes
    assert change.path == ("hyperparameters", "learning_rate", "range")
    assert change.value[0] == 1e-3
    assert 0.01 < change.value[1] <= 0.02


def test_few_infeasible_trials_are_not_many():
    assert infeasible_fraction_findings(lose(study(trials=2), lambda run: True)) == []
    assert infeasible_fraction_findings(lose(study(trials=20), lambda run: run.plan.point < 6)) == []
    (finding,) = infeasible_fraction_findings(lose(study(trials=20), lambda run: run.plan.point < 12))
    assert finding.numbers["infeasible"] == 12
    assert finding.numbers["reasons"] == {"nan_loss": 12}


def test_a_study_without_a_feasible_trial_says_only_that():
    findings = search_findings(lose(study(settings=2), lambda run: True))
    assert ids(findings) == {"infeasible-fraction", "sampled-enough", "fixed-caveat"}
    assert "bug" in findings[0].action
    assert all(not finding.changes for finding in findings)


def test_a_setting_without_a_feasible_trial_is_worse_than_the_others():
    evidence = lose(study(settings=2), lambda run: run.plan.setting == 1)
    findings = search_findings(evidence)
    assert ids(findings, "warning") == {"infeasible-fraction"}
    assert findings[0].settings == (1,)


def test_settings_are_compared_by_the_trials_at_shared_points():
    assert settings_findings(study(settings=3)) == []
    (finding,) = settings_findings(study(settings=3, offsets=(0.0, 0.0, 1.0)))
    assert set(finding.settings) == {0, 1}
    assert finding.numbers["k"] == 10
    assert settings_findings(study(settings=1)) == []


@pytest.mark.parametrize("trials", [1, 2, 4])
def test_settings_with_a_few_trials_are_never_distinguished(trials):
    (finding,) = settings_findings(study(settings=2, offsets=(0.0, 3.0), trials=trials))
    assert "too few" in finding.sentence
    (change,) = finding.changes
    assert change.path == ("search", "trials")
    assert change.value >= 10


def test_equal_results_in_every_trial_are_not_distinguished():
    evidence = study(settings=2)
    equal = replace(evidence, runs=tuple(replace(run, best_value=0.1) for run in evidence.runs))
    (finding,) = settings_findings(equal)
    assert finding.numbers["difference"] == 0
    assert finding.action.endswith("retrain the best trial of each: they are equal, which may be luck")
    folder = replace(equal, folder="runs/a")
    (finding,) = settings_findings(folder)
    answer = study_answer(folder, [])
    assert (finding.command, answer.command) == ("tunectl retrain runs/a --each-setting --repeats 5",) * 2
    assert ids(search_findings(equal), "warning") == {"settings-not-distinguishable"}


@pytest.mark.parametrize(
    ("of_the_best", "of_the_other", "is_open"),
    [
        ([0.1, 0.11, 0.12], [0.3, 0.31, 0.32], False),
        ([0.1, 0.11, 0.32], [0.3, 0.31, 0.12], True),
        ([0.3, 0.31, 0.32], [0.1, 0.11, 0.12], True),
        ([0.1], [0.3], True),
    ],
)
def test_retrains_that_confirm_the_best_setting_end_the_warning(of_the_best, of_the_other, is_open):
    evidence = study(settings=2, offsets=(0.0, 0.0))
    best, other = (evidence.ranked(runs)[0].plan.trial for runs in evidence.by_setting.values())
    if evidence.ranked(evidence.searched)[0].plan.trial == other:
        best, other = other, best
    again = retrained(retrained(evidence, best, of_the_best), other, of_the_other)
    assert (settings_findings(again) != []) is is_open


def two_retrained(first, second):
    """A study with settings that are not distinguishable, and retrains of the best one and the other; their trials."""
    evidence = replace(study(settings=2, offsets=(0.0, 0.0)), folder="runs/one")
    best, other = sorted(
        (evidence.ranked(runs)[0] for runs in evidence.by_setting.values()), key=lambda run: run.best_value
    )
    assert best.best_value < other.best_value
    return retrained(retrained(evidence, best.plan.trial, first), other.plan.trial, second), best.plan, other.plan


def test_where_retrains_find_the_other_setting_better_the_warning_says_so_and_points_to_compare():
    evidence, best, other = two_retrained([0.3, 0.31, 0.32], [0.1, 0.11, 0.12])
    (finding,) = settings_findings(evidence)
    name = evidence.setting_name(other.setting)
    assert finding.sentence.endswith(f"but when both are trained again {name} is better.")
    assert finding.command == f"tunectl compare runs/one:{best.setting} runs/one:{other.setting}"
    assert finding.changes == ()


@pytest.mark.parametrize("count", [2, 3, 6])
def test_if_retrains_do_not_decide_more_of_them_are_proposed_and_no_trials(count):
    losses = [0.1 + 0.05 * (n % 3) for n in range(count)]
    evidence, *_ = two_retrained(losses, [loss + 0.01 for loss in losses])
    (finding,) = settings_findings(evidence)
    assert finding.changes == ()
    assert finding.numbers["retrains_to_tell"] > count
    assert finding.command == f"tunectl retrain runs/one --each-setting --repeats {finding.numbers['retrains_to_tell']}"


def test_with_retrains_of_one_setting_alone_the_trials_decide():
    evidence, *_ = two_retrained([0.1, 0.11, 0.12], [])
    (finding,) = settings_findings(evidence)
    assert "may be no better than" in finding.sentence


def test_retrains_give_the_variance_and_how_many_are_needed():
    evidence = study(settings=2, offsets=(0.0, 0.0))
    assert retrain_deviation(evidence) is None
    evidence = retrained(retrained(evidence, 0, [0.1, 0.2]), 3, [0.3, 0.3, 0.3])
    # Of the deviations ±0.05 and three zeros, over (2 - 1) + (3 - 1) degrees of freedom.
    assert retrain_deviation(evidence) == pytest.approx(math.sqrt(0.005 / 3))
    (finding,) = settings_findings(evidence)
    assert finding.numbers["retrains_to_tell"] >= 3
    assert len(evidence.searched) == 40  # they are no trials of the search


def test_sampled_enough_speaks_of_each_setting_in_the_objectives_own_numbers():
    found = sampled_enough_findings(study(settings=2, direction="maximize"))
    assert [finding.settings for finding in found] == [(0,), (1,)]
    for finding in found:
        medians = [item["median"] for item in finding.numbers["best_of_k"]]
        assert len(medians) == 10
        assert medians == sorted(medians)
        assert medians[-1] <= finding.numbers["best"] <= 1
        assert finding.numbers["expected_gain_of_doubling"] >= 0
        assert "(extrapolated)" in finding.sentence
        assert finding.level == "note"


def test_sampled_enough_proposes_more_trials_only_if_they_are_expected_to_gain():
    generator = np.random.default_rng(0)
    evidence = study(trials=40)
    values = {
        "falling": [0.1 + 0.9 * x for x in generator.uniform(size=40) ** 0.3],
        "settled": [0.1 + max(0.0, x - 0.6) for x in generator.uniform(size=40)],
    }
    found = {
        name: sampled_enough_findings(
            replace(evidence, runs=tuple(replace(run, best_value=x) for run, x in zip(evidence.runs, own, strict=True)))
        )[0]
        for name, own in values.items()
    }
    assert found["falling"].changes[0].value == 80
    assert found["settled"].changes == ()
    assert sampled_enough_findings(study(trials=1))[0].changes[0].value == 10


def test_a_negative_objective_and_one_chosen_later_are_accepted():
    evidence = study(settings=2)
    negative = replace(evidence, runs=tuple(replace(run, best_value=run.best_value - 100) for run in evidence.runs))
    assert ids(search_findings(negative), "warning") == ids(search_findings(evidence), "warning")
    unmeasured = replace(
        evidence,
        objective=Objective("valid/other", "maximize"),
        runs=tuple(replace(run, best_value=None, best_step=None) for run in evidence.runs),
    )
    assert ids(search_findings(unmeasured)) == {"sampled-enough", "fixed-caveat"}


@pytest.mark.parametrize("state", ["pending", "failed", "running"])
def test_a_study_without_an_ended_trial_has_no_finding(state):
    evidence = study(settings=2)
    waiting = replace(evidence, runs=tuple(replace(run, state=state, best_value=None) for run in evidence.runs))
    assert search_findings(waiting) == []


def test_the_caveat_names_what_is_fixed_and_warns_of_a_fixed_learning_rate():
    (tuned,) = fixed_caveat_findings(study(settings=2))
    assert tuned.numbers == {"fixed": {"schedule": "constant"}, "scientific": ["optimizer"]}
    (rate,) = fixed_caveat_findings(study(settings=2, names=("momentum",)))
    assert rate.numbers["fixed"]["learning_rate"] == 0.1
    assert "make learning_rate a nuisance" in rate.action


def test_values_are_written_as_in_the_tables_and_half_of_a_few_trials_is_not_mentioned():
    evidence = study(settings=2, trials=3, offsets=(0.0, 3.0), direction="maximize")
    large = [replace(run, best_value=9517.0 - 973 * run.plan.trial) for run in evidence.runs]
    findings = search_findings(replace(evidence, runs=tuple(large)))
    assert not any("e+0" in finding.sentence + finding.action for finding in findings)
    (best, *_) = [finding.sentence for finding in findings if finding.id == "sampled-enough"]
    assert best == f"The best of 3 trials of {evidence.setting_name(0)} reached 9517."


def test_with_too_few_trials_all_findings_propose_the_same_number():
    findings = search_findings(study(settings=2, trials=3, offsets=(0.0, 3.0)))
    asked = {finding.id: [change.value for change in finding.changes] for finding in findings if finding.changes}
    assert asked["sampled-enough"] == asked["settings-not-distinguishable"] == [10]


def test_conditional_hyperparameters_are_judged_where_they_are_active():
    domains = {"momentum": "when: {optimizer: nesterov}, range: [0.8, 0.995], scale: one_minus_log"}
    evidence = study(settings=2, names=("learning_rate", "momentum"), domains=domains)
    assert ids(search_findings(evidence), "warning") == set()
