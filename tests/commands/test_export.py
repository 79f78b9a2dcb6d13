"""`export`: tables as files, and what is said where a tool's library is missing; tests/exchange asks the tools.

Tests exchange/optional_libraries.py, too.
"""

from __future__ import annotations

import contextlib
import csv
import json
import math
import shutil
import sqlite3
import sys

import pandas as pd
import pytest
from made_up_folders import made_up_folder

from tunectl.cli.main import main
from tunectl.commands.export import TOOLS, export_study
from tunectl.core.errors import FolderError, UsageError

TEXT = """\
study: example
workload: tunectl.workloads.digits:mlp
objective: {metric: valid/error_rate, direction: minimize}
training: {max_train_steps: 100, eval_every: 50}
hyperparameters:
  optimizer: {role: scientific, values: [sgd, adam]}
  learning_rate: {role: nuisance, range: [1e-3, 1e-1], scale: log}
search: {trials: 2}
"""


@pytest.fixture
def folder(tmp_path):
    """Four trials; the last is infeasible."""
    return made_up_folder(tmp_path / "example", TEXT, lambda trial: None if trial.trial == 3 else trial.trial / 10).path


def test_tables_are_written_as_csv_with_every_number_as_it_is(folder, tmp_path):
    found = export_study(folder, "csv", str(tmp_path / "out"))
    assert (found.trials, found.planned, found.view) == (4, 4, "")
    with open(found.place / "trials.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    plan = [json.loads(line) for line in (folder / "plan.jsonl").read_text().splitlines()]
    assert [float(row["learning_rate"]) for row in rows] == [line["hyperparameters"]["learning_rate"] for line in plan]
    assert [row["state"] for row in rows] == ["completed"] * 3 + ["infeasible"]
    with open(found.place / "measurements.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(row["trial"], row["step"], float(row["valid/error_rate"])) for row in lines[3:6]] == [
        ("1", "0", 1.0),
        ("1", "50", 0.1),
        ("1", "100", 0.1 * 1.1),
    ]
    assert (found.place / "settings.csv").is_file()


def test_tables_are_written_as_parquet_which_pandas_reads(folder, tmp_path):
    place = export_study(folder, "parquet", str(tmp_path / "out")).place
    trials = pd.read_parquet(place / "trials.parquet")
    assert list(trials["best_value"])[:3] == [0.0, 0.1, 0.2]
    assert len(pd.read_parquet(place / "measurements.parquet")) == 12
    assert list(pd.read_parquet(place / "settings.parquet")["best_trial"]) == [0, 1]


def test_values_that_are_not_finite_come_back_as_such(folder, tmp_path):
    with open(folder / "trials" / "00001" / "measurements.jsonl", "a") as file:
        file.write('{"step": 75, "metrics": {"valid/error_rate": "nan", "train/loss": "-inf"}}\n')
    place = export_study(folder, "parquet", str(tmp_path / "out")).place
    row = pd.read_parquet(place / "measurements.parquet").query("trial == 1 and step == 75").iloc[0]
    assert math.isnan(row["valid/error_rate"])
    assert row["train/loss"] == -math.inf


def test_metrics_of_own_code_have_a_column_by_whatever_name_they_go(tmp_path):
    text = TEXT.replace("tunectl.workloads.digits:mlp", '{command: [python, "{learning_rate}", "{optimizer}"]}')
    text = text.replace("valid/error_rate", "accuracy")
    place = made_up_folder(tmp_path / "own", text, lambda trial: trial.trial / 10).path
    found = export_study(place, "csv", str(tmp_path / "out")).place
    assert (found / "measurements.csv").read_text().splitlines()[0].split(",")[3:5] == ["accuracy", "train/loss"]


def test_a_study_that_has_not_begun_and_one_that_is_none(folder, tmp_path):
    for path in sorted((folder / "trials").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    place = export_study(folder, "csv", str(tmp_path / "out")).place
    assert (place / "trials.csv").read_text().count("pending") == 4
    with pytest.raises(FolderError, match="is not a study folder"):
        export_study(tmp_path / "nowhere", "csv")
    with pytest.raises(FolderError, match=r"is not a study folder; expected one .* in it: .*example$"):
        export_study(tmp_path, "csv")


def test_the_users_home_is_known(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert export_study(folder, "csv", "~/mine").place == tmp_path / "mine"
    assert (tmp_path / "mine" / "trials.csv").is_file()


def test_the_folder_of_a_study_that_was_moved_or_copied_is_exported_into_again(folder, tmp_path):
    export_study(folder, "csv")
    copied, moved = tmp_path / "copied", tmp_path / "moved"
    shutil.copytree(folder, copied)
    assert export_study(copied, "csv").place == copied / "exports" / "csv"
    folder.rename(moved)
    export_study(moved, "csv")
    with pytest.raises(FolderError, match=f"holds the export of {moved} for csv"):
        export_study(copied, "csv", str(moved / "exports" / "csv"))
    other = made_up_folder(tmp_path / "other", TEXT.replace("study: example", "study: other"), lambda _: 0.5).path
    (other / "exports").mkdir()
    shutil.copytree(moved / "exports" / "csv", other / "exports" / "csv")
    with pytest.raises(FolderError, match=f"holds the export of {moved} for csv"):
        export_study(other, "csv")


@pytest.mark.parametrize("tool", ["mlflow", "optuna"])
def test_a_database_of_something_else_and_the_studys_own_are_never_written_to(folder, tmp_path, tool):
    theirs, own = tmp_path / "theirs.db", folder / "study.db"
    with contextlib.closing(sqlite3.connect(theirs)) as database:
        database.execute("CREATE TABLE photographs (x)")
    before = theirs.read_bytes()
    with pytest.raises(FolderError, match=f"{theirs}: is a database of another program than {tool}"):
        export_study(folder, tool, str(theirs))
    assert theirs.read_bytes() == before
    own.unlink(missing_ok=True)
    for there in (False, True):
        if there:
            own.touch()
        with pytest.raises(FolderError, match="is the index of the study; give another --out"):
            export_study(folder, tool, str(tmp_path / "example" / ".." / "example" / "study.db"))
        assert own.exists() == there


@pytest.mark.parametrize("tool", ["tensorboard", "mlflow", "wandb", "optuna"])
def test_a_library_that_is_missing_is_named_with_what_to_install_and_nothing_is_written(folder, monkeypatch, tool):
    monkeypatch.setitem(sys.modules, tool, None)
    for name in [name for name in sys.modules if name.startswith(f"{tool}.")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=rf"{tool} is not installed; pip install .*\[{tool}\]'"):
        export_study(folder, tool)
    assert not [path for path in (folder / "exports").rglob("*") if path.is_file()]


def test_the_command_says_where_it_wrote_and_gives_json(folder, monkeypatch, capsys, tmp_path):
    def call(*words):
        monkeypatch.setattr(sys, "argv", ["tunectl", *[str(word) for word in words]])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    code, out, err = call("export", folder, "--to", "csv")
    assert (code, out, err) == (0, f"{folder}/exports/csv\n", "")
    code, out, _ = call("export", folder, "--to", "csv", "--json")
    assert code == 0
    assert json.loads(out) == {
        "study": "example",
        "folder": str(folder),
        "to": "csv",
        "place": f"{folder}/exports/csv",
        "trials": 4,
        "planned": 4,
        "view": None,
        "damage": [],
    }
    assert call("export", folder, "--to", "excel")[0] == 2
    assert call("export", folder, "--to", "csv", "--out", tmp_path)[0] == 3


def test_the_commands_choices_are_the_tools():
    from tunectl.cli.export import Target

    assert tuple(Target) == TOOLS
