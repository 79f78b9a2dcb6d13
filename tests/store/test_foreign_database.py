from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tunectl.core.errors import FolderError
from tunectl.store.foreign_database import table_names


def test_tables_and_views_are_named_and_the_file_keeps_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "a file?.db"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(
            "CREATE TABLE one (a); CREATE VIEW two AS SELECT a FROM one; CREATE INDEX three ON one (a)"
        )
    before = path.read_bytes()
    assert table_names(path) == {"one", "two"}
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_an_empty_file_has_no_tables(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    assert table_names(tmp_path / "empty.db") == set()


@pytest.mark.parametrize("kind", ["text", "folder", "pipe", "missing"])
def test_what_is_not_a_sqlite_file_is_an_error_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "other.db"
    if kind == "text":
        path.write_text("not a database, but longer than the header of one: " * 20)
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(FolderError, match=r"other\.db: cannot be read as a SQLite database"):
        table_names(path)
