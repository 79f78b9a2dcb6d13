"""A study written for MLflow, read back by MLflow.

Tests exchange/database_errors.py, too.
"""

from __future__ import annotations

import contextlib
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
LARGEST = 1.7976931348623157e308
"""MLflow's stores keep infinities as the largest float."""


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    """A store with its tables made, which takes seconds."""
    place = tmp_path_factory.mktemp("mlflow") / "m.db"
    library("mlflow.tracking").MlflowClient(database_url(place)).search_experiments()
    return place.read_bytes()


@pytest.fixture
def store(tmp_path, empty_store):
    place = tmp_path / "m.db"
    place.write_bytes(empty_store)
    return place


@pytest.fixture
def client(store):
    return library("mlflow.tracking").MlflowClient(database_url(store))


def runs_by_name(client):
    experiment = client.get_experiment_by_name("example")
    found = client.search_runs([experiment.experiment_id])
    assert len({run.info.run_name for run in found}) == len(found)
    return {run.info.run_name: run for run in found}


def test_one_parent_has_a_run_a_trial_with_its_metrics_by_step_its_values_and_its_end(client, store, study_folder):
    found = export_study(study_folder, "mlflow", str(store))
    assert (found.trials, found.planned) == (7, 8)
    runs = runs_by_name(client)
    parent = runs.pop("example")
    assert len(runs) == 7
    for item in read_for_export(study_folder).launched:
        run, trial = runs[item.name], item.plan.trial
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["tunectl.state"] == item.outcome.state
        assert run.data.params == {
            name: value if isinstance(value, str) else repr(value) for name, value in item.plan.hyperparameters.items()
        }
        for metric in ("valid/error_rate", "train/loss"):
            history = client.get_metric_history(run.info.run_id, metric)
            limited = [(step, min(value, LARGEST)) for step, value in curve_of(study_folder, trial, metric)]
            assert as_texts(sorted((point.step, point.value) for point in history)) == as_texts(limited)
        assert run.data.metrics["best/valid/error_rate"] == item.outcome.best_value
    for trial in (RECORDED, CLASHING):
        for name, field in of_updates(trial).items():
            history = client.get_metric_history(runs[f"trial-{trial:05d}"].info.run_id, name)
            expected = as_texts(updates_of(study_folder, trial, field))
            assert as_texts(sorted((point.step, point.value) for point in history)) == expected
    history = client.get_metric_history(runs[f"trial-{CLASHING:05d}"].info.run_id, "learning_rate")
    assert as_texts(sorted((point.step, point.value) for point in history)) == as_texts(
        curve_of(study_folder, CLASHING, "learning_rate")
    )
    assert runs[f"trial-{INFEASIBLE:05d}"].data.tags["tunectl.reason"] == "nan_loss"
    assert runs[f"trial-{FAILED:05d}"].info.status == "FAILED"
    assert f"trial-{PENDING:05d}" not in runs
    assert len(client.get_metric_history(runs[f"trial-{NAN:05d}"].info.run_id, "train/loss")) == 4


def test_a_second_export_replaces_the_first(client, store, study_folder):
    export_study(study_folder, "mlflow", str(store))
    before = {run.info.run_id for run in runs_by_name(client).values()}
    export_study(study_folder, "mlflow", str(store))
    after = {run.info.run_id for run in runs_by_name(client).values()}
    assert len(after) == len(before) == 8
    assert not after & before


def test_the_export_of_a_study_folder_that_was_moved_is_replaced_and_a_copy_writes_its_own(
    empty_store, study_folder, tmp_path
):
    place = study_folder / "exports" / "mlflow.db"
    place.parent.mkdir()
    place.write_bytes(empty_store)
    export_study(study_folder, "mlflow")
    copied = tmp_path / "copied"
    shutil.copytree(study_folder, copied)
    for _ in range(2):
        export_study(copied, "mlflow")
        there = library("mlflow.tracking").MlflowClient(database_url(copied / "exports" / "mlflow.db"))
        assert there.get_experiment_by_name("example").tags["tunectl.folder"] == str(copied)
        assert len(runs_by_name(there)) == 8
    with pytest.raises(FolderError, match="has an experiment 'example' of the study folder"):
        export_study(copied, "mlflow", str(place))


def test_a_database_of_another_tool_is_left_as_it_is(study_folder, tmp_path):
    for name in ("optuna", "mlflow"):
        library(name)
    place = export_study(study_folder, "optuna", str(tmp_path / "o.db")).place
    before = place.read_bytes()
    with pytest.raises(FolderError, match=r"o\.db: is a database of another program than mlflow"):
        export_study(study_folder, "mlflow", str(place))
    assert place.read_bytes() == before


def test_a_store_of_another_version_is_refused_in_one_line(store, study_folder):
    with contextlib.closing(sqlite3.connect(store)) as database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
        database.commit()
    with pytest.raises(FolderError, match="MLflow cannot write it: ") as caught:
        export_study(study_folder, "mlflow", str(store))
    assert "\n" not in str(caught.value)


def test_an_experiment_of_that_name_that_is_not_ours_is_left_alone(client, store, study_folder):
    experiment = client.create_experiment("example", artifact_location="file:///nowhere")
    client.create_run(experiment)
    with pytest.raises(FolderError, match=r"has an experiment 'example' that tunectl did not make"):
        export_study(study_folder, "mlflow", str(store))
    assert len(client.search_runs([experiment])) == 1


def test_an_export_that_breaks_leaves_the_earlier_one_alone(client, store, study_folder, monkeypatch):
    export_study(study_folder, "mlflow", str(store))
    before = {run.info.run_id for run in runs_by_name(client).values()}
    monkeypatch.setattr("tunectl.exchange.mlflow_store._status", lambda _state: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_study(study_folder, "mlflow", str(store))
    assert {run.info.run_id for run in runs_by_name(client).values()} == before


def test_names_that_mlflow_does_not_take_stay_distinct(client):
    from tunectl.exchange.mlflow_store import _metric_name

    names = ["valid/loss", "a@b", "a#b", "a//b", "/a", "../a", "é 1.5:x-y", "."]
    given = [_metric_name(name) for name in names]
    assert given[0] == "valid/loss"
    assert len(set(given)) == len(names)
    experiment = client.create_experiment("names", artifact_location="file:///nowhere")
    run = client.create_run(experiment).info.run_id
    for name in given:
        client.log_metric(run, name, 1.0)
