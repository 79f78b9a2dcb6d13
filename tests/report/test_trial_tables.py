"""Tests report/trial_tables.py, table.py, parquet.py, markdown.py and answer_tables.py."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from dataclasses import replace

import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from tunectl.analysis.results.outcomes import SettingSummary
from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.core.measurements import Measurement
from tunectl.core.records import PlannedTrial, TrialOutcome
from tunectl.core.table_columns import RESERVED_NAMES, TABLE_COLUMNS, Column
from tunectl.report import trial_tables
from tunectl.report.markdown import markdown_bytes
from tunectl.report.parquet import parquet_bytes
from tunectl.report.table import Table, csv_bytes
from tunectl.store.index import Index

NAMES = ["optimizer", "learning_rate", "width", "mixed"]


def trial(number, state="completed", values=None, **changes):
    values = {"optimizer": "adam", "learning_rate": 0.1 + 0.2} if values is None else values
    return TrialOutcome(PlannedTrial(number, number % 2, number // 2, 0, (), values, 2**63 + number), state, **changes)


OUTCOMES = [
    trial(
        2,
        "infeasible",
        {"optimizer": 'odd|text, with "all"\nof é it', "width": 3, "mixed": "2"},
        reason="nan_loss",
        best_step=10,
        best_value=1e-300,
        final_step=20,
        final_value=math.nan,
        metrics_at_best={"valid/error_rate": 1e-300, "train/loss": math.inf},
        infeasible_step=17,
        train_seconds=1 / 3,
        eval_seconds=2.0,
        startup_seconds=0.0,
        device="cuda:0",
    ),
    trial(
        0,
        best_step=20,
        best_value=0.25,
        final_step=20,
        final_value=0.25,
        metrics_at_best={"a/b/c": 2.0},
        train_seconds=1.0,
    ),
    trial(1, "pending", {"width": 4, "mixed": 2}),
]


def table():
    return trial_tables.trials_table(OUTCOMES, NAMES)


def test_the_trials_table_has_the_columns_of_the_design_in_their_order():
    assert table().header == (
        *("trial", "setting", "state", "reason"),
        *NAMES,
        *(
            "seed",
            "kind",
            "point",
            "repeat",
            "stage",
            "best_step",
            "best_value",
            "final_step",
            "final_value",
            "best_checkpoint",
        ),
        *("a/b/c", "train/loss", "valid/error_rate"),
        *("infeasible_step", "train_seconds", "eval_seconds", "startup_seconds", "device", "attempts", "message"),
    )
    assert [row[0] for row in table().rows] == [0, 1, 2]


def test_no_hyperparameter_can_be_called_like_a_column_of_the_tables():
    bare = [replace(item, metrics_at_best={}) for item in OUTCOMES]
    headers = {*trial_tables.trials_table(bare, []).header, *trial_tables.settings_table([], []).header}
    assert {"trial", "seed", "best_trial"} <= headers <= TABLE_COLUMNS


def test_a_hyperparameter_called_like_a_column_that_came_later_keeps_its_name_and_the_column_gets_another():
    later = sorted(TABLE_COLUMNS - RESERVED_NAMES)
    assert later == ["examples_to_best", "seconds_per_step", "seconds_to_best", "stage", "stopped"]
    values = {name: place + 0.5 for place, name in enumerate(later)}
    found = trial_tables.trials_table([trial(0, values=values)], later)
    cells = dict(zip(found.header, found.rows[0], strict=True))
    assert len(cells) == len(found.header)
    assert {name: cells[name] for name in later} == values
    assert cells["tunectl.stage"] == 0

    summary = SettingSummary(
        0, values, trials=1, completed=1, infeasible=0, failed=0, stage=1, seconds_per_step=9.0, stopped=3
    )
    settings = trial_tables.settings_table([summary], later)
    cells = dict(zip(settings.header, settings.rows[0], strict=True))
    assert len(cells) == len(settings.header)
    assert {name: cells[name] for name in later} == values
    assert (cells["tunectl.stage"], cells["tunectl.seconds_per_step"], cells["tunectl.stopped"]) == (1, 9.0, 3)
    shown = trial_tables.settings_rows([summary], later)[0]
    assert set(later) < set(shown)
    assert "tunectl.seconds_per_step" not in shown


def test_the_number_of_trials_that_were_stopped_early_is_a_column_where_trials_may_be():
    summary = SettingSummary(0, {}, trials=4, completed=2, infeasible=0, failed=1)
    assert "stopped" not in trial_tables.settings_table([summary], []).header
    may_stop = [replace(summary, setting=number, stopped=number) for number in (0, 1)]
    table = trial_tables.settings_table(may_stop, [])
    place = table.header.index("stopped")
    assert table.header[place - 1 : place + 2] == ("failed", "stopped", "best_trial")
    assert [row[place] for row in table.rows] == [0, 1]
    assert "stopped" in trial_tables.settings_rows(may_stop, [])[0]


def test_csv_reads_back_exactly():
    read = list(csv.reader(io.StringIO(csv_bytes(table()).decode(), newline="")))
    assert tuple(read[0]) == table().header
    rows = [dict(zip(read[0], row, strict=True)) for row in read[1:]]
    assert rows[2]["optimizer"] == 'odd|text, with "all"\nof é it'
    assert (rows[0]["learning_rate"], float(rows[0]["learning_rate"])) == ("0.30000000000000004", 0.1 + 0.2)
    assert [row["mixed"] for row in rows] == ["", "2", "2"]
    assert (rows[2]["best_value"], rows[2]["final_value"], rows[2]["train/loss"]) == ("1e-300", "nan", "inf")
    assert float(rows[2]["train_seconds"]) == 1 / 3
    assert (rows[1]["best_value"], rows[1]["device"], rows[1]["state"]) == ("", "", "pending")
    assert rows[0]["seed"] == str(2**63)
    assert b"\r" not in csv_bytes(table())


def test_pandas_reads_csv_and_parquet_alike():
    from_csv = pd.read_csv(io.BytesIO(csv_bytes(table())))
    from_parquet = pd.read_parquet(io.BytesIO(parquet_bytes(table())))
    assert list(from_csv.columns) == list(from_parquet.columns)
    for name in ("best_value", "train_seconds", "valid/error_rate", "learning_rate", "width", "infeasible_step"):
        left, right = from_csv[name].astype(float), from_parquet[name].astype("Float64").astype(float)
        pd.testing.assert_series_equal(left, right, check_exact=True)


def test_parquet_keeps_types_with_missing_values():
    frame = pd.read_parquet(io.BytesIO(parquet_bytes(table())))
    types = {name: str(kind) for name, kind in frame.dtypes.items()}
    assert [types[name] for name in ("trial", "best_step", "infeasible_step", "width")] == ["Int64"] * 4
    assert (types["seed"], types["best_value"], types["learning_rate"]) == ("UInt64", "float64", "float64")
    assert (types["mixed"], types["optimizer"], types["best_checkpoint"]) == ("string", "string", "string")
    read = pyarrow.parquet.read_table(io.BytesIO(parquet_bytes(table()))).to_pydict()
    assert read["seed"] == [2**63, 2**63 + 1, 2**63 + 2]
    assert read["mixed"] == [None, "2", "2"]
    assert read["best_step"] == [20, None, 10]
    assert read["final_value"][:2] == [0.25, None]
    assert math.isnan(read["final_value"][2])
    assert read["optimizer"][2] == 'odd|text, with "all"\nof é it'


@pytest.mark.parametrize(
    ("values", "expected", "kind"),
    [
        ([1, None, 3], [1, None, 3], "int64"),
        ([1, 2.5], [1.0, 2.5], "double"),
        ([2**60, 0.5], [str(2**60), "0.5"], "string"),
        ([2**63], [2**63], "uint64"),
        ([-1, 2**63], ["-1", str(2**63)], "string"),
        ([-(2**63), None], [-(2**63), None], "int64"),
        ([True, None, False], [True, None, False], "bool"),
        ([True, 1], ["true", "1"], "string"),
        (["a", 1, 0.5, False], ["a", "1", "0.5", "false"], "string"),
        (["", None, "\ud800"], ["", None, "\\ud800"], "string"),
        ([None, None], [None, None], "string"),
        ([], [], "string"),
        ([True] * 9 + [None], [True] * 9 + [None], "bool"),
        ([0.5] * 7 + [None] * 3 + [0.25], [0.5] * 7 + [None] * 3 + [0.25], "double"),
    ],
)
def test_the_type_of_a_hyperparameter_s_column_comes_from_its_values(values, expected, kind):
    one = Table((Column("x", "scalar"),), [(value,) for value in values])
    read = pyarrow.parquet.read_table(io.BytesIO(parquet_bytes(one)))
    assert str(read.schema.field("x").type) == kind
    assert read.to_pydict()["x"] == expected
    read.validate(full=True)


def test_an_empty_text_and_a_missing_one_differ_in_csv():
    one = Table(
        (Column("x", "scalar"), Column("y", "scalar")), [("", None), (" a", "b\rc"), (True, -0.0), (10**30, "é")]
    )
    assert csv_bytes(one).decode() == 'x,y\n"",\n" a","b\rc"\ntrue,-0.0\n1' + "0" * 30 + ",é\n"


def test_text_that_no_file_can_hold_is_escaped_everywhere():
    one = Table((Column("x\ud800", "scalar"),), [("\udcff",)])
    assert csv_bytes(one) == b"x\\ud800\n\\udcff\n"
    assert b"\\udcff" in markdown_bytes(one)
    assert parquet_bytes(one)


def test_markdown_is_one_line_a_row_whatever_the_text():
    text = markdown_bytes(table()).decode()
    lines = text.splitlines()
    assert len(lines) == 2 + 3
    assert 'odd\\|text, with "all" of é it' in lines[4]
    cells = len(table().columns)
    assert {line.replace("\\|", "").count("|") for line in lines} == {cells + 1}
    assert len({len(line) for line in lines}) == 1


def test_markdown_shortens_numbers_and_puts_them_to_the_right():
    one = Table(
        (Column("real", "real"), Column("text", "text"), Column("n", "scalar")),
        [(1 / 3, "<b>\\", 123456), (math.nan, None, None), (1e-10, "x", 0.0001234567)],
    )
    assert markdown_bytes(one).decode() == (
        "|   real | text     |         n |\n"
        "| -----: | -------- | --------: |\n"
        "| 0.3333 | &lt;b>\\\\ |    123456 |\n"
        "|    nan |          |           |\n"
        "|  1e-10 | x        | 0.0001235 |\n"
    )


@pytest.mark.parametrize("outcomes", [[], [trial(0, "pending")], [trial(0, "failed", reason="error")]])
def test_an_unfinished_study_has_tables_too(outcomes, tmp_path):
    folder = StudyFolder(tmp_path)
    paths = trial_tables.write_table(folder, "trials", trial_tables.trials_table(outcomes, NAMES))
    assert [path.name for path in paths] == ["trials.csv", "trials.parquet", "trials.md"]
    assert len(pd.read_csv(paths[0])) == len(pd.read_parquet(paths[1])) == len(outcomes)


def test_the_settings_table_has_the_columns_of_the_design(tmp_path):
    summaries = [
        SettingSummary(0, {"optimizer": "adam"}, 3, 2, 1, 0, 5, 0.125, 40, 0.25, 10.0, 640, "cpu"),
        SettingSummary(1, {"optimizer": "nesterov"}, 3, 0, 3, 0),
    ]
    made = trial_tables.settings_table(summaries, ["optimizer"])
    assert csv_bytes(made).decode() == (
        "setting,optimizer,trials,completed,infeasible,failed,best_trial,best_value,best_step,"
        "seconds_per_step,seconds_to_best,examples_to_best,device\n"
        "0,adam,3,2,1,0,5,0.125,40,0.25,10.0,640,cpu\n1,nesterov,3,0,3,0,,,,,,,\n"
    )
    header, rows = trial_tables.settings_rows(summaries, ["optimizer"])
    assert header[:2] == ["setting", "optimizer"]
    assert [row[:3] for row in rows] == [["0", "adam", "3"], ["1", "nesterov", "3"]]
    assert (header[-2:], rows[0][-2:]) == (["best_step", "seconds_to_best"], ["40", "10"])


def test_measurements_are_written_with_every_metric_and_gap(tmp_path):
    index = Index.open_for_writing(tmp_path / "study.db")
    index.put_measurements(
        0, [Measurement(0, {"b/x": math.nan}), Measurement(5, {"a/é": 1.0}, checkpoint="c.pt", gradient_norm=2.0)]
    )
    index.put_measurements(10, [Measurement(0, {"b/x": math.inf}, measurement_kind="test", learning_rate=math.nan)])
    metrics = index.metric_names()
    content = trial_tables.measurements_parquet(index.measurement_columns(metrics), metrics)
    index.close()
    read = pyarrow.parquet.read_table(io.BytesIO(content))
    assert read.column_names == [
        *("trial", "step", "kind", "a/é", "b/x"),
        *("learning_rate", "gradient_norm", "elapsed_seconds", "checkpoint"),
    ]
    found = read.to_pydict()
    assert found["trial"] == [0, 0, 10]
    assert found["a/é"] == [None, 1.0, None]
    assert (math.isnan(found["b/x"][0]), found["b/x"][1:]) == (True, [None, math.inf])
    assert (found["learning_rate"][:2], found["checkpoint"]) == ([None, None], [None, "c.pt", None])
    frame = pd.read_parquet(io.BytesIO(content))
    assert str(frame["step"].dtype) == "Int64"


def test_no_measurements_make_an_empty_table_with_its_columns():
    frame = pd.read_parquet(io.BytesIO(trial_tables.measurements_parquet(iter([]), ["a/b"])))
    assert len(frame) == 0
    assert list(frame.columns)[:4] == ["trial", "step", "kind", "a/b"]


def test_writing_the_same_tables_again_touches_no_file(tmp_path):
    folder = StudyFolder(tmp_path)

    def write():
        trial_tables.write_table(folder, "trials", trial_tables.trials_table(OUTCOMES[::-1], NAMES))
        with Index.open_for_writing(folder.index) as index:
            index.put_measurements(0, [Measurement(step, {"a/b": step / 3}) for step in range(50)], replace=True)
            trial_tables.write_measurements(folder, index.measurement_columns(["a/b"]), ["a/b"])
        files = sorted(folder.tables.iterdir())
        return [(file.name, file.stat().st_ino, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files]

    first = write()
    assert [name for name, *_ in first] == ["measurements.parquet", "trials.csv", "trials.md", "trials.parquet"]
    assert write() == first


def test_a_table_that_cannot_be_written_is_a_clear_error(tmp_path):
    (tmp_path / "tables").write_text("in the way")
    with pytest.raises(FolderError, match=r"trials\.csv: cannot be written"):
        trial_tables.write_table(StudyFolder(tmp_path), "trials", table())
    with pytest.raises(FolderError, match=r"measurements\.parquet: cannot be written"):
        trial_tables.write_measurements(StudyFolder(tmp_path), iter([]), [])
