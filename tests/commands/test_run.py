"""`tunectl run` as a whole: what a study folder holds, what may go wrong in a trial, and what a second call does."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from made_up_folders import made_up_folder
from study_calls import Called

Write = Callable[..., Path]
Call = Callable[..., Called]

BEHAVIOURS = ["good", "nan", "dead", "infeasible", "exception", "exit", "sigkill"]


def rows_of(folder: Path, table: str = "trials") -> list[dict[str, str]]:
    with open(folder / "tables" / f"{table}.csv", newline="") as file:
        return list(csv.DictReader(file))


def hashes(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def values_are_those_measured(folder: Path) -> None:
    """The best value is the lowest measured after step 0, the final one the last; the test split is left out."""
    for row in rows_of(folder):
        path = folder / "trials" / f"{int(row['trial']):05d}" / "measurements.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert [line["step"] for line in lines] == [0, 10, 20, 30, 40]
        values = {line["step"]: line["metrics"]["valid/distance"] for line in lines if line["step"] > 0}
        assert float(row["best_value"]) == min(values.values())
        assert values[int(row["best_step"])] == min(values.values())
        assert float(row["final_value"]) == values[40]
        assert not any(name.startswith("test/") for line in lines for name in line["metrics"])
    assert pyarrow.parquet.read_table(folder / "tables" / "measurements.parquet").num_rows == 10


@pytest.fixture
def misbehaving(write_study: Write, tunectl: Call, tmp_path: Path) -> tuple[Called, dict[str, dict[str, str]], Path]:
    values = ", ".join(BEHAVIOURS)
    more = f"  behaviour: {{role: scientific, values: [{values}]}}\n  bad_update: 7"
    called = tunectl("run", write_study(trials=1, more=more), "--dir", tmp_path / "out")
    return called, {row["behaviour"]: row for row in rows_of(tmp_path / "out")}, tmp_path / "out"


def test_every_way_in_which_a_trial_can_end_has_its_own_row_in_the_table(misbehaving: Any) -> None:
    called, rows, folder = misbehaving
    assert called.code == 1, called.err
    assert [rows[name]["state"] for name in BEHAVIOURS] == ["completed", *["infeasible"] * 3, *["failed"] * 3]
    assert rows["nan"]["reason"] == "nan_loss"
    assert rows["nan"]["infeasible_step"] == "7"
    assert rows["dead"]["reason"] == "no_progress"
    assert rows["infeasible"]["reason"] == "no attention head divides the width"
    assert rows["infeasible"]["infeasible_step"] == "7"
    assert rows["exception"]["reason"] == "error"
    assert rows["exit"]["reason"] == rows["sigkill"]["reason"] == "crashed"
    assert rows["good"]["best_checkpoint"].startswith("trials/")
    assert (folder / rows["good"]["best_checkpoint"]).is_file()

    # An exception is the code's fault and is not tried again; a crash is tried once more.
    attempts = {name: folder / "trials" / f"{int(rows[name]['trial']):05d}" / "attempts.jsonl" for name in BEHAVIOURS}
    assert not attempts["exception"].exists()
    for name in ("exit", "sigkill"):
        lines = [json.loads(line) for line in attempts[name].read_text().splitlines()]
        assert [line["final"] for line in lines] == [False, True]
    assert "SIGKILL" in attempts["sigkill"].read_text()
    assert "3" in json.loads(attempts["exit"].read_text().splitlines()[0])["message"]

    log = (folder / "trials" / f"{int(rows['exception']['trial']):05d}" / "log.txt").read_text()
    assert "RuntimeError: the model broke" in log
    assert "misbehaving.py" in log
    assert "Traceback" not in called.err
    assert "the model broke" in called.err

    settings = {row["behaviour"]: row for row in rows_of(folder, "settings")}
    assert settings["good"]["best_trial"] == rows["good"]["trial"]
    assert settings["nan"]["infeasible"] == "1"
    assert settings["exit"]["failed"] == "1"
    assert settings["nan"]["best_trial"] == settings["exit"]["best_trial"] == ""


def test_a_finished_study_has_every_file_the_values_measured_and_a_second_call_changes_none(
    write_study: Write, tunectl: Call, tmp_path: Path
) -> None:
    study, folder = write_study(), tmp_path / "an odd: folder, ünï" / "out"
    first = tunectl("run", study, "--dir", folder)
    assert first.code == 0, first.err
    names = ["study.yaml", "plan.jsonl", "study.db", "provenance.json", "uncommitted.diff", "lock"]
    tables = ["trials", "settings"]
    names += [f"tables/{table}.{kind}" for table in tables for kind in ("csv", "parquet", "md")]
    names += ["tables/measurements.parquet"]
    for trial in ("00000", "00001"):
        files = ["request.json", "measurements.jsonl", "steps.jsonl", "log.txt", "result.json"]
        names += [f"trials/{trial}/{file}" for file in files]
    assert [name for name in names if not (folder / name).is_file()] == []
    assert sorted(path.name for path in (folder / "trials" / "00000" / "checkpoints").iterdir())
    assert (folder / "study.yaml").read_bytes() == study.read_bytes()
    values_are_those_measured(folder)

    before = hashes(folder)
    second = tunectl("run", study, "--dir", folder)
    assert second.code == 0
    assert "nothing to run" in second.out
    assert hashes(folder) == before
    status = tunectl("status", folder, "--json")
    assert status.json()["states"]["completed"] == 2
    assert hashes(folder) == before


def test_raising_trials_keeps_every_earlier_trial_says_that_a_workload_has_changed_and_lowering_is_refused(
    write_study: Write, tunectl: Call, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    assert tunectl("run", write_study(trials=2), "--dir", folder).code == 0
    plan = (folder / "plan.jsonl").read_bytes()
    results = {path: path.read_bytes() for path in folder.glob("trials/*/result.json")}
    study = write_study(trials=3)
    with open(tmp_path / "misbehaving.py", "a") as file:
        file.write("\n# changed\n")
    raised = tunectl("run", study, "--dir", folder)
    assert raised.code == 0, raised.err
    assert "misbehaving.py has changed" in raised.messages
    assert len(json.loads((folder / "provenance.json").read_text())["runs"]) == 2
    assert (folder / "plan.jsonl").read_bytes().startswith(plan)
    assert all(path.read_bytes() == content for path, content in results.items())
    assert len(rows_of(folder)) == 3
    lowered = tunectl("run", write_study(trials=2), "--dir", folder)
    assert lowered.code == 3
    assert "search.trials: was 3, is 2" in lowered.err


def test_the_folder_of_another_study_is_refused_with_what_differs(
    write_study: Write, tunectl: Call, tmp_path: Path
) -> None:
    folder, study = tmp_path / "out", write_study(trials=1)
    made_up_folder(folder, study.read_text(), lambda _: 0.5, file=study)
    before = hashes(folder)
    other = tunectl("run", write_study(trials=1, steps=50, metric="valid/loss"), "--dir", folder)
    assert other.code == 3
    assert "training.max_train_steps: was 40, is 50" in other.err
    assert "objective.metric: was valid/distance, is valid/loss" in other.err
    assert hashes(folder) == before


def test_a_folder_of_something_else_is_refused(write_study: Write, tunectl: Call, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("mine")
    called = tunectl("run", write_study(), "--dir", tmp_path / "mine")
    assert called.code == 3
    assert "not a study folder" in called.err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"factory": "raises"}, ["ValueError", "width 3 is not even", "misbehaving.py"]),
        ({"metric": "valid/distanse"}, ["valid/distanse", "valid/distance"]),
        ({"metric": "validation/loss"}, ["validation/loss", "valid"]),
        ({"factory": "no_workload"}, ["Workload", "int"]),
    ],
    ids=["a factory that raises", "a metric not given", "a split not given", "no workload"],
)
def test_a_workload_that_cannot_work_is_refused_before_anything_is_created(
    write_study: Write, tunectl: Call, tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    study = write_study(**changes)
    # Both commands try the workload in the same way: one of them for each.
    call = (
        ("check", "--probe", study) if changes == {"factory": "raises"} else ("run", study, "--dir", tmp_path / "out")
    )
    called = tunectl(*call)
    assert called.code == 2
    assert "Traceback" not in called.err
    assert all(word in called.err for word in words), called.err
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "runs").exists()


def test_a_module_that_fails_to_import_is_refused_with_its_place(
    write_study: Write, tunectl: Call, tmp_path: Path
) -> None:
    study = write_study()
    (tmp_path / "misbehaving.py").write_text("import not_there_at_all\n\ndef regression():\n    pass\n")
    called = tunectl("run", study, "--dir", tmp_path / "out")
    assert called.code == 2
    assert "not_there_at_all" in called.err
    assert "misbehaving.py:1" in called.err
    assert not (tmp_path / "out").exists()


def test_json_is_one_object_on_stdout_and_messages_go_to_stderr(
    write_study: Write, tunectl: Call, tmp_path: Path
) -> None:
    called = tunectl("run", write_study(trials=1, steps=100, name="named"), "--json")
    assert (tmp_path / "runs" / "named" / "tables" / "trials.csv").is_file(), "the folder, where --dir names no other"
    report = called.json()
    assert report["exit_code"] == called.code == 0
    assert report["states"] == {"completed": 1}
    assert "trial 0 completed" in called.err
    quiet = tunectl("run", tmp_path / "small.yaml", "--json", "--quiet")
    assert quiet.err == ""
    assert quiet.json()["trials"] == 1
