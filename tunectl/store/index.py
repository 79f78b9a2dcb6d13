"""study.db: the SQLite index of a study folder, a backup of its plan and of what its trials measured.

It is a copy: the files of the study folder are what counts, and where the index is missing, damaged or of another
version, the next run makes it again from them. It is used in two ways. A trial whose files have not changed since they
were copied (see `trial_files.folder_stamp`) is not read again: all commands are faster for it. And where a line of
plan.jsonl or measurements.jsonl is damaged or missing, it is restored from the index (session/plan_agreement.py,
session/outcome_index.py); so what the index has is not replaced by less before that was done. Results, attempts, logs,
checkpoints and the series of updates are not in it. Only the runner writes it, under the lock of the study folder.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any

from tunectl.core.garbage_collection import no_garbage_collected
from tunectl.core.measurement_kinds import EVALUATION, counts_updates
from tunectl.core.measurements import Measurement
from tunectl.core.objective import Objective
from tunectl.core.path_errors import path_errors
from tunectl.core.records import PlannedTrial, TrialOutcome
from tunectl.store import index_measurements, index_schema
from tunectl.store.index_measurements import Stretch
from tunectl.store.index_rows import (
    PLAN_ROW,
    TRIAL_ROW,
    checksum,
    marks,
    outcome_of_row,
    plan_of_row,
    plan_row,
    trial_row,
)
from tunectl.store.trial_files import sorted_once

_ROWS_AT_ONCE = 1_000
MEASUREMENTS_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True)
class RunningRow:
    """A running trial: its slot, and the step and the objective of its last evaluation, None before the first one."""

    trial: int
    slot: int
    last_step: int | None
    last_value: float | None
    iteration: int | None = None


class Index:
    """The plan, the outcomes and the measurements of a study.

    Attributes:
        is_new: the index has just been made, because it was missing, damaged or of another version, and is empty.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, *, is_new: bool, writes: bool) -> None:
        self.is_new = is_new
        self._connection = connection
        self._path = path
        self._writes = writes
        self._wal_begun = False
        self._set_ids: dict[tuple[str, ...], int] = {}
        self._sets: dict[int, tuple[str, ...]] = {}

    @classmethod
    def open_for_writing(cls, path: Path) -> Index:
        """The runner's index; an empty one replaces a missing or damaged file, or one of another version.

        A sound file keeps every byte until something is put. Raises FolderError where it cannot be opened or made.
        """
        try:
            with index_schema.errors_of(path):
                connection = index_schema.open_sound(path, "rw") if path.is_file() else None
        except index_schema.DamagedIndexError:
            connection = None
        if connection is not None:
            index = cls(connection, path, is_new=False, writes=True)
            with index_schema.errors_of(path):
                index._wal_begun = index_schema.is_wal(connection)
            index._forget_running()
            return index
        return cls(_made_anew(path), path, is_new=True, writes=True)

    @classmethod
    def open_read_only(cls, path: Path) -> Index | None:
        """The index to read from, also during a run; None where it is missing, damaged or of another version.

        None also on a file system without locks, where a reader may see half of what a runner writes.
        """
        return cls._open_to_read(path) if index_schema.has_locks(path) else None

    @classmethod
    def open_at_rest(cls, path: Path) -> Index | None:
        """The index of a folder in which no runner is at work, to read from without writing a byte into the folder.

        None where `open_read_only` gives None, and where a killed runner left its journal: SQLite would write to it.
        """
        return cls._open_to_read(path) if index_schema.is_one_file(path) else None

    @classmethod
    def _open_to_read(cls, path: Path) -> Index | None:
        try:
            connection = index_schema.open_sound(path, "ro")
        except (index_schema.DamagedIndexError, sqlite3.Error):
            return None
        return cls(connection, path, is_new=False, writes=False)

    def make_anew(self) -> None:
        """Replace an index that was damaged or removed while it was open by an empty one.

        Raises FolderError where that cannot be done.
        """
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        self._connection = _made_anew(self._path)
        self.is_new, self._wal_begun = True, False
        self._set_ids.clear()
        self._sets.clear()

    def close(self) -> None:
        """Close the connection; a writer leaves a single file, without a journal beside it."""
        if self._writes and self._wal_begun:
            index_schema.end_wal(self._connection)
        self._connection.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Write all that is put in the block, or nothing; may be nested. Raises FolderError if the write fails."""
        if self._connection.in_transaction:
            yield
            return
        with index_schema.errors_of(self._path):
            if not self._wal_begun:
                index_schema.begin_wal(self._connection)
                self._wal_begun = True
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                self._set_ids.clear()
                self._sets.clear()
                raise

    def _forget_running(self) -> None:
        """Forget the running trials of a killed runner."""
        if self._rows("SELECT 1 FROM running LIMIT 1").fetchone():
            with self.transaction():
                self._connection.execute("DELETE FROM running")

    def put_plan(self, trials: Iterable[PlannedTrial]) -> None:
        """Make these the planned trials: new ones are pending, those with the same plan are left as they are.

        A trial with another plan loses its outcome and its measurements; one that is not planned any more is removed.
        """
        known = {row[0]: row for row in self._rows(f"SELECT {PLAN_ROW} FROM trials")}
        planned = {trial.trial: trial for trial in trials}
        rows = [(row := plan_row(trial), checksum(row)) for trial in planned.values()]
        new = [planned[row[0]] for row, seal in rows if known.get(row[0]) != (*row, seal)]
        gone = [(trial,) for trial in known.keys() - planned.keys()]
        if not new and not gone:
            return
        with self.transaction():
            changed = [*gone, *((trial.trial,) for trial in new)]
            for table in ("measurements", "trials", "running"):
                self._connection.executemany(f"DELETE FROM {table} WHERE trial = ?", changed)
            self._connection.executemany(
                f"INSERT INTO trials ({TRIAL_ROW}) VALUES ({marks(TRIAL_ROW)})",
                [trial_row(TrialOutcome(trial, "pending"), "") for trial in new],
            )

    def planned_count(self) -> int:
        """The number of planned trials, by the highest id."""
        row = self._rows("SELECT max(trial) FROM trials").fetchone()
        return row[0] + 1 if row is not None and type(row[0]) is int else 0

    def planned(self) -> dict[int, PlannedTrial]:
        """The planned trials by id, without those whose rows are damaged."""
        found = {}
        for row in self._rows(f"SELECT {PLAN_ROW} FROM trials ORDER BY trial"):
            with contextlib.suppress(*index_schema.OF_DAMAGED_ROWS):
                found[row[0]] = plan_of_row(row)
        return found

    def put_outcome(self, outcome: TrialOutcome, stamp: str = "") -> None:
        """Store the outcome of a trial; unless its state is running, it is not among the running trials any more.

        `stamp` is `trial_files.folder_stamp` from before its files were read: a folder with another one is read again.
        """
        insert = f"INSERT OR REPLACE INTO trials ({TRIAL_ROW}) VALUES ({marks(TRIAL_ROW)})"
        with self.transaction():
            self._connection.execute(insert, trial_row(outcome, stamp))
            if outcome.state != "running":
                self._connection.execute("DELETE FROM running WHERE trial = ?", (outcome.plan.trial,))

    def put_measurements(self, trial: int, measurements: Sequence[Measurement], *, replace: bool = False) -> None:
        """Store measurements of a trial over those of the same step and kind; with `replace`, over all."""
        with self.transaction(), no_garbage_collected():
            if replace:
                self._connection.execute("DELETE FROM measurements WHERE trial = ?", (trial,))
            parts = index_measurements.stretches(sorted_once(measurements))
            self._connection.executemany(
                f"INSERT INTO measurements ({index_measurements.COLUMNS}) VALUES ({marks(index_measurements.COLUMNS)})",
                [
                    index_measurements.packed(trial, measurement_kind, self._set_id(names), part)
                    for (measurement_kind, names), part in parts.items()
                ],
            )

    def set_running(self, trial: int, slot: int) -> None:
        """Store that a trial is running."""
        with self.transaction():
            self._connection.execute("INSERT OR REPLACE INTO running (trial, slot) VALUES (?, ?)", (trial, slot))

    def outcomes(self) -> Iterator[TrialOutcome]:
        """The outcome of every planned trial, by id."""
        is_running = "trial IN (SELECT trial FROM running)"
        query = f"SELECT {TRIAL_ROW}, {is_running} FROM trials ORDER BY trial"
        with index_schema.reading(self._path):
            for row in self._rows(query):
                yield outcome_of_row(row)

    def outcome(self, trial: int) -> TrialOutcome | None:
        """The stored outcome of one trial, whether it is running or not; None where it is not planned."""
        with index_schema.reading(self._path):
            row = self._rows(f"SELECT {TRIAL_ROW}, 0 FROM trials WHERE trial = ?", (trial,)).fetchone()
            return None if row is None else outcome_of_row(row)

    def fingerprints(self) -> dict[str, str]:
        """The SHA-256 of files of the study folder by their names, as `put_fingerprints` stored them."""
        with index_schema.reading(self._path):
            return {
                name: sha256 for name, sha256, seal in self._rows("SELECT * FROM files") if _seal(name, sha256) == seal
            }

    def put_fingerprints(self, sha256s: Mapping[str, str]) -> None:
        """Store the SHA-256 of files that only a runner writes: by them a later change by someone else is found."""
        if self.fingerprints() == sha256s:
            return
        with self.transaction():
            self._connection.execute("DELETE FROM files")
            rows = [(name, sha256, _seal(name, sha256)) for name, sha256 in sha256s.items()]
            self._connection.executemany("INSERT INTO files (name, sha256, checksum) VALUES (?, ?, ?)", rows)

    def stamps(self) -> dict[int, str]:
        """The stamp of each trial's folder when its outcome was stored, "" where none was given."""
        with index_schema.reading(self._path):
            return dict(self._rows("SELECT trial, stamp FROM trials"))

    def measurements(self, trial: int | None = None) -> Iterator[tuple[int, Measurement]]:
        """Measurements with the ids of their trials, by (trial, step, kind); of one trial, or of all."""
        with index_schema.reading(self._path):
            for stretches in self._stretches(trial):
                for item in sorted_once(chain.from_iterable(part.measurements() for part in stretches)):
                    yield stretches[0].trial, item

    def measurement_columns(self, metrics: Sequence[str]) -> Iterator[list[list[Any]]]:
        """All measurements by (trial, step, kind), in blocks of columns: faster than one by one.

        The columns are trial, step, kind, then one for each of `metrics` (None where it was not measured),
        learning_rate, gradient_norm, elapsed_seconds, checkpoint.
        """
        block: list[Stretch] = []
        count = 0
        with index_schema.reading(self._path):
            for stretches in self._stretches():
                block += stretches
                count += sum(len(part.steps) for part in stretches)
                if count >= MEASUREMENTS_AT_ONCE:
                    yield index_measurements.columns(block, metrics)
                    block, count = [], 0
            if block:
                yield index_measurements.columns(block, metrics)

    def _stretches(self, trial: int | None = None) -> Iterator[list[Stretch]]:
        """The stretches of each trial that has some, in the order in which they were stored."""
        where, values = ("WHERE trial = ?", (trial,)) if trial is not None else ("", ())
        rows = self._rows(
            f"SELECT {index_measurements.COLUMNS} FROM measurements {where} ORDER BY trial, stretch", values
        )
        for _, of_trial in groupby(rows, key=itemgetter(0)):
            yield [index_measurements.unpacked(row, self._names(row[2])) for row in of_trial]

    def metric_names(self) -> tuple[str, ...]:
        """The names of all metrics that some measurement has, sorted."""
        query = "SELECT names FROM metric_sets WHERE metric_set IN (SELECT DISTINCT metric_set FROM measurements)"
        with index_schema.reading(self._path):
            return tuple(sorted({name for (names,) in self._rows(query) for name in json.loads(names)}))

    def progress(self, objective: Objective) -> list[RunningRow]:
        """The running trials, by slot."""
        query = "SELECT trial, slot FROM running ORDER BY slot, trial"
        return [self._progress(row, objective) for row in self._rows(query).fetchall()]

    def _progress(self, row: tuple[int, int], objective: Objective) -> RunningRow:
        found = [item for _, item in self.measurements(row[0])]
        measured = [item for item in found if item.measurement_kind == EVALUATION.name]
        iterations = [item.step for item in found if not counts_updates(item.measurement_kind)]
        last = measured[-1] if measured else None
        return RunningRow(
            *row,
            last_step=last.step if last else None,
            last_value=last.metrics.get(objective.metric) if last else None,
            iteration=max(iterations, default=None) if last is None else None,
        )

    def _rows(self, query: str, values: Sequence[Any] = ()) -> _Rows:
        return _Rows(self._connection, self._path, query, values)

    def _set_id(self, names: tuple[str, ...]) -> int:
        known = self._set_ids.get(names)
        if known is None:
            text = json.dumps(names)
            self._connection.execute("INSERT OR IGNORE INTO metric_sets (names) VALUES (?)", (text,))
            (known,) = self._rows("SELECT metric_set FROM metric_sets WHERE names = ?", (text,)).fetchone()
            self._set_ids[names] = known
        return known

    def _names(self, set_id: int) -> tuple[str, ...]:
        known = self._sets.get(set_id)
        if known is None:
            ((text,),) = self._rows("SELECT names FROM metric_sets WHERE metric_set = ?", (set_id,))
            known = self._sets[set_id] = tuple(json.loads(text))
        return known


def _seal(*values: str) -> int:
    return checksum(values)


def _made_anew(path: Path) -> sqlite3.Connection:
    with path_errors(path, "replaced"):
        index_schema.remove_files(path)
    with index_schema.errors_of(path):
        connection = index_schema.make(path)
        index_schema.create_schema(connection)
    return connection


class _Rows:
    """The rows of a query, fetched in blocks; SQLite's errors become FolderErrors, also half way."""

    def __init__(self, connection: sqlite3.Connection, path: Path, query: str, values: Sequence[Any]) -> None:
        self._path = path
        with index_schema.errors_of(path):
            self._cursor = connection.execute(query, values)

    def blocks(self) -> Iterator[list[Any]]:
        while True:
            with index_schema.errors_of(self._path):
                rows = self._cursor.fetchmany(_ROWS_AT_ONCE)
            if not rows:
                return
            yield rows

    def __iter__(self) -> Iterator[Any]:
        return chain.from_iterable(self.blocks())

    def fetchone(self) -> Any:
        return next(iter(self), None)

    def fetchall(self) -> list[Any]:
        return list(self)
