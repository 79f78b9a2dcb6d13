"""Optuna's storages read: what is there, and what cannot be read or expressed."""

from __future__ import annotations

import math
import re
import sqlite3
import warnings
from datetime import datetime, timedelta

import pytest
from exported_studies import INFEASIBLE, TEXT
from made_up_folders import made_up_folder
from other_tools import MARKS, library

from tunectl.analysis.results.outcomes import best_outcome
from tunectl.commands.export import export_study, read_for_export
from tunectl.commands.import_study import import_study
from tunectl.core.errors import FolderError, TunectlError, UsageError
from tunectl.core.objective import Objective
from tunectl.exchange.export_folder import database_url
from tunectl.exchange.optuna_reading import read_optuna
from tunectl.session.snapshot import study_snapshot

pytestmark = MARKS
NOW = datetime.fromisoformat("2026-03-01T12:00:00+00:00")


@pytest.fixture
def optuna():
    return library("optuna")


def objective(optuna):
    def measure(trial):
        kind = trial.suggest_categorical("kind of optimizer", ["sgd", "adam", None])
        rate = trial.suggest_float("lr", 1e-5, 1e-1, log=True)
        layers = trial.suggest_int("layers", 1, 3)
        for layer in range(layers):
            trial.suggest_int(f"units_{layer}", 8, 64, step=8)
        if kind == "sgd":
            trial.suggest_float("momentum", 0.0, 0.99)
        if trial.number == 7:
            raise ValueError("too many")
        value = math.inf
        for step in range(5):
            value = abs(math.log10(rate) + 2) / (step + 1) + 0.1 / layers
            trial.report(value, step)
            if trial.number > 5 and trial.should_prune():
                raise optuna.TrialPruned
        return value

    return measure


@pytest.fixture
def searched(tmp_path, optuna):
    """A storage with a study as a user leaves it: complete, pruned, failed and unfinished trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = database_url(tmp_path / "theirs.db")
    study = optuna.create_study(study_name="my study", storage=url, sampler=optuna.samplers.TPESampler(seed=1))
    study.optimize(objective(optuna), n_trials=30, catch=(ValueError,))
    study.ask()
    return tmp_path / "theirs.db"


def test_an_imported_study_has_every_number_of_the_original(searched, tmp_path, optuna):
    study = optuna.load_study(study_name="my study", storage=database_url(searched))
    found = import_study("optuna", str(searched), None, tmp_path / "in", ["tunectl"], NOW)
    pruned = sum(trial.state.name == "PRUNED" for trial in study.trials)
    assert pruned > 3
    assert found.states == {"completed": 29 - pruned, "failed": 1 + pruned}
    assert any("1 trial left out" in remark for remark in found.remarks)
    with study_snapshot(tmp_path / "in") as there:
        assert there.spec.alternatives("units_1")[0].when == {"layers": (2, 3)}
        assert there.spec.alternatives("momentum")[0].when == {"kind_of_optimizer": ("sgd",)}
        assert not there.spec.alternatives("units_0")[0].when
        for item, trial in zip(there.outcomes, study.trials[:-1], strict=True):
            values = dict(item.plan.hyperparameters)
            original = dict(trial.params)
            assert values.pop("kind_of_optimizer") == str(original.pop("kind of optimizer"))
            assert values == original
            if trial.state.name == "COMPLETE":
                assert (item.best_value, item.best_step) == (trial.value, 5)
            if trial.state.name == "PRUNED":
                assert (item.reason, item.final_step) == ("pruned", trial.last_step + 1)
                assert item.final_value == trial.value
        best = best_outcome(there.outcomes, there.spec.objective)
        assert best is not None
        assert best.plan.trial == study.best_trial.number


@pytest.mark.usefixtures("optuna")
def test_an_export_comes_back_as_what_it_was(study_folder, tmp_path):
    export_study(study_folder, "optuna", str(tmp_path / "o.db"))
    import_study("optuna", str(tmp_path / "o.db"), None, tmp_path / "back", ["tunectl"], NOW)
    before = {item.plan.trial: item.outcome for item in read_for_export(study_folder).launched}
    with study_snapshot(tmp_path / "back") as there:
        assert len(there.outcomes) == len(before) == 7
        for item in there.outcomes:
            old = before[item.plan.trial]
            assert (item.state, item.best_value, item.best_step) == (old.state, old.best_value, old.best_step)
        assert (there.outcomes[INFEASIBLE].reason, there.outcomes[INFEASIBLE].infeasible_step) == ("nan_loss", 50)
        assert there.spec.objective.metric == "valid/error_rate"


@pytest.mark.usefixtures("optuna")
def test_a_study_that_counts_the_steps_to_a_target_goes_there_as_steps_and_comes_back_with_its_target(tmp_path, optuna):
    text = TEXT.replace("direction: minimize", "direction: minimize, steps_to: 0.2")
    folder = made_up_folder(
        tmp_path / "example", text, lambda trial: None if trial.trial == INFEASIBLE else 0.1 + trial.trial / 30
    )
    place = export_study(folder.path, "optuna", str(tmp_path / "o.db")).place
    study = optuna.load_study(study_name="example", storage=database_url(place))
    assert study.direction.name == "MINIMIZE"
    assert study.metric_names == ["steps to valid/error_rate ≤ 0.2"]
    complete = optuna.trial.TrialState.COMPLETE
    # 0.1, 0.133 and 0.167 reached it at step 50, trial 3 is infeasible, and the others never did.
    reached = [50.0] * 3 + [math.inf] * 5
    assert [(trial.state, trial.value) for trial in study.trials] == [(complete, value) for value in reached]
    violated = [trial.system_attrs["constraints"] for trial in study.trials]
    assert violated == [[1.0] if trial == INFEASIBLE else [0.0] for trial in range(8)]
    assert study.trials[0].user_attrs["steps_to_target"] == 50.0
    assert "steps_to_target" not in study.trials[7].user_attrs
    import_study("optuna", str(place), None, tmp_path / "back", ["tunectl"], NOW)
    before = {item.plan.trial: item.outcome for item in read_for_export(folder.path).launched}
    with study_snapshot(tmp_path / "back") as there:
        assert there.spec.objective == Objective("valid/error_rate", "minimize", "best", 0.2)
        for item in there.outcomes:
            old = before[item.plan.trial]
            assert (item.state, item.best_value, item.best_step) == (old.state, old.best_value, old.best_step)


def test_a_journal_is_read_as_a_database_is(tmp_path, optuna):
    path = tmp_path / "journal.log"
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    study = optuna.create_study(study_name="s", storage=storage, direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    read = read_optuna(str(path), "s")
    assert (read.direction, len(read.trials)) == ("maximize", 3)
    assert [trial.value for trial in read.trials] == [trial.params["x"] for trial in read.trials]


def test_intervals_that_changed_between_trials_are_joined(tmp_path, optuna):
    url = database_url(tmp_path / "s.db")
    study = optuna.create_study(study_name="s", storage=url)
    bounds = iter([(0.1, 1.0), (0.01, 0.5), (0.2, 2.0)])
    study.optimize(lambda trial: trial.suggest_float("x", *next(bounds), log=True), n_trials=3)
    (parameter,) = read_optuna(url, None).parameters
    assert (parameter.low, parameter.high, parameter.log) == (0.01, 2.0, True)
    assert (parameter.joined, parameter.uneven) == (True, False)


def test_steps_that_go_on_from_one_range_to_the_next_are_kept_and_others_are_not(tmp_path, optuna):
    url = database_url(tmp_path / "s.db")
    study = optuna.create_study(study_name="s", storage=url)
    lows = iter([0.5, 0.0, 1.0])

    def measure(trial):
        low = next(lows)
        return trial.suggest_float("x", low, 2.0, step=0.25) + trial.suggest_float("y", low / 3, 2.0, step=0.25)

    study.optimize(measure, n_trials=3)
    kept, lost = read_optuna(url, None).parameters
    assert (kept.low, kept.high, kept.step, kept.joined, kept.uneven) == (0.0, 2.0, 0.25, True, False)
    assert (lost.step, lost.joined, lost.uneven) == (None, True, True)


def test_what_violates_a_constraint_is_infeasible(tmp_path, optuna):
    url = database_url(tmp_path / "s.db")
    study = optuna.create_study(study_name="s", storage=url)
    for violated in (0.0, 2.0):
        made = optuna.trial.create_trial(
            value=1.0,
            params={"x": 0.5},
            distributions={"x": optuna.distributions.FloatDistribution(0, 1)},
            system_attrs={"constraints": [violated]},
        )
        study.add_trial(made)
    assert [trial.infeasible for trial in read_optuna(url, None).trials] == ["", "constraint"]


def test_choices_that_are_lists_are_read_without_a_warning(tmp_path, optuna):
    url = database_url(tmp_path / "s.db")
    study = optuna.create_study(study_name="s", storage=url)
    study.optimize(lambda trial: len(trial.suggest_categorical("layers", [(64,), (64, 64)])), n_trials=6)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        (parameter,) = read_optuna(url, None).parameters
    assert parameter.choices == ([64], [64, 64])
    assert not [item for item in told if "Choices for a categorical" in str(item.message)]


@pytest.mark.parametrize(
    "address",
    [
        "nonesuch://me:secret@host/db",
        "mysql+nonesuch://me:secret@host/db",
        "mysql://me:secret@host:port/db",
        "mysql://me:se@cret@",
    ],
)
@pytest.mark.usefixtures("optuna")
def test_a_password_is_not_shown_where_the_database_cannot_be_reached(address):
    with pytest.raises(FolderError) as caught:
        read_optuna(address, None)
    assert "//me:***@" in str(caught.value)
    assert not {"secret", "cret"} & set(re.findall(r"\w+", str(caught.value)))
    assert "\n" not in str(caught.value)


def test_the_source_of_a_study_has_no_password(tmp_path, optuna, monkeypatch):
    url = database_url(tmp_path / "s.db")
    study = optuna.create_study(study_name="s", storage=url)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    opened = optuna.storages.RDBStorage(url)
    monkeypatch.setattr("tunectl.exchange.optuna_reading._opened", lambda _storage: opened)
    address = "mysql://me:secret@host/db"
    assert read_optuna(address, None).source == "mysql://me:***@host/db"
    with pytest.raises(UsageError, match=r"--study t: mysql://me:\*\*\*@host/db has no such study; it has s"):
        read_optuna(address, "t")


def test_a_study_with_several_objectives_is_refused(tmp_path, optuna):
    url = database_url(tmp_path / "s.db")
    optuna.create_study(study_name="s", storage=url, directions=["minimize", "maximize"])
    with pytest.raises(UsageError, match="s: has 2 objectives; a study of tunectl has one"):
        read_optuna(url, None)


def test_what_cannot_be_read_is_refused_and_nothing_is_made(tmp_path, optuna):
    url = database_url(tmp_path / "s.db")
    optuna.create_study(study_name="a", storage=url)
    (tmp_path / "text.txt").write_text("no storage")
    (tmp_path / "empty.db").touch()
    (tmp_path / "broken.log").write_text("{\n")
    other = tmp_path / "other.db"
    sqlite3.connect(other).execute("create table t (x)")
    cases = {
        (str(tmp_path / "none.db"), None): "not found",
        (f"sqlite:///{tmp_path}/none.db", None): "not found",
        (str(tmp_path / "text.txt"), None): "is neither a SQLite database nor a journal",
        (str(tmp_path / "empty.db"), None): "is empty",
        (str(tmp_path / "broken.log"), None): "is no journal|has no study",
        (str(other), None): "Optuna cannot read it",
        (url, "b"): "--study b: .* has no such study; it has a",
        (url, None): "a: has no trial that has ended",
        ("nosuch://host/db", None): "Optuna cannot read it",
    }
    before = sorted(tmp_path.iterdir())
    for (storage, name), message in cases.items():
        with pytest.raises(TunectlError, match=message):
            read_optuna(storage, name)
    assert sorted(tmp_path.iterdir()) == before
    optuna.create_study(study_name="b", storage=url)
    with pytest.raises(UsageError, match="has a, b; name one with --study"):
        read_optuna(url, None)


def test_the_time_that_trials_took_is_kept(tmp_path, optuna):
    url = database_url(tmp_path / "s.db")
    study = optuna.create_study(study_name="s", storage=url)
    made = optuna.trial.create_trial(
        value=1.0, params={"x": 0.5}, distributions={"x": optuna.distributions.FloatDistribution(0, 1)}
    )
    made.datetime_complete = made.datetime_start + timedelta(seconds=12)
    study.add_trial(made)
    assert [trial.seconds for trial in read_optuna(url, None).trials] == [12.0]
