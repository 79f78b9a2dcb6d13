"""The tables of study.db, and opening a connection to a file that may be missing, foreign or damaged."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tunectl.core import real_folders, regular_files
from tunectl.core.errors import FolderError
from tunectl.core.file_locks import has_record_locks
from tunectl.core.folders import StudyFolder

SCHEMA_VERSION = 5
"""An index of another version is rebuilt from the trial folders. The versions:

1. trials, running, metric_sets and measurements, one row for each measurement.
2. `running` has only the slot: device, attempt and start are in the trial's files.
3. `trials` has `training` and `attempts`.
4. `measurements` has a row for all that a trial wrote at once, packed, with its checksum.
5. `trials` has checksums and `damage`; `files` has the hashes of the study's own files.
"""
APPLICATION_ID = 0x74756E65  # "tune"
BUSY_TIMEOUT_SECONDS = 10.0

# Keep every byte: an index whose tables have another text, comments included, is not recognised and is made anew.
SCHEMA = """
CREATE TABLE trials (
    -- One row a planned trial: its line of plan.jsonl, then what its folder says. Rebuilt from these files when lost.
    trial INTEGER PRIMARY KEY,
    setting INTEGER NOT NULL,
    point INTEGER NOT NULL,
    repeat INTEGER NOT NULL,
    kind TEXT NOT NULL,               -- search, retrain, sweep
    seed NOT NULL,                    -- an integer; as text where it needs more than 64 bits
    coordinates TEXT NOT NULL,        -- JSON array
    hyperparameters TEXT NOT NULL,    -- JSON object of the active ones, in the order of the study
    training TEXT NOT NULL,           -- JSON object of what of the study's `training:` is otherwise in this trial
    plan_checksum INTEGER NOT NULL,   -- CRC-32 of all this
    state TEXT NOT NULL DEFAULT 'pending', -- pending, completed, infeasible, failed, cancelled; running: see the table
    reason TEXT NOT NULL DEFAULT '',
    message TEXT NOT NULL DEFAULT '',
    best_step INTEGER,                -- under the objective of the study
    best_value REAL,
    final_step INTEGER,
    final_value REAL,                 -- the text 'nan' for NaN, which SQLite would make NULL
    best_checkpoint TEXT,             -- relative to the study folder
    metrics_at_best TEXT NOT NULL DEFAULT '{}', -- JSON object
    infeasible_step INTEGER,
    train_seconds REAL,
    eval_seconds REAL,
    startup_seconds REAL,
    device TEXT NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 0, -- launches, over all runs
    damage TEXT NOT NULL DEFAULT '',  -- what of the trial's files could not be read
    stamp TEXT NOT NULL DEFAULT '',   -- sizes and times of the trial's files when this row was made; '' is unknown
    outcome_checksum INTEGER NOT NULL -- CRC-32 of the id and of all from `state` on
);
CREATE TABLE files (
    -- By what the study's own files are known to be as the last runner left them.
    name TEXT PRIMARY KEY,
    sha256 TEXT NOT NULL,
    checksum INTEGER NOT NULL         -- CRC-32 of both
);
CREATE TABLE running (
    -- One row a trial that trains now. Meaningless when no runner holds the folder's lock.
    trial INTEGER PRIMARY KEY,
    slot INTEGER NOT NULL
);
CREATE TABLE metric_sets (
    -- The names behind the packed metrics, each set once.
    metric_set INTEGER PRIMARY KEY,
    names TEXT NOT NULL UNIQUE        -- JSON array
);
CREATE TABLE measurements (
    -- One row a stretch: what a trial measured between two looks, of one kind and with one set of metrics, by step.
    -- When a trial ends, those of a kind and set become one. Of several measurements of the same step and kind the
    -- one of the later stretch counts.
    stretch INTEGER PRIMARY KEY,
    trial INTEGER NOT NULL,
    kind TEXT NOT NULL,
    metric_set INTEGER NOT NULL,
    numbers BLOB NOT NULL,            -- little-endian: the steps as 8-byte integers, then as 8-byte floats (0 where
                                      -- missing) the learning rates, gradient norms, elapsed seconds, and the metrics
                                      -- of each measurement in the order of the set's names
    notes TEXT NOT NULL,              -- JSON array: the checkpoints or null, the places of the measurements without a
                                      -- learning rate, those without a gradient norm
    checksum INTEGER NOT NULL         -- CRC-32 of all this and the set's names, see index_measurements.py
);
CREATE INDEX measurements_of_trial ON measurements (trial);
"""

# Error codes of SQLite that mean that the index is damaged. All others (locked, full, no permission) are for the user
# to solve.
_DAMAGE_CODES = frozenset(
    {
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_FORMAT,
        sqlite3.SQLITE_IOERR,
    }
)


_SUFFIXES = ("", "-wal", "-shm", "-journal")
_REBUILT = "It is a copy: delete it, and the next run makes it again from the trial folders."


OF_DAMAGED_ROWS = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    IndexError,
    RecursionError,
    OverflowError,
    struct.error,
)
"""The exceptions that reading a damaged row may raise."""


class DamagedIndexError(Exception):
    """The file is damaged, not an index, or the index of another version."""


@contextlib.contextmanager
def errors_of(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into FolderErrors that name the file."""
    try:
        yield
    except sqlite3.Error as error:
        advice = f". {_REBUILT}" if _is_damage(error) else ""
        raise FolderError(f"{path}: {error}{advice}") from error


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn the exceptions of damaged rows, and SQLite's errors, into FolderErrors that name the file."""
    try:
        with errors_of(path):
            yield
    except OF_DAMAGED_ROWS as error:
        raise FolderError(f"{path}: is damaged ({error}). {_REBUILT}") from error


def _is_damage(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and (code & 0xFF) in _DAMAGE_CODES


def make(path: Path) -> sqlite3.Connection:
    """A connection to a new file, with the rights that the umask gives: SQLite's own would keep a group from writing.

    Raises sqlite3.Error where it cannot be made.
    """
    with contextlib.suppress(OSError):  # SQLite reports the same error
        os.close(regular_files.open_descriptor(path, os.O_WRONLY | os.O_CREAT))
    return connect(path, "rwc")


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """A connection in autocommit; `mode` is ro, rw or rwc.

    On a file system without locks it is used without them: the runner is alone by its claim on the folder. Raises
    DamagedIndexError where it is not a regular file: SQLite would wait for a named pipe.
    """
    for file in database_files(path):
        with contextlib.suppress(OSError):
            if not stat.S_ISREG(file.lstat().st_mode):
                raise DamagedIndexError(f"{file}: is not a regular file")
    locks = "" if has_locks(path) else "&nolock=1"
    address = f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}{locks}"
    return sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None)


def has_locks(path: Path) -> bool:
    """Whether an index at `path` can be read while a runner writes to it: whether the file system has locks."""
    # Not tried on the index itself: SQLite would lose its own locks.
    return has_record_locks(StudyFolder(path.parent).study)


def open_sound(path: Path, mode: str) -> sqlite3.Connection:
    """A connection to an index of this version; raises DamagedIndexError where the file is something else.

    Raises sqlite3.Error where it may be sound but cannot be opened now.
    """
    connection = connect(path, mode)
    try:
        # A trigger, or a view in place of a table, from someone else could make an answer wrong, or endless.
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
        if found != [APPLICATION_ID, SCHEMA_VERSION]:
            raise DamagedIndexError(f"{path}: is not an index of version {SCHEMA_VERSION}")
        if connection.execute(_OBJECTS).fetchall() != _own_objects():
            raise DamagedIndexError(f"{path}: has other tables, views or triggers than an index of tunectl")
        # A file that is cut in its last page passes the check: SQLite reads zeros in place of the rest.
        is_cut = path.stat().st_size % connection.execute("PRAGMA page_size").fetchone()[0] != 0
        if is_cut or connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise DamagedIndexError(f"{path}: is damaged")
    except (sqlite3.Error, OSError, ValueError) as error:
        connection.close()
        if isinstance(error, sqlite3.Error) and not _is_damage(error):
            raise
        raise DamagedIndexError(f"{path}: {error}") from error
    except DamagedIndexError:
        connection.close()
        raise
    return connection


_OBJECTS = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"


@cache
def _own_objects() -> list[Any]:
    """What a new index holds, as SQLite describes it."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        create_schema(database)
        return database.execute(_OBJECTS).fetchall()


def create_schema(connection: sqlite3.Connection) -> None:
    """Fill an empty database."""
    connection.executescript(
        f"BEGIN; {SCHEMA} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
    )


def database_files(path: Path) -> list[Path]:
    """The paths of a database and of the files that SQLite may keep beside it."""
    return [path.with_name(path.name + suffix) for suffix in _SUFFIXES]


def remove_files(path: Path) -> None:
    """Remove a database and the files that SQLite keeps beside it."""
    for file in database_files(path):
        real_folders.remove(file, path.parent)


def begin_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL, so that others can read while this connection writes; the rollback journal stays where it fails.

    WAL needs memory that processes share, which network file systems do not have.
    """
    try:
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    except sqlite3.OperationalError:
        mode = "none"
    if mode == "wal":
        # The index is a copy: no flush for each transaction; a power cut loses the last ones at worst.
        connection.execute("PRAGMA synchronous = NORMAL")


def is_one_file(path: Path) -> bool:
    """Whether a database is a single file without a journal, so that reading it makes none.

    Source: https://www.sqlite.org/fileformat2.html, 1.3: bytes 18 and 19 are 1 for rollback journals, 2 for WAL.
    """
    try:
        with regular_files.opened(path) as file:
            versions = file.read(20)[18:]
    except OSError:
        return False
    return versions == b"\1\1" and not any(path.with_name(path.name + mark).exists() for mark in ("-wal", "-journal"))


def is_wal(connection: sqlite3.Connection) -> bool:
    """Whether the file is in WAL mode, as a killed writer leaves it."""
    return bool(connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal")


def end_wal(connection: sqlite3.Connection) -> None:
    """Leave WAL mode and write everything into the single file, so that opening it to read changes nothing.

    That fails while a reader has the file open; the journal then stays beside the file until the next run.
    """
    with contextlib.suppress(sqlite3.Error):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.execute("PRAGMA journal_mode = DELETE").fetchone()
