"""`tunectl query`: SQL over a study, by the values of its tables, also where files are damaged or missing.

Tests commands/query.py and cli/query.py.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from builders import study_text
from made_up_folders import made_up_folder
from study_calls import Called

from tunectl.commands.query import query_study, study_columns
from tunectl.commands.report import report_study
from tunectl.core.folders import StudyFolder
from tunectl.session.study_evidence import ObjectiveChoice

TEXT = study_text(
    {
        "optimizer": "{role: scientific, values: [sgd, adam]}",
        "learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}",
        "nesterov": "{role: nuisance, when: {optimizer: sgd}, values: [true, false]}",
        "mixed": "{role: nuisance, values: [1, b]}",
        "Width": "8",
        "width": "16",
    },
    workload="./not_there.py:factory",
    search="{trials: 4}",
)


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """Eight trials: the later, the better; trial 7 is infeasible."""
    return made_up_folder(tmp_path / "study", TEXT, lambda plan: None if plan.trial == 7 else 0.5 - plan.trial / 20)


def test_the_tables_are_those_of_the_files(folder: StudyFolder) -> None:
    report_study(folder.path, ObjectiveChoice(), draw=False)
    for name in ("trials", "settings", "measurements"):
        expected = pd.read_parquet(folder.tables / f"{name}.parquet")
        found = query_study(folder.path, f"select * from {name}")
        assert [column.removesuffix("_2") for column in found.columns] == [*expected.columns]
        for column, place in zip(expected.columns, zip(*found.rows, strict=True), strict=True):
            values = [None if pd.isna(value) else value for value in expected[column]]
            assert [*place] == values, column


def test_kinds_that_sql_lacks_become_those_that_it_has(folder: StudyFolder) -> None:
    found = query_study(folder.path, "select distinct nesterov, typeof(nesterov) from trials order by 1")
    assert found.rows == [(None, "null"), (0, "integer"), (1, "integer")]
    assert query_study(folder.path, "select count(*) from trials where nesterov = true").rows[0][0] > 0
    found = query_study(folder.path, "select distinct mixed, typeof(mixed) from trials order by 1")
    assert found.rows == [("1", "text"), ("b", "text")]
    found = query_study(folder.path, 'select Width, width_2, "WIDTH" from trials limit 1')
    assert found.rows == [(8, 16, 8)]


def test_it_prints_a_table_csv_or_json(folder: StudyFolder, tunectl: Callable[..., Called]) -> None:
    sql = 'select optimizer, min(best_value) as best, count("valid/error_rate") n from trials group by 1'
    table = tunectl("query", folder.path, sql)
    assert (table.code, table.err) == (0, "")
    assert [line.split() for line in table.out.splitlines()[::2]] == [["optimizer", "best", "n"], ["adam", "0.25", "4"]]
    rows = list(csv.reader(io.StringIO(tunectl("query", folder.path, sql, "--csv").out)))
    assert rows == [["optimizer", "best", "n"], ["adam", "0.25", "4"], ["sgd", "0.2", "4"]]
    assert tunectl("query", folder.path, sql, "--json").json() == {
        "study": "study_file",
        "columns": ["optimizer", "best", "n"],
        "rows": [{"optimizer": "adam", "best": 0.25, "n": 4}, {"optimizer": "sgd", "best": 0.2, "n": 4}],
        "damage": [],
    }
    assert tunectl("query", folder.path, sql, "--json", "--csv").code == 2
    bytes_ = tunectl("query", folder.path, "select x'00ff' as b, 9e999 as i", "--json").json()
    assert bytes_["rows"] == [{"b": "00ff", "i": "inf"}]


def test_a_long_answer_is_cut_on_the_terminal_alone(folder: StudyFolder, tunectl: Callable[..., Called]) -> None:
    many = "with recursive n(x) as (select 1 union all select x + 1 from n limit 300) select x from n"
    printed = tunectl("query", folder.path, many).out.splitlines()
    assert (len(printed), printed[-1]) == (203, "the first 200 of 300 rows; use --csv or --json to print them all")
    assert len(tunectl("query", folder.path, many, "--csv").out.splitlines()) == 301


def test_without_a_query_it_lists_the_columns(folder: StudyFolder, tunectl: Callable[..., Called]) -> None:
    listed = study_columns(folder.path).rows
    assert {("trials", "trial", "INTEGER"), ("trials", "nesterov", "INTEGER"), ("settings", "best_value", "REAL")} <= {
        *listed
    }
    assert ("measurements", "valid/error_rate", "REAL") in listed
    assert len(tunectl("query", folder.path).out.splitlines()) == len(listed) + 2


def test_a_query_that_cannot_be_answered_ends_with_2_and_the_names_that_there_are(
    folder: StudyFolder, tunectl: Callable[..., Called]
) -> None:
    called = tunectl("query", folder.path, "select lerning_rate from trials")
    assert (called.code, called.out) == (2, "")
    assert called.err.startswith("no such column: lerning_rate; did you mean learning_rate?")
    assert max(len(line) for line in called.err.splitlines()) <= 80
    assert tunectl("query", folder.path / "trials", "select 1").code == 3


def test_it_writes_nothing_and_says_what_is_damaged(folder: StudyFolder) -> None:
    sql = "select trial, max(step), sum(step) from measurements group by trial order by trial"
    whole = query_study(folder.path, sql)
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    assert query_study(folder.path, sql) == whole
    assert {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()} == before
    folder.index.write_bytes(b"not an index")
    assert query_study(folder.path, sql).rows == whole.rows
    folder.trial(1).result.write_text("{")
    said: list[str] = []
    damaged = query_study(folder.path, "select state from trials where trial = 1", said.append)
    assert any("trials/00001/result.json" in line for line in said)
    assert [f"warning: {line}" for line in damaged.damage] == said
    assert damaged.rows != [("completed",)]


def test_of_a_study_without_measurements_the_tables_are_empty(tmp_path: Path) -> None:
    text = study_text(search=None)
    folder = made_up_folder(tmp_path / "study", text, lambda plan: 0.5)
    folder.trial(0).measurements.unlink()
    folder.trial(0).result.unlink()
    folder.index.unlink()
    assert query_study(folder.path, "select * from measurements").rows == []
    found = query_study(folder.path, "select trial, state, best_value from trials")
    assert json.loads(json.dumps(found.rows)) == [[0, "pending", None]]
