"""A study written for Optuna, read back by Optuna."""

from __future__ import annotations

import contextlib
import math
import shutil
import sqlite3

import pytest
from exported_studies import (
    CLASHING,
    FAILED,
    INFEASIBLE,
    NAN,
    PENDING,
    RECORDED,
    as_texts,
    curve_of,
    of_updates,
    updates_of,
)
from other_tools import MARKS, library

from tunectl.commands.export import export_study, read_for_export
from tunectl.core.errors import FolderError
from tunectl.exchange.export_folder import database_url

pytestmark = MARKS


@pytest.fixture
def optuna():
    return library("optuna")


@pytest.fixture
def storage(study_folder, tmp_path, optuna):
    return database_url(export_study(study_folder, "optuna", str(tmp_path / "o.db")).place)


@pytest.fixture
def trials(storage, optuna):
    return optuna.load_study(study_name="example", storage=storage).trials


def test_every_intermediate_value_is_read_back_as_it_was_measured(trials, study_folder):
    for trial in range(PENDING):
        there = sorted(trials[trial].intermediate_values.items())
        assert as_texts(there) == as_texts(curve_of(study_folder, trial, "valid/error_rate"))
    assert trials[NAN].intermediate_values[75] != trials[NAN].intermediate_values[75]


def test_values_parameters_and_states_are_those_of_the_study(trials, study_folder, optuna):
    states = optuna.trial.TrialState
    for trial, item in zip(trials, read_for_export(study_folder).trials, strict=True):
        optimizer = item.plan.hyperparameters["optimizer"]
        expected = dict(item.plan.hyperparameters)
        expected[f"learning_rate[optimizer={optimizer}]"] = expected.pop("learning_rate")
        del expected["num_layers"]
        assert trial.params == expected
        assert trial.user_attrs["hyperparameters"] == item.plan.hyperparameters
        assert trial.user_attrs["state"] == item.outcome.state
        if item.outcome.state == "completed":
            assert (trial.state, trial.value) == (states.COMPLETE, item.outcome.best_value)
    assert (trials[FAILED].state, trials[PENDING].state) == (states.FAIL, states.WAITING)


def test_what_the_updates_were_like_at_the_best_step_is_exported(trials, study_folder):
    for trial in (RECORDED, CLASHING):
        attributes = trials[trial].user_attrs
        for name, field in of_updates(trial).items():
            assert attributes[f"best/{name}"] == dict(updates_of(study_folder, trial, field))[attributes["best_step"]]
    assert trials[CLASHING].user_attrs["best/learning_rate"] == 50 / 11


def test_the_export_of_a_study_folder_that_was_moved_or_copied_is_replaced(study_folder, tmp_path, optuna):
    place = export_study(study_folder, "optuna").place
    copied = tmp_path / "copied"
    shutil.copytree(study_folder, copied)
    found = export_study(copied, "optuna")
    study = optuna.load_study(study_name="example", storage=database_url(found.place))
    assert study.user_attrs["tunectl"]["folder"] == str(copied)
    with pytest.raises(FolderError, match="has a study 'example' of the study folder"):
        export_study(copied, "optuna", str(place))
    elsewhere = export_study(study_folder, "optuna", str(tmp_path / "o.db")).place
    with pytest.raises(FolderError, match="has a study 'example' of the study folder"):
        export_study(copied, "optuna", str(elsewhere))


def test_a_database_of_something_else_and_the_studys_own_are_left_as_they_are(study_folder, tmp_path):
    places = (tmp_path / "mine.db", study_folder / "study.db")
    for place in places:
        with contextlib.closing(sqlite3.connect(place)) as database:
            database.execute("CREATE TABLE IF NOT EXISTS version_info (x)")
    before = [place.read_bytes() for place in places]
    for place in places:
        with pytest.raises(FolderError, match=r"is a database of another program than optuna; give another --out"):
            export_study(study_folder, "optuna", str(place))
    assert [place.read_bytes() for place in places] == before


def test_an_infeasible_trial_violates_a_constraint_is_never_the_best_and_says_why(trials, optuna):
    there = trials[INFEASIBLE]
    assert (there.state, there.value) == (optuna.trial.TrialState.COMPLETE, math.inf)
    assert there.system_attrs["constraints"] == [1.0]
    assert (there.user_attrs["reason"], there.user_attrs["infeasible_step"]) == ("nan_loss", 50)
    assert trials[0].system_attrs["constraints"] == [0.0]


def test_distributions_have_the_ranges_and_scales_of_the_study(trials, optuna):
    made = optuna.distributions
    assert trials[0].distributions == {
        "optimizer": made.CategoricalDistribution(["nesterov", "adam"]),
        "learning_rate[optimizer=nesterov]": made.FloatDistribution(1e-3, 3, log=True),
        "momentum": made.FloatDistribution(0.8, 0.999),
        "width": made.IntDistribution(8, 64, log=True),
        "activation": made.CategoricalDistribution(["relu", "tanh"]),
    }
    assert "momentum" not in trials[1].distributions


def test_optuna_finds_the_same_best_trial_and_can_go_on_searching(storage, study_folder, optuna):
    study = optuna.load_study(study_name="example", storage=storage)
    completed = [item for item in read_for_export(study_folder).trials if item.outcome.state == "completed"]
    values = {item.plan.trial: item.outcome.best_value for item in completed if item.outcome.best_value is not None}
    assert len(values) == len(completed)
    best = min(values, key=values.__getitem__)
    assert (study.best_trial.number, study.best_value) == (best, values[best])
    assert study.metric_names == ["valid/error_rate"]
    assert study.user_attrs["tunectl"]["goal"] == "Which optimizer is better?"


def test_a_second_export_replaces_the_first_and_other_studies_stay(storage, study_folder, tmp_path, optuna):
    optuna.create_study(study_name="mine", storage=storage)
    export_study(study_folder, "optuna", storage)
    assert set(optuna.get_all_study_names(storage)) == {"mine", "example"}
    assert len(optuna.load_study(study_name="example", storage=storage).trials) == 8


def test_a_study_of_that_name_that_is_not_ours_is_left_alone(study_folder, tmp_path, optuna):
    url = database_url(tmp_path / "theirs.db")
    optuna.create_study(study_name="example", storage=url).add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(FolderError, match=r"has a study 'example' that tunectl did not make; give another --out"):
        export_study(study_folder, "optuna", url)
    assert len(optuna.load_study(study_name="example", storage=url).trials) == 1


def test_a_trial_that_was_stopped_waits(stopped, tmp_path, optuna):
    url = database_url(export_study(stopped, "optuna", str(tmp_path / "o.db")).place)
    there = optuna.load_study(study_name="example", storage=url).trials[0]
    assert (there.state, there.user_attrs["state"]) == (optuna.trial.TrialState.WAITING, "cancelled")
    assert len(there.intermediate_values) == 3
