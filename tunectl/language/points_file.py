"""Reads `search.points: FILE.csv`: a table with a configuration in each row, and the place of each cell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunectl.core import regular_files
from tunectl.core.errors import PathKey, Place, Problem, dotted
from tunectl.core.path_errors import path_message
from tunectl.core.records import Scalar
from tunectl.core.scalars import scalar
from tunectl.core.table_columns import TABLE_COLUMNS
from tunectl.core.wording import got, nearest, printable, shown
from tunectl.language.document import Document
from tunectl.language.study_spec import POINTS, PointsFile
from tunectl.space.hyperparameters import Hyperparameter

# RFC 4180, with blanks around cells and either line end.
_CELL = re.compile(r'[ \t]*+(?:"((?:[^"]|"")*+)"[ \t]*+|([^",\r\n][^,\r\n]*+)?)(,|\r\n|\n|\r|\Z)')
_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class _Cell:
    text: str
    place: Place


class _Table:
    """The rows of a CSV text; its problems are noted in the document."""

    def __init__(self, document: Document, label: str) -> None:
        self.document, self.label = document, label

    def problem(self, place: Place, path: PathKey, message: str) -> None:
        self.document.problems.append(Problem(self.label, *place, dotted(path), printable(message)))

    def rows(self, text: str) -> Iterator[list[_Cell]]:
        """The cells of every line that is not blank; ends at a quote that is not closed."""
        position, line, begin = 0, 1, 0
        row: list[_Cell] = []
        while position < len(text):
            read = _CELL.match(text, position)
            place = (line, position - begin + 1)
            if read is None:
                self.problem(place, POINTS, 'expected a closing "; within a cell in quotes, "" is a quote')
                return
            quoted, plain, end = read.groups()
            row.append(_Cell(quoted.replace('""', '"') if quoted is not None else (plain or "").rstrip(" \t"), place))
            for line_end in _LINE_END.finditer(text, position, read.end()):
                line, begin = line + 1, line_end.end()
            position = read.end()
            if end != ",":
                if len(row) > 1 or row[0].text:
                    yield row
                row = []
        if row:  # the text ends with a comma
            yield [*row, _Cell("", (line, position - begin + 1))]


def read_points_file(
    document: Document, name: str, path: Path, hyperparameters: Sequence[Hyperparameter], copy: Path | None
) -> tuple[tuple[dict[str, Scalar], ...], PointsFile | None]:
    """The configurations in the file `name`, relative to the study file at `path`, and the file.

    The first line names hyperparameters; an empty cell gives no value. `copy` is the study folder's copy of the file,
    which is read instead of it. Every problem is noted in the document, with its line and column in that file.
    """
    file = copy if copy is not None else path.parent / Path(name).expanduser()
    label = str(copy if copy is not None else Path(document.file).parent / Path(name).expanduser())
    text = _text(document, file, label)
    if text is None:
        return (), None
    document.other_files[POINTS] = label
    table = _Table(document, label)
    rows = table.rows(text)
    header = next(rows, [])
    columns = _columns(table, header)
    points: list[dict[str, Scalar]] = []
    for index, row in enumerate(rows):
        points.append(_point(table, index, row, header, columns, hyperparameters))
    if not points and not any(problem.file == label for problem in document.problems):
        what = "expected a line of names and one line for each configuration"
        table.problem((1, 1), POINTS, f"{what}, got {'no configuration' if header else 'an empty file'}")
    return tuple(points), PointsFile(label, text)


def _text(document: Document, file: Path, label: str) -> str | None:
    try:
        if file.exists() and not file.is_file():
            document.report(POINTS, f"expected a CSV file of configurations, {label} is not a file")
            return None
        raw = regular_files.content(file, follows=True)
    except FileNotFoundError:
        document.report(POINTS, f"file {label} not found; name a CSV file of configurations, or list them here")
        return None
    except (OSError, ValueError) as error:
        document.report(POINTS, path_message(label, "read", error))
        return None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = _LINE_END.split(error.object[: error.start].decode("utf-8", "replace"))
        place = (len(before), len(before[-1]) + 1)
        document.problems.append(Problem(label, *place, dotted(POINTS), "expected UTF-8 text, got other bytes"))
        return None


def _columns(table: _Table, header: Sequence[_Cell]) -> list[str | None]:
    """The hyperparameter of each column, None where a column has none."""
    declared = table.document.content.get("hyperparameters")
    known = tuple(declared) if isinstance(declared, dict) else ()
    columns: list[str | None] = []
    for cell in header:
        name = cell.text
        message = None
        if not name:
            message = "expected the name of a hyperparameter, got an empty cell; leave row numbers out"
        elif name in TABLE_COLUMNS and name not in known:
            message = f"{name} is a column of the trial tables, not a hyperparameter; leave it out"
        elif name not in known:
            hint = "; columns are separated by commas" if ";" in name or "\t" in name else nearest(name, known)
            message = f"the study has no hyperparameter {shown(name)}{hint}"
        elif name in columns:
            message = f"expected one column for each hyperparameter, got a second one for {name}"
        if message is not None:
            table.problem(cell.place, POINTS, message)
        columns.append(name if message is None else None)
    return columns


def _point(
    table: _Table,
    index: int,
    row: Sequence[_Cell],
    header: Sequence[_Cell],
    columns: Sequence[str | None],
    hyperparameters: Sequence[Hyperparameter],
) -> dict[str, Scalar]:
    document, path = table.document, (*POINTS, index)
    document.places[path] = document.key_places[path] = row[0].place
    if len(row) != len(header):
        message = f"expected {len(header)} cells, as there are names, got {len(row)}"
        table.problem(row[0].place, path, message)
        return {}
    point: dict[str, Scalar] = {}
    for name, cell in zip(columns, row, strict=True):
        if name is None or not cell.text:
            continue
        where = (*path, name)
        document.places[where] = document.key_places[where] = cell.place
        value = _value(cell.text, [item for item in hyperparameters if item.name == name])
        if value is None:
            table.problem(cell.place, where, f"expected a value, {got(cell.text)}; leave the cell empty for none")
        else:
            point[name] = value
    return point


def _value(text: str, alternatives: Sequence[Hyperparameter]) -> Scalar | None:
    """The cell as a study file's value, or as text where only text is in the domain: quotes in a table do not mean
    that a value is text.
    """
    value = scalar(text)
    if isinstance(value, str) or (value is not None and any(item.domain.contains(value) for item in alternatives)):
        return value
    return text if any(item.domain.contains(text) for item in alternatives) else value
