"""The tables of a SQLite file of another tool, read before anything is written to it."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from tunectl.core.errors import FolderError


def table_names(path: Path) -> set[str]:
    """The names of the tables and views in a SQLite file, none for an empty file; writes nothing.

    Raises FolderError where it cannot be read as a SQLite file.
    """
    if not path.is_file():
        raise FolderError(f"{path}: cannot be read as a SQLite database: it is not a regular file")
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            return {
                name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
            }
    except sqlite3.Error as error:
        raise FolderError(f"{path}: cannot be read as a SQLite database: {error}") from error
