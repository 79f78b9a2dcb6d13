"""Tables as Markdown, for reading: short numbers, and no text of a user's that could break the table."""

from __future__ import annotations

from tunectl.core.safe_text import ACTING
from tunectl.core.table_columns import Cell, Column
from tunectl.report.table import Table, short

_NUMERIC = ("whole", "real")
_ESCAPES = str.maketrans({"\\": "\\\\", "|": "\\|", "<": "&lt;", "\t": " ", "\n": " "})


def markdown_bytes(table: Table) -> bytes:
    """The table as Markdown (UTF-8); numbers to the right, columns padded so that the text reads well too."""
    cells = [[escaped(cell) for cell in row] for row in (table.header, *table.rows)]
    widths = [max(3, *(len(row[position]) for row in cells)) for position in range(len(table.columns))]
    right = [_is_numeric(column, position, table) for position, column in enumerate(table.columns)]
    lines = [_line(row, widths, right) for row in cells]
    dashes = [
        "-" * (width - 1) + ":" if is_right else "-" * width for width, is_right in zip(widths, right, strict=True)
    ]
    lines.insert(1, f"| {' | '.join(dashes)} |")
    return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")


def escaped(cell: Cell) -> str:
    """A cell's text on one line, with what Markdown would take for its own escaped."""
    return ACTING.sub(" ", short(cell)).translate(_ESCAPES)


def _line(row: list[str], widths: list[int], right: list[bool]) -> str:
    padded = [
        text.rjust(width) if is_right else text.ljust(width)
        for text, width, is_right in zip(row, widths, right, strict=True)
    ]
    return "| " + " | ".join(padded) + " |"


def _is_numeric(column: Column, position: int, table: Table) -> bool:
    if column.type != "scalar":
        return column.type in _NUMERIC
    values = [row[position] for row in table.rows if row[position] is not None]
    return bool(values) and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
