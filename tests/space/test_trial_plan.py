"""The plan: ids that never change, round robin, and more trials appended to those there are."""

from __future__ import annotations

import pytest
from builders import NUISANCE_RATE, study

from tunectl.core.errors import StudyError
from tunectl.core.jsontext import encode
from tunectl.core.records import PlannedTrial
from tunectl.space.halton import halton_points
from tunectl.space.search_space import search_space
from tunectl.space.trial_plan import plan_trials, trial_seed

TWO_SETTINGS = {
    "optimizer": "{role: scientific, values: [nesterov, adam]}",
    "learning_rate": "[{role: nuisance, when: {optimizer: nesterov}, range: [1e-3, 3], scale: log}, "
    "{role: nuisance, when: {optimizer: adam}, range: [1e-5, 1e-1], scale: log}]",
    "momentum": "{role: nuisance, when: {optimizer: nesterov}, range: [0.8, 0.999], scale: one_minus_log}",
    "width": "64",
}


def plan(trials, hyperparameters=None, after=(), seed=0, sampler="halton", training_seed=0):
    spec = study(
        hyperparameters or TWO_SETTINGS,
        search=f"{{sampler: {sampler}, trials: {trials}, seed: {seed}}}",
        training=f"{{max_train_steps: 10, eval_every: 5, seed: {training_seed}}}",
    )
    return plan_trials(spec, after=after)


def lines(trials):
    return [encode(trial.to_json()) for trial in trials]


def test_ids_go_round_robin_over_the_settings():
    found = plan(3)
    assert [(trial.trial, trial.setting, trial.point, trial.repeat) for trial in found] == [
        (0, 0, 0, 0), (1, 1, 0, 0), (2, 0, 1, 0), (3, 1, 1, 0), (4, 0, 2, 0), (5, 1, 2, 0),
    ]  # fmt: skip
    assert {trial.trial_kind for trial in found} == {"search"}


def test_hyperparameters_are_in_the_order_of_the_study_and_only_where_they_are_active():
    nesterov, adam = plan(1)
    assert list(nesterov.hyperparameters) == ["optimizer", "learning_rate", "momentum", "width"]
    assert list(adam.hyperparameters) == ["optimizer", "learning_rate", "width"]


def test_the_first_lines_of_a_plan_never_change():
    assert lines(plan(2))[:3] == GOLDEN


GOLDEN = [
    '{"trial": 0, "setting": 0, "point": 0, "repeat": 0, "coordinates": [0.020222028388665936, 0.2759850729718861], "hyperparameters": {"optimizer": "nesterov", "learning_rate": 0.0011757485307838328, "momentum": 0.9536574353571743, "width": 64}, "seed": 2968811710, "kind": "search"}',
    '{"trial": 1, "setting": 1, "point": 0, "repeat": 0, "coordinates": [0.020222028388665936, 0.2759850729718861], "hyperparameters": {"optimizer": "adam", "learning_rate": 1.204725529285897e-05, "width": 64}, "seed": 3964924996, "kind": "search"}',
    '{"trial": 2, "setting": 0, "point": 1, "repeat": 0, "coordinates": [0.5202220283886659, 0.9426517396385528], "hyperparameters": {"optimizer": "nesterov", "learning_rate": 0.06439839922638621, "momentum": 0.998644935189501, "width": 64}, "seed": 3141116543, "kind": "search"}',
]


@pytest.mark.parametrize("sampler", ["halton", "random"])
def test_raising_the_trials_leaves_every_earlier_line_byte_for_byte(sampler):
    twenty, thirty = plan(20, sampler=sampler), plan(30, sampler=sampler)
    assert lines(thirty)[: len(twenty)] == lines(twenty)


@pytest.mark.parametrize("sampler", ["halton", "random"])
def test_an_extension_appends_what_the_longer_plan_has_more(sampler):
    twenty, thirty = plan(20, sampler=sampler), plan(30, sampler=sampler)
    assert plan(30, after=twenty, sampler=sampler) == thirty[len(twenty) :]
    assert plan(30, after=thirty, sampler=sampler) == []
    assert plan(20, after=thirty, sampler=sampler) == []


def test_an_extension_goes_on_after_the_last_id_whatever_is_between():
    twenty = plan(2)
    retrained = PlannedTrial(9, 0, 0, 1, twenty[0].coordinates, twenty[0].hyperparameters, 5, "retrain")
    more = plan(3, after=[*twenty, retrained])
    assert [(trial.trial, trial.setting, trial.point) for trial in more] == [(10, 0, 2), (11, 1, 2)]
    assert [trial.seed for trial in more] == [trial_seed(0, 10), trial_seed(0, 11)]


def test_a_plan_that_was_cut_short_is_completed_without_a_double():
    whole = plan(5)
    rest = plan(5, after=whole[:7])
    assert [(t.setting, t.point, t.coordinates) for t in rest] == [
        (t.setting, t.point, t.coordinates) for t in whole[7:]
    ]
    assert rest == whole[7:]


def test_a_point_is_kept_in_the_coordinates_of_its_trials():
    for trial in plan(10):
        assert trial.coordinates == tuple(halton_points(0, 2, trial.point, 1)[0].tolist())


def test_the_search_seed_moves_the_points_and_the_training_seed_the_trials_own_seeds():
    base = plan(4)
    assert [trial.coordinates for trial in plan(4, seed=1)] != [trial.coordinates for trial in base]
    assert [trial.seed for trial in plan(4, seed=1)] == [trial.seed for trial in base]
    moved = plan(4, training_seed=1)
    assert [trial.coordinates for trial in moved] == [trial.coordinates for trial in base]
    assert not {trial.seed for trial in moved} & {trial.seed for trial in base}


def test_the_seeds_of_trials_are_their_own_and_never_change():
    assert len({trial_seed(0, trial) for trial in range(2_000)}) == 2_000
    assert [trial_seed(0, 0), trial_seed(0, 1), trial_seed(2**63 - 1, 7)] == GOLDEN_SEEDS
    assert all(0 <= trial_seed(2**63 - 1, trial) < 2**32 for trial in range(50))


GOLDEN_SEEDS = [2968811710, 3964924996, 561333285]


def test_twenty_points_of_each_setting_are_spread_over_its_own_range():
    for setting, low, high in ((0, 1e-3, 3.0), (1, 1e-5, 1e-1)):
        rates = [trial.hyperparameters["learning_rate"] for trial in plan(16) if trial.setting == setting]
        ratio = (high / low) ** (1 / 16)
        bins = sorted(next(k for k in range(16) if rate < low * ratio ** (k + 1) * (1 + 1e-9)) for rate in rates)
        assert bins == list(range(16))


def test_a_study_where_nothing_varies_is_one_trial():
    (trial,) = plan_trials(study())
    assert trial.hyperparameters == {"optimizer": "sgd", "learning_rate": 0.1}
    assert trial.coordinates == ()


def test_ten_thousand_trials_in_twenty_dimensions_are_planned():
    many = {f"n{index}": "{role: nuisance, range: [0, 1]}" for index in range(19)}
    trials = plan(10_000, {"learning_rate": NUISANCE_RATE, **many})
    assert len(trials) == 10_000
    assert len({trial.coordinates for trial in trials}) == 10_000
    assert len(trials[0].coordinates) == 20
    assert trials[-1].trial == 9_999


def test_more_trials_than_a_plan_holds_are_refused_at_their_place():
    settings = {"x": "{role: scientific, values: [1, 2]}", "learning_rate": NUISANCE_RATE}
    with pytest.raises(
        StudyError, match=r"search\.trials: expected at most 1,000,000 trials in a study, got 500,001 in each of 2"
    ):
        plan(500_001, settings)


def test_a_value_that_a_combination_without_it_would_have_is_absent():
    deep = {
        "learning_rate": NUISANCE_RATE,
        "a": "{role: nuisance, values: [1, 2]}",
        "b": "{role: nuisance, values: [1, 2], when: {a: 1}}",
        "c": "{role: nuisance, range: [0, 1], when: {b: 2}}",
    }
    trials = plan(40, deep)
    for trial in trials:
        values = trial.hyperparameters
        assert ("b" in values) == (values["a"] == 1)
        assert ("c" in values) == (values.get("b") == 2)
    assert {frozenset(trial.hyperparameters) for trial in trials} == {
        frozenset(["optimizer", "learning_rate", "a", *more]) for more in ((), ("b",), ("b", "c"))
    }
    assert search_space(study(deep, search="{trials: 1}")).dimensions == 4
