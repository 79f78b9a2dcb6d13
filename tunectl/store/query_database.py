"""SQL over tables in memory: one SELECT, which can read them and nothing else, within limits of time and size."""

from __future__ import annotations

import contextlib
import math
import re
import sqlite3
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tunectl.core.errors import UsageError
from tunectl.core.jsontext import encodable
from tunectl.core.wording import listed, nearest

SqlType = Literal["INTEGER", "REAL", "TEXT"]

MOST_ROWS = 1_000_000
MOST_SECONDS = 60.0
_MOST_CHARACTERS = 10_000_000
"""The longest text that a query may make, and the longest query is a tenth of it."""

_STEPS_BETWEEN_LOOKS = 100_000
_ALSO_READ = frozenset({"json_each", "json_tree"})
_NO_FUNCTIONS = frozenset({"load_extension", "fts3_tokenizer"})
_TOKEN = re.compile(
    r"""'(?:[^']|'')*'|--[^\n]*|/\*.*?(?:\*/|\Z)|\[[^\]]*\]|`(?:[^`]|``)*`|"((?:[^"]|"")*)\"""", re.DOTALL
)
_NO_SELECT = ("not authorized", "authorization denied", "is prohibited", "one statement", "incomplete input")
"""What SQLite and its module say of a statement that is refused, of several statements, and of none."""

_WIDTH = 78
_MISSING = re.compile(r"no such (?:column|table): (.+)|ambiguous column name: (.+)")


@dataclass(frozen=True, slots=True)
class QueryTable:
    """A table to select from: its columns with their types, and its rows, which are asked for if a query reads it."""

    columns: Mapping[str, SqlType]
    rows: Callable[[], Iterable[Sequence[Any]]]


@dataclass(frozen=True, slots=True)
class QueryAnswer:
    """The rows of an answer, under the names of its columns, which all differ."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def sql_names(names: Iterable[str]) -> list[str]:
    """The names of columns in SQL: of two that differ only in upper and lower case, the second gets a number."""
    found: list[str] = []
    taken: set[str] = set()
    for name in map(encodable, names):
        whole, number = name, 2
        while whole.casefold() in taken:
            whole, number = f"{name}_{number}", number + 1
        taken.add(whole.casefold())
        found.append(whole)
    return found


def answer(tables: Mapping[str, QueryTable], sql: str, seconds: float = MOST_SECONDS) -> QueryAnswer:
    """The answer to one SELECT over these tables.

    A name in double quotes is always a column's, as in the SQL standard: SQLite would take an unknown one for a text,
    and a wrong name for an answer. NaN is NULL, and true is 1. Raises UsageError, with the names that there are, where
    the query cannot be answered.
    """
    query, clock = _TOKEN.sub(_backquoted, encodable(sql)), _Clock(seconds)
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as database, _errors(tables, clock):
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_CHARACTERS)
        database.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, _MOST_CHARACTERS // 10)
        for name, table in tables.items():
            columns = ", ".join(f"{_quoted(column)} {kind}" for column, kind in table.columns.items())
            database.execute(f"CREATE TABLE {_quoted(name)} ({columns})")
        guard = _Guard(frozenset(tables))
        database.set_authorizer(guard)
        database.execute(f"EXPLAIN {query}")
        database.set_authorizer(None)
        for name in guard.read:
            _fill(database, name, tables[name])
        database.set_authorizer(guard)
        clock.start()
        database.set_progress_handler(clock.look, _STEPS_BETWEEN_LOOKS)
        return _answer(database.execute(query), renamed=query != sql)


def _answer(cursor: sqlite3.Cursor, *, renamed: bool) -> QueryAnswer:
    described = [column[0] for column in cursor.description or ()]
    names = [name.replace("`", '"') if renamed else name for name in described]
    rows = cursor.fetchmany(MOST_ROWS + 1)
    if len(rows) > MOST_ROWS:
        raise UsageError(f"the answer has more than {MOST_ROWS:,} rows: add LIMIT, or select fewer")
    return QueryAnswer(tuple(sql_names(names)), rows)


class _Guard:
    """Allows reading the tables, computing, and nothing else; `read` has the tables that a query reads."""

    def __init__(self, tables: frozenset[str]) -> None:
        self._tables = tables
        self.read: set[str] = set()

    def __call__(self, action: int, one: str | None, two: str | None, *_more: str | None) -> int:
        if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE):
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_READ and one in self._tables:
            self.read.add(one)
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_READ and one in _ALSO_READ:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION and two not in _NO_FUNCTIONS:
            return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_DENY


@dataclass
class _Clock:
    """Ends a query that takes too long; `is_over` says that it has."""

    seconds: float
    deadline: float = math.inf
    is_over: bool = False

    def start(self) -> None:
        self.deadline = time.monotonic() + self.seconds

    def look(self) -> bool:
        self.is_over = time.monotonic() > self.deadline
        return self.is_over


def _fill(database: sqlite3.Connection, name: str, table: QueryTable) -> None:
    marks = ", ".join("?" * len(table.columns))
    database.execute("BEGIN")
    database.executemany(f"INSERT INTO {_quoted(name)} VALUES ({marks})", table.rows())
    database.execute("COMMIT")


@contextlib.contextmanager
def _errors(tables: Mapping[str, QueryTable], clock: _Clock) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, sqlite3.Warning) as error:
        code, text = getattr(error, "sqlite_errorcode", None), str(error)
        if clock.is_over:
            raise UsageError(f"the query took longer than {clock.seconds:g} s: select from fewer rows") from error
        if code == sqlite3.SQLITE_INTERRUPT:
            raise KeyboardInterrupt from error  # it came while SQLite looked at the clock
        if any(mark in text for mark in _NO_SELECT):
            raise UsageError(f"expected one SELECT, which only reads {listed([*tables])} ({text})") from error
        raise UsageError(_in_words(str(error), tables)) from error
    except OverflowError as error:
        raise UsageError(f"a number is too large for SQL ({error})") from error


def _in_words(error: str, tables: Mapping[str, QueryTable]) -> str:
    missing = _MISSING.fullmatch(error)
    if missing is None:
        return f"the query cannot be answered: {error}"
    known = [*tables] if "table" in error else [column for table in tables.values() for column in table.columns]
    near = nearest((missing[1] or missing[2]).rpartition(".")[2], known)
    near = near if "did you mean" in near else ""
    lines = [f"{table}: {', '.join(_as_written(name) for name in tables[table].columns)}" for table in tables]
    return "\n".join([f"{error}{near}", "the tables and their columns are:", *map(_wrapped, lines)])


def _wrapped(line: str) -> str:
    return textwrap.fill(line, _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _as_written(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) else _quoted(name)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _backquoted(token: re.Match[str]) -> str:
    """A name in double quotes in backquotes, which SQLite never takes for a text; other tokens as they are."""
    if token[1] is None:
        return token[0]
    return "`" + token[1].replace('""', '"').replace("`", "``") + "`"
