"""`query`: SQL over the trials, the settings and the measurements of a study, also while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunectl.core.jsontext import encodable
from tunectl.core.table_columns import Cell
from tunectl.report.parquet import ParquetType, parquet_type
from tunectl.report.table import Table, exact
from tunectl.report.trial_tables import measurement_columns
from tunectl.session.snapshot import StudySnapshot, study_snapshot
from tunectl.session.written_tables import measurement_blocks, settings_of, trials_of, whole_index
from tunectl.store.query_database import QueryAnswer, QueryTable, SqlType, answer, sql_names

_SQL_TYPES: Mapping[ParquetType, SqlType] = {
    "int64": "INTEGER",
    "uint64": "TEXT",  # SQL has no number of this size
    "double": "REAL",
    "bool": "INTEGER",
    "string": "TEXT",
}


@dataclass(frozen=True, slots=True)
class StudyAnswer:
    """The answer to a query about a study. `damage` has one line for everything in the folder that is damaged."""

    study: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    damage: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The answer as one JSON object; bytes are in hexadecimal."""
        rows = [{name: _in_json(cell) for name, cell in zip(self.columns, row, strict=True)} for row in self.rows]
        return {"study": self.study, "columns": list(self.columns), "rows": rows, "damage": list(self.damage)}


def query_study(place: Path, sql: str, say: Callable[[str], None] = lambda _line: None) -> StudyAnswer:
    """The answer to one SELECT about the study folder at `place`; writes nothing.

    `say` is called with each line about damage. Raises FolderError where there is no study, and UsageError, with the
    tables and their columns, where the query cannot be answered.
    """
    with study_snapshot(place, say) as study:
        found: QueryAnswer = answer(_tables(study), sql)
        return StudyAnswer(study.spec.name, found.columns, found.rows, tuple(study.damage))


def study_columns(place: Path, say: Callable[[str], None] = lambda _line: None) -> StudyAnswer:
    """The columns that a query can name: a row for each, with its table and its type."""
    with study_snapshot(place, say) as study:
        rows: list[tuple[Any, ...]] = [
            (name, column, kind) for name, table in _tables(study).items() for column, kind in table.columns.items()
        ]
        return StudyAnswer(study.spec.name, ("table", "column", "type"), rows, tuple(study.damage))


def _tables(study: StudySnapshot) -> dict[str, QueryTable]:
    return {
        "trials": _of_table(trials_of(study.spec, study.outcomes)),
        "settings": _of_table(settings_of(study.spec, study.outcomes)[1]),
        "measurements": _measurements(study),
    }


def _of_table(table: Table) -> QueryTable:
    columns = list(zip(*table.rows, strict=True)) if table.rows else [()] * len(table.columns)
    types = [_SQL_TYPES[parquet_type(column, cells)] for column, cells in zip(table.columns, columns, strict=True)]
    return QueryTable(dict(zip(sql_names(table.header), types, strict=True)), lambda: _rows(table.rows, types))


def _measurements(study: StudySnapshot) -> QueryTable:
    metrics, blocks = measurement_blocks(study.folder, study.outcomes, whole_index(study))
    columns = measurement_columns(metrics)
    types = [_SQL_TYPES[parquet_type(column, ())] for column in columns]

    def rows() -> Iterator[Sequence[Cell]]:
        for block in blocks:
            yield from _rows(list(zip(*block, strict=True)), types)

    return QueryTable(dict(zip(sql_names(column.name for column in columns), types, strict=True)), rows)


def _rows(rows: Sequence[Sequence[Cell]], types: Sequence[SqlType]) -> Iterator[Sequence[Cell]]:
    texts = [place for place, kind in enumerate(types) if kind == "TEXT"]
    for row in rows:
        cells = list(row)
        for place in texts:
            if cells[place] is not None:
                cells[place] = encodable(exact(cells[place]))
        yield cells


def _in_json(cell: Any) -> Any:
    return cell.hex() if isinstance(cell, bytes) else cell
