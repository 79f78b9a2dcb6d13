"""`search.stop_early` as it is written. Tests early_stopping_checks.py."""

from __future__ import annotations

from dataclasses import fields

import pytest
from builders import NUISANCE_RATE, problems_of, study

from tunectl.language.configuration import SHAPE_OF_SCHEDULE, TrainingConfiguration
from tunectl.language.identity import differences
from tunectl.language.review import review
from tunectl.language.study_spec import StudySpec
from tunectl.space.search_space import StopEarly

OF_NO_SCHEDULE = {
    *("optimizer", "learning_rate", "batch_size", "eval_batch_size", "momentum", "rho", "beta1", "beta2", "epsilon"),
    *("weight_decay", "weight_decay_scope", "grad_clip_norm", "accumulate_steps", "precision", "polyak_decay"),
    *("activation_checkpointing", "initialisation", "initialisation_steps", "initialisation_learning_rate"),
    *("initialisation_momentum", "range_test_low", "adamw_learning_rate", "muon_scale"),
    *("grad_clip", "adaptive_clip_factor", "update_clip_rms"),
    # What a schedule of the study's own takes is compared by name.
    *("optimizer_code", "schedule_code"),
}
"""The fields that leave the learning rate's schedule as it is, relative to the base rate. A new field goes here or into
SHAPE_OF_SCHEDULE: by that, early stopping knows which trials it may compare.
"""


def stopping(rule: str, more: str = "", rate: str = NUISANCE_RATE, **sections: str) -> StudySpec:
    hyperparameters = {"learning_rate": rate, **({"warmup_steps": more} if more else {})}
    return study(hyperparameters, search=f"{{trials: 8, stop_early: {rule}}}", **sections)


def test_every_field_is_known_to_shape_the_schedule_or_not() -> None:
    names = {item.name for item in fields(TrainingConfiguration)}
    assert names == {*SHAPE_OF_SCHEDULE} | OF_NO_SCHEDULE
    assert not {*SHAPE_OF_SCHEDULE} & OF_NO_SCHEDULE


def test_it_is_off_unless_a_study_asks_for_it() -> None:
    assert study().search.stop_early is None
    assert stopping("{rule: median}").search.stop_early == StopEarly("median")
    whole = stopping("{rule: median, grace: 0.2, min_trials: 9, same: [learning_rate]}")
    assert whole.search.stop_early == StopEarly("median", 0.2, 9, ("learning_rate",))


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ("{}", "search.stop_early.rule: the key is missing; write median, the one rule that there is"),
        ("{rule: hyperband}", "search.stop_early.rule: expected one of median, got 'hyperband'"),
        ("{rule: median, grace: 1}", "search.stop_early.grace: expected less than 1, got 1"),
        ("{rule: median, min_trials: 1}", "search.stop_early.min_trials: expected at least 2, got 1"),
        ("{rule: median, gracer: 1}", "search.stop_early.gracer: no such key; did you mean grace?"),
        (
            "{rule: median, same: [learning_rates]}",
            "search.stop_early.same[0]: expected a hyperparameter, got 'learning_rates'; did you mean learning_rate?",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(rule: str, problem: str) -> None:
    assert problems_of({"learning_rate": NUISANCE_RATE}, search=f"{{trials: 8, stop_early: {rule}}}") == [problem]


def test_a_target_is_refused() -> None:
    (problem,) = problems_of(
        {"learning_rate": NUISANCE_RATE},
        search="{trials: 8, stop_early: {rule: median}}",
        objective="{metric: valid/error_rate, direction: minimize, steps_to: 0.1}",
    )
    assert problem.startswith("search.stop_early: expected no steps_to beside it")


COMMAND = (
    "{command: [python, train.py, '{learning_rate}'], metrics: {regex: 'step=(?P<step>\\d+) loss=(?P<loss>\\S+)'}}"
)


def test_own_code_says_which_hyperparameters_shape_its_schedule() -> None:
    sections = {"workload": COMMAND, "objective": "{metric: loss, direction: minimize}"}
    hyperparameters = {"learning_rate": NUISANCE_RATE, "optimizer": None}
    problems = problems_of(hyperparameters, search="{trials: 8, stop_early: {rule: median}}", **sections)
    assert [problem for problem in problems if "stop_early" in problem] == [
        "search.stop_early: only trials with the same schedule are compared, and which hyperparameters of own code shape "
        "its schedule is not known; write same: [names of those], or same: [] where none does"
    ]


def warnings(spec: StudySpec) -> list[str]:
    return [problem.message for problem in review(spec, ({},), (8,)) if problem.path == "search.stop_early"]


def test_a_schedule_that_differs_in_every_trial_is_doubted() -> None:
    assert warnings(stopping("{rule: median}")) == []
    (warning,) = warnings(stopping("{rule: median}", "{role: nuisance, range: [10, 100], type: int}"))
    assert "warmup_steps differs between trials, so that few or none are stopped" in warning
    assert warnings(stopping("{rule: median}", "{role: scientific, values: [10, 100]}")) == []


def test_it_may_change_between_two_calls_on_one_folder() -> None:
    assert not differences(stopping("{rule: median}"), stopping("{rule: median, grace: 0.2}")).results
    assert not differences(
        study({"learning_rate": NUISANCE_RATE}, search="{trials: 8}"), stopping("{rule: median}")
    ).results
