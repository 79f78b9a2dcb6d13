"""A table: typed columns over rows, and a cell as text that reads back as the same value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunectl.core.table_columns import Cell, Column
from tunectl.core.wording import as_text, short_text


@dataclass(frozen=True, slots=True)
class Table:
    """Columns, and rows with one cell a column."""

    columns: tuple[Column, ...]
    rows: Sequence[tuple[Cell, ...]]

    @property
    def header(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(column.name for column in self.columns)


def without_empty_columns(table: Table) -> Table:
    """The table without columns in which every cell is missing."""
    kept = [index for index in range(len(table.columns)) if any(row[index] is not None for row in table.rows)]
    return Table(
        tuple(table.columns[index] for index in kept), [tuple(row[index] for index in kept) for row in table.rows]
    )


def exact(cell: Cell) -> str:
    """The cell as text without loss: floats as the shortest text that reads back as the same number; missing is "".

    Booleans are `true` and `false`, as in the study file; non-finite numbers `nan`, `inf` and `-inf`.
    """
    return "" if cell is None else as_text(cell)


def short(cell: Cell) -> str:
    """The cell for reading: floats with four digits."""
    return "" if cell is None else short_text(cell)


def csv_bytes(table: Table) -> bytes:
    """The table as CSV (UTF-8, comma, quotes only where needed, one line feed a row), every number exact.

    A missing cell is empty; an empty text that is a hyperparameter's value is "" in quotes.
    """
    lines = [",".join(_csv_cell(name) for name in table.header)]
    lines += [",".join([_csv_cell(cell) for cell in row]) for row in table.rows]
    return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")


def _csv_cell(cell: Cell) -> str:
    text = exact(cell)
    if not isinstance(cell, str):
        return text
    needs_quotes = text == "" or any(mark in text for mark in ',"\r\n') or text != text.strip()
    return '"' + text.replace('"', '""') + '"' if needs_quotes else text
