"""The answer of simulated studies: the sentence, what it rests on, and that it agrees with the findings.

Tests study_answer.py, answer_sentences.py and setting_verdicts.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from simulated_studies import Response, Shape, evidence_of, with_target

from tunectl.analysis.comparison.not_distinguishable import settings_findings
from tunectl.analysis.comparison.setting_verdicts import setting_verdicts
from tunectl.analysis.comparison.study_answer import StudyAnswer, study_answer
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Finding
from tunectl.analysis.results.runs import Run
from tunectl.core.earlier_trials import EarlierTrial, EarlierTrials
from tunectl.core.objective import Objective
from tunectl.core.records import TrialOutcome


def study(*offsets: float, trials: int = 20, direction: str = "minimize") -> StudyEvidence:
    """A study with a setting for each offset of the logarithm of its error."""
    shape = Shape(settings=len(offsets), trials=trials, direction=direction)
    half = dict.fromkeys(shape.names, 0.5)
    return evidence_of(0, shape, Response(half, half, offsets))


def changed(evidence: StudyEvidence, is_meant: Callable[[Run], bool], **fields: object) -> StudyEvidence:
    runs = (replace(run, **fields) if is_meant(run) else run for run in evidence.runs)  # type: ignore[arg-type]
    return replace(evidence, runs=tuple(runs))


def retrained(
    evidence: StudyEvidence, values: Mapping[int, Sequence[float]], *, seeds: bool = False, **fields: object
) -> StudyEvidence:
    """The study with retrains of the best trial of each of these settings, which end with these values.

    Their curves are that trial's, so with `seeds` of their own these change nothing.
    """
    more = []
    for setting, own in values.items():
        best = evidence.ranked(evidence.by_setting[setting])[0]
        for number, value in enumerate(own):
            plan = replace(best.plan, trial=1000 + 100 * setting + number, repeat=number + 1, trial_kind="retrain")
            plan = replace(plan, seed=number) if seeds else plan
            more.append(replace(best, plan=plan, best_value=value, **fields))  # type: ignore[arg-type]
    return replace(evidence, runs=(*evidence.runs, *more))


def answer(evidence: StudyEvidence, findings: Sequence[Finding] = ()) -> StudyAnswer:
    outcomes = [TrialOutcome(run.plan, run.state, run.reason, best_value=run.best_value) for run in evidence.runs]
    return study_answer(evidence, outcomes, findings)


ALIKE, APART = study(0.0, 0.0), study(0.0, 3.0)
OTHER = next(setting for setting in (0, 1) if setting != ALIKE.ranked(ALIKE.searched)[0].plan.setting)
FIRST = 1 - OTHER
NAMES = {FIRST: ALIKE.setting_name(FIRST)[10:], OTHER: ALIKE.setting_name(OTHER)[10:]}


def test_a_search_in_which_one_setting_is_clearly_ahead_decides():
    found = answer(APART)
    assert found.sentence.startswith("nesterov is better than adam (0.83")
    assert "with 10 of 20 trials of each, nesterov would be ahead in 99.9% of cases" in found.sentence
    assert (found.certainty, found.command) == ("search", "")
    assert found.best is not None
    assert found.best.trial == APART.ranked(APART.searched)[0].plan.trial


def test_settings_that_are_alike_are_not_distinguished_and_a_command_says_what_would():
    found = answer(ALIKE)
    assert (
        "cannot be distinguished; retrain the best of each, 5 times, to see how much of it is luck." in found.sentence
    )
    assert (found.certainty, found.command) == ("open", "tunectl retrain runs/simulated --each-setting --repeats 5")
    equal = answer(changed(ALIKE, lambda _: True, best_value=0.1))
    assert equal.sentence.startswith("nesterov and adam cannot be distinguished: both reach 0.1;")


def test_with_the_deviation_of_retrains_it_says_what_five_of_them_would_resolve():
    # By the t-quantiles in `detectable_difference`: of a deviation of 0.01.
    assert answer(retrained(ALIKE, {FIRST: [0.1, 0.11, 0.12]})).sentence.endswith(
        "; 5 retrains of each would resolve 0.018."
    )


@pytest.mark.parametrize(
    ("of_the_best", "of_the_other", "certainty", "start"),
    [
        (
            [0.1, 0.11, 0.12],
            [0.3, 0.31, 0.32],
            "retrains",
            "{first} is better than {other}: trained again they reach 0.11",
        ),
        (
            [0.3, 0.31, 0.32],
            [0.1, 0.11, 0.12],
            "retrains",
            "{other} is better than {first}: trained again they reach 0.11",
        ),
        (
            [0.1, 0.11, 0.32],
            [0.3, 0.31, 0.12],
            "open",
            "Trained again, {first} (0.1767 on average) and {other} (0.2433",
        ),
        ([0.1, 0.11], [0.3, 0.31], "open", "Trained again, {first} (0.105 on average) and {other} (0.305"),
        (
            [0.1, 0.11, 0.12],
            [0.3, math.inf, 0.31],
            "retrains",
            "{first} is better than {other}: its retrains are better",
        ),
    ],
)
def test_retrains_decide_where_there_are_enough_of_them(of_the_best, of_the_other, certainty, start):
    found = answer(retrained(ALIKE, {FIRST: of_the_best, OTHER: of_the_other}))
    assert found.certainty == certainty
    assert found.sentence.startswith(start.format(first=NAMES[FIRST], other=NAMES[OTHER])), found.sentence
    # The best trial is that of the setting which the sentence names as better.
    leader = OTHER if start.startswith("{other}") else FIRST
    assert found.best is not None
    assert found.best.setting == leader


def test_where_very_many_retrains_would_be_needed_it_says_what_a_few_would_resolve_and_proposes_none():
    found = answer(retrained(ALIKE, {FIRST: [0.1, 0.11, 0.32], OTHER: [0.3, 0.31, 0.12]}))
    # Of the pooled deviation 0.116: (1.645 + 0.842) · 0.116 · √(2π / 3 / 4) = 0.21.
    assert found.sentence.endswith(
        "; 5 retrains of each would resolve 0.21, and about 41 are needed for the difference between them."
    )
    assert found.command == ""


def test_few_retrains_that_contradict_a_clear_search_leave_it_open_and_those_that_agree_do_not():
    assert answer(retrained(APART, {0: [0.1, 0.11], 1: [0.3, 0.31]})).certainty == "search"
    assert answer(retrained(APART, {0: [0.3, 0.31], 1: [0.1, 0.11]})).certainty == "open"


def test_a_difference_of_too_few_validation_examples_is_not_enough_as_in_compare():
    values = {FIRST: [0.01, 0.02, 0.03], OTHER: [0.04, 0.05, 0.06]}
    assert answer(retrained(ALIKE, values)).certainty == "retrains"
    few = retrained(ALIKE, values, evaluated_examples={"valid": 100})
    few = changed(few, lambda _: True, evaluated_examples={"valid": 100})
    found = answer(few)
    assert found.certainty == "open"
    assert f"the retrains of {NAMES[FIRST]} are better" in found.sentence
    assert "3 of 100 validation examples" in found.sentence


def test_other_searches_with_other_results_are_weighed_as_in_compare():
    evidence = retrained(ALIKE, {FIRST: [0.1, 0.11, 0.12], OTHER: [0.3, 0.31, 0.32]})
    assert setting_verdicts(evidence, {FIRST: [(0.1,)], OTHER: [(0.31,)]}).others[0].worse_by == "retrains"  # type: ignore[union-attr]
    assert setting_verdicts(evidence, {FIRST: [(0.9,)], OTHER: [(0.1,)]}).others[0].worse_by is None  # type: ignore[union-attr]


def test_seeds_without_effect_are_no_evidence():
    evidence = retrained(ALIKE, {FIRST: [0.1, 0.1]}, seeds=True)
    assert answer(evidence).sentence.endswith("; retrains say nothing, since other seeds change nothing.")


@pytest.mark.parametrize("trials", [1, 2, 4])
def test_few_trials_say_nothing_and_more_are_proposed(trials):
    found = answer(study(0.0, 3.0, trials=trials))
    verb = "trial of each is" if trials == 1 else "trials of each are"
    assert found.sentence.startswith(f"{trials} {verb} too few to say whether")
    assert found.sentence.endswith("; raise search.trials.")
    assert found.certainty == "open"


def test_of_many_settings_those_that_are_worse_those_that_are_not_and_those_without_a_value_are_named():
    found = answer(study(0.0, 0.0, 3.0, 3.5)).sentence
    assert "cannot be distinguished from nesterov (0.05548), but is better than rmsprop and sgd" in found
    lost = changed(study(0.0, 0.0, 3.0, 3.5), lambda run: run.plan.setting == 3, state="infeasible", reason="nan_loss")
    assert answer(lost).sentence.endswith("no trial of rmsprop has a value (20 infeasible).")
    alike = answer(study(0.0, 0.0, 0.0, 0.0)).sentence
    assert alike.startswith("sgd (0.04966), adam (0.05066), rmsprop (0.05216) and 1 more cannot be distinguished")


def test_one_setting_that_works_is_better_only_where_there_are_enough_trials():
    for trials, certainty, end in (
        (20, "search", "(20 infeasible)."),
        (3, "open", "too few to say that none ever would)."),
    ):
        lost = changed(study(0.0, 0.0, trials=trials), lambda run: run.plan.setting == 1, state="infeasible")
        found = answer(lost)
        assert found.sentence.startswith("Only nesterov has a trial with a value: its best one reaches 0.0")
        assert found.sentence.endswith(end)
        assert found.certainty == certainty


def test_without_settings_the_best_trial_is_the_answer_and_its_retrains_its_certainty():
    one = study(0.0)
    found = answer(one)
    assert found.sentence == (
        "The best of 20 trials is trial 14, which reaches 0.05168; how much of that is luck is not known, since it was "
        "not trained again."
    )
    assert (found.certainty, found.command) == ("one setting", "tunectl retrain runs/simulated --repeats 5")
    again = answer(retrained(one, {0: [0.1, 0.12, 0.11]}))
    assert again.sentence.endswith("its 3 retrains reach 0.11 on average, with a standard deviation of 0.01.")
    assert answer(retrained(one, {0: [0.1, math.inf]})).sentence.endswith("1 of its 2 retrains has no value.")
    assert answer(study(0.0, trials=1)).sentence.startswith("The only trial reaches 0.16")


@pytest.mark.parametrize(("value", "words"), [(0.06, "better than"), (0.04, "not better than")])
def test_proposed_trials_are_compared_with_the_best_one_before(value, words):
    before = EarlierTrials("runs/exploration", "", (EarlierTrial("runs/exploration", 7, {}, "completed", value, 100),))
    found = answer(replace(study(0.0), earlier=before)).sentence
    assert f"which reaches 0.05168, {words} the best one before ({value}, trial 7 of runs/exploration); " in found


@pytest.mark.parametrize(
    ("evidence", "sentence"),
    [
        (
            changed(APART, lambda _: True, state="infeasible", reason="diverged"),
            "No trial completed with a value of valid/error_rate (40 infeasible: diverged), so there is no answer.",
        ),
        (
            changed(APART, lambda _: True, state="failed", reason="error", best_value=None),
            "No trial completed with a value of valid/error_rate (40 failed: error), so there is no answer.",
        ),
        (
            changed(APART, lambda _: True, state="pending", best_value=None),
            "So far (0 of 40 trials ended): no trial has ended, so there is no answer yet.",
        ),
    ],
)
def test_where_nothing_ended_well_it_says_why_there_is_no_answer(evidence, sentence):
    found = answer(evidence)
    assert (found.sentence, found.certainty, found.best, found.command) == (sentence, "none", None, "")


def test_an_unfinished_study_is_answered_so_far():
    late = changed(APART, lambda run: run.plan.trial > 20, state="pending", best_value=None, best_step=None)
    assert answer(late).sentence.startswith("So far (21 of 40 trials ended): nesterov is better than adam")


def test_a_trial_that_was_stopped_for_good_has_ended_for_the_answer_too():
    stopped = changed(APART, lambda run: run.plan.trial == 39, state="cancelled", reason="stopped", best_value=None)
    assert answer(stopped).sentence.startswith("nesterov is better than adam")
    every = changed(APART, lambda _: True, state="cancelled", reason="stopped", best_value=None)
    assert "(40 cancelled: stopped), so there is no answer" in answer(every).sentence


def test_the_words_are_those_of_the_objective():
    assert (
        "its best trial ends at 0.05363"
        in answer(replace(APART, objective=Objective("valid/error_rate", "minimize", "final"))).sentence
    )
    up = answer(study(0.0, 0.0, direction="maximize"))
    assert up.sentence.startswith("adam (0.9482) and nesterov (0.9464) cannot be distinguished")
    far = answer(with_target(study(0.0, 3.0, direction="maximize"), 0.99))
    assert far.sentence.startswith("No trial reached valid/accuracy ≥ 0.99; trial ")
    near = answer(with_target(study(0.0, 3.0, direction="maximize"), 0.9)).sentence
    assert near.startswith(
        "nesterov is better than adam (not in 2,000 steps): its best trial reaches valid/accuracy ≥ 0.9"
    )


@pytest.mark.parametrize("offset", [0.0, 0.02, 0.1, 0.4, 3.0])
@pytest.mark.parametrize("trials", [3, 12])
def test_without_retrains_it_is_open_exactly_where_the_finding_says_that_settings_are_alike(offset, trials):
    evidence = study(0.0, offset, trials=trials)
    named = {setting for finding in settings_findings(evidence) for setting in finding.settings}
    verdicts = setting_verdicts(evidence)
    assert verdicts is not None
    assert {item.setting for item in verdicts.open} == named - {verdicts.setting}


def test_findings_that_question_it_are_named_once_and_it_can_be_written_as_json():
    doubtful = Finding("search-boundary", "warning", "", "")
    note = Finding("stages-agree", "note", "", "")
    found = answer(APART, [doubtful, doubtful, note, Finding("fixed-caveat", "note", "", "")])
    assert found.doubts == ("search-boundary",)
    stopped = Finding("stopped-early", "note", "5 trials were stopped early.", "train again")
    assert answer(APART, [stopped]).doubts == ("stopped-early",), "one of them may have become the best"
    content = json.loads(json.dumps(found.to_json()))
    assert content["best"]["varying"] == ["optimizer", "learning_rate", "weight_decay"]
    assert list(content["best"]["hyperparameters"])[:3] == content["best"]["varying"]


def test_of_equal_trials_the_best_is_the_one_that_every_command_takes():
    equal = changed(study(0.0, 0.0), lambda run: run.plan.trial in (3, 4), best_value=0.01)
    found = answer(equal)
    assert found.best is not None
    assert found.best.trial == 3 == equal.ranked(equal.searched)[0].plan.trial
    assert np.isclose(found.best.value or 0.0, 0.01)
