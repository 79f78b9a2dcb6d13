"""An index that was changed by someone else is made anew; what it says is not used."""

from __future__ import annotations

import contextlib
import math
import sqlite3

import pytest
from narrowing import as_number
from store_samples import OBJECTIVE, measured, opened_to_read, outcome_of, planned

from tunectl.core.errors import FolderError
from tunectl.store.index import Index
from tunectl.store.index_rows import TRIAL_ROW


@pytest.fixture
def path(tmp_path):
    return tmp_path / "study.db"


def filled(path):
    with Index.open_for_writing(path) as index:
        index.put_plan([planned(trial) for trial in range(4)])
        for trial in range(3):
            index.put_measurements(trial, [measured(step, 1 / (step + 1)) for step in (0, 10, 20)])
            index.put_outcome(outcome_of(trial), stamp=f"stamp {trial}")


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i, i FROM n WHERE i < 0"
FOREIGN = {
    "a trigger": "CREATE TRIGGER t AFTER UPDATE ON trials BEGIN UPDATE trials SET best_value = 0; END",
    "a view in place of a table": f"DROP TABLE running; CREATE VIEW running (trial, slot) AS {ENDLESS}",
    "a column of another name": "ALTER TABLE trials RENAME COLUMN best_value TO value",
    "a table more": "CREATE TABLE more (a)",
    "a table less": "DROP TABLE files",
}


@pytest.mark.parametrize("statement", FOREIGN.values(), ids=FOREIGN.keys())
def test_an_index_with_another_schema_is_made_anew(path, statement):
    filled(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(statement)
    assert Index.open_read_only(path) is None
    with Index.open_for_writing(path) as index:
        assert index.is_new
        assert list(index.outcomes()) == []
        assert index.progress(OBJECTIVE) == []


@pytest.mark.parametrize("column", [name.strip() for name in TRIAL_ROW.split(",")])
def test_a_row_that_was_changed_is_damage_and_never_a_result(path, column):
    filled(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"UPDATE trials SET {column} = 77 WHERE trial = 1")
        connection.commit()
    with opened_to_read(path) as index, pytest.raises(FolderError, match=r"study\.db: is damaged"):
        list(index.outcomes())


def test_numbers_that_sqlite_keeps_otherwise_are_no_damage(path):
    odd = outcome_of(0, best_value=-0.0, final_value=math.nan, train_seconds=math.inf, eval_seconds=3.0, message="a\0b")
    with Index.open_for_writing(path) as index:
        index.put_plan([planned(0)])
        index.put_outcome(odd, "stamp")
    with opened_to_read(path) as index:
        (read,) = index.outcomes()
    assert (read.best_value, math.isnan(as_number(read.final_value)), read.train_seconds) == (0.0, True, math.inf)


def test_the_plan_is_read_without_the_rows_that_were_changed(path):
    filled(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE trials SET hyperparameters = '{}' WHERE trial = 1")
        connection.commit()
    with opened_to_read(path) as index:
        assert sorted(index.planned()) == [0, 2, 3]
        assert index.planned_count() == 4


def test_files_are_known_to_be_unchanged_by_what_was_kept_of_them(path):
    with Index.open_for_writing(path) as index:
        index.put_fingerprints({"study.yaml": "ab"})
        index.put_fingerprints({"study.yaml": "cd", "points.csv": "ef"})
        assert index.fingerprints() == {"study.yaml": "cd", "points.csv": "ef"}
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE files SET sha256 = 'zz' WHERE name = 'study.yaml'")
        connection.commit()
    with opened_to_read(path) as index:
        assert index.fingerprints() == {"points.csv": "ef"}
