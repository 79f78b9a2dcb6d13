"""SQL over tables in memory: what it answers, and that it can do nothing else. Tests store/query_database.py."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunectl.core.errors import UsageError
from tunectl.store import query_database
from tunectl.store.query_database import QueryTable, answer, sql_names

ROWS = [(0, 0.5, "a", None), (1, None, "ü\n'\"", 2**62), (2, math.inf, "", -1)]
COLUMNS = {"trial": "INTEGER", "valid/loss": "REAL", 'a "b" `c`': "TEXT", "seed": "INTEGER"}
TABLES = {
    "trials": QueryTable(COLUMNS, lambda: ROWS),  # type: ignore[arg-type]
    "measurements": QueryTable({"trial": "INTEGER", "step": "INTEGER"}, lambda: [(0, 10), (0, 20), (1, 10)]),
}


def test_values_come_back_as_they_are() -> None:
    found = answer(TABLES, "select * from trials order by trial")
    assert found.columns == tuple(COLUMNS)
    assert found.rows == ROWS


def test_joins_aggregates_and_common_tables_are_answered() -> None:
    query = "with last as (select trial, max(step) as last from measurements group by trial) "
    found = answer(TABLES, query + 'select t.trial, last, t."valid/loss" from trials t join last using (trial);')
    assert (found.columns, found.rows) == (("trial", "last", "valid/loss"), [(0, 20, 0.5), (1, 10, None)])


def test_a_table_is_read_only_if_the_query_names_it() -> None:
    def unwanted() -> list[tuple[int, int]]:
        raise AssertionError("these rows are not asked for")

    tables = {**TABLES, "measurements": QueryTable(TABLES["measurements"].columns, unwanted)}
    assert answer(tables, "select count(*) from trials where 'measurements' != ''").rows == [(3,)]


def test_a_wrong_name_in_double_quotes_is_an_error_and_no_text() -> None:
    with pytest.raises(UsageError, match=r"no such column: valid/los; did you mean valid/loss\?"):
        answer(TABLES, 'select "valid/los" from trials')
    with pytest.raises(UsageError, match="no such column: adam"):
        answer(TABLES, 'select count(*) from trials where seed = "adam"')


def test_quotes_within_texts_comments_and_names_stay_what_they_are() -> None:
    query = """select 'say "hi" it''s' as "one ""two"" `3`", "a ""b"" `c`" /* "no" */ from trials -- "no"
    where trial = 0"""
    found = answer(TABLES, query)
    assert found.rows == [('say "hi" it\'s', "a")]
    assert found.columns == ('one "two" `3`'.replace("`", '"'), 'a "b" "c"')


def test_nan_is_null_and_the_columns_of_an_answer_have_names_of_their_own() -> None:
    tables = {"t": QueryTable({"x": "REAL"}, lambda: [(math.nan,), (1.0,)])}
    found = answer(tables, "select avg(x), count(x), x, x from t")
    assert (found.columns, found.rows[0][:2]) == (("avg(x)", "count(x)", "x", "x_2"), (1.0, 1))


def test_names_that_differ_only_in_case_both_have_a_column() -> None:
    assert sql_names(["LR", "lr", "lr_2", "width"]) == ["LR", "lr_2", "lr_2_2", "width"]
    tables = {"t": QueryTable(dict.fromkeys(sql_names(["LR", "lr"]), "INTEGER"), lambda: [(1, 2)])}
    assert answer(tables, "select LR, lr_2 from t").rows == [(1, 2)]


@pytest.mark.parametrize(
    "query",
    [
        "drop table trials",
        "delete from trials",
        "update trials set trial = 1",
        "insert into trials (trial) values (1)",
        "create table x (y)",
        "create temp view v as select 1",
        "attach 'new.db' as new",
        "vacuum into 'new.db'",
        "pragma table_info(trials)",
        "pragma writable_schema = 1",
        "begin",
        "select * from sqlite_master",
        "select * from sqlite_temp_master",
        "select * from pragma_database_list",
        "select load_extension('x')",
        "select 1; select 2",
        "",
        "-- nothing",
    ],
)
def test_anything_but_one_select_is_refused_and_makes_no_file(
    query: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="expected one SELECT, which only reads trials and measurements"):
        answer(TABLES, query)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "query",
    [
        "selec 1",
        "select",
        "select from",
        "explain select 1",
        "select abs(",
        "\x00",
        "\udcff",
        "select '" + "x" * 2_000_000 + "'",
    ],
    ids=range(8),
)
def test_what_is_no_sql_is_refused_in_words(query: str) -> None:
    with pytest.raises(UsageError, match=r"the query cannot be answered: |expected one SELECT"):
        answer(TABLES, query)


def test_the_names_of_all_columns_are_listed_where_one_is_wrong() -> None:
    with pytest.raises(UsageError) as caught:
        answer(TABLES, "select los from trial")
    assert str(caught.value).splitlines() == [
        "no such table: trial; did you mean trials?",
        "the tables and their columns are:",
        'trials: trial, "valid/loss", "a ""b"" `c`", seed',
        "measurements: trial, step",
    ]


def test_a_query_without_an_end_is_ended() -> None:
    endless = "with recursive n(x) as (select 1 union all select x + 1 from n) select max(x) from n"
    with pytest.raises(UsageError, match=r"took longer than 0\.05 s"):
        answer(TABLES, endless, seconds=0.05)


def test_an_answer_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_database, "MOST_ROWS", 2)
    assert len(answer(TABLES, "select * from trials limit 2").rows) == 2
    with pytest.raises(UsageError, match="more than 2 rows: add LIMIT"):
        answer(TABLES, "select * from trials")
    with pytest.raises(UsageError, match="too big"):
        answer(TABLES, "select zeroblob(100000000)")


@given(st.text(alphabet="\"'`[]-/*\n ab;", max_size=12))
def test_no_text_makes_it_fail_otherwise(text: str) -> None:
    try:
        answer(TABLES, f"select {text}")
    except UsageError:
        return
