"""What the page's script reads: plots, tables and trials as JSON, short, and safe inside a script element."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any
from urllib.parse import quote

from tunectl.analysis.figures.figures import (
    CurvesFigure,
    Figure,
    HistogramFigure,
    PairsFigure,
    ParallelFigure,
    ShadedFigure,
)
from tunectl.core.example_predictions import KeptArray, KeptImage, KeptText, KeptValue
from tunectl.core.safe_text import escaped
from tunectl.core.table_columns import Cell, Column
from tunectl.report.page_model import PageTable, Section, ShownFiles, ShownPredictions, StudyPage, TrialDetail
from tunectl.report.plot_theme import COLOURS, ON_DARK
from tunectl.report.plots import is_wide, vega_lite
from tunectl.report.table import exact

DIGITS = 6
"""Significant digits of the numbers in the page; the tables' files have all."""

_EXACT_IN_A_FLOAT = 2**53

_IN_SCRIPT = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def script_text(data: Any) -> str:
    """The data as JSON that ends no element and begins none, all of it ASCII; nothing in it would act on a terminal."""
    return json.dumps(_safe(data), separators=(",", ":"), allow_nan=False).translate(_IN_SCRIPT)


def _safe(data: Any) -> Any:
    if isinstance(data, str):
        return escaped(data)
    if isinstance(data, Mapping):
        return {_safe(key): _safe(value) for key, value in data.items()}
    return [_safe(item) for item in data] if isinstance(data, (list, tuple)) else data


def page_data(sections: Sequence[Section], trials: Iterable[TrialDetail]) -> dict[str, Any]:
    """Plots and tables in the order of the sections, and the trials that open, as the script takes them."""
    datasets = _Shared()
    steps = _Shared()
    constant = _Shared()
    texts = _Shared()
    figures = [figure for section in sections for figure in section.figures]
    return {
        "plots": [_plot(figure, datasets, texts) for figure in figures],
        "tables": [_table(table) for section in sections for table in section.tables],
        "trials": [_trial(detail, steps) for detail in trials],
        "predictions": [_predictions(item, constant) for section in sections for item in section.predictions],
        "files": [_files(item) for section in sections for item in section.files],
        "constant": constant.items,
        "datasets": datasets.items,
        "steps": steps.items,
        "texts": texts.items,
    }


def page_settings(page: StudyPage) -> dict[str, Any]:
    """What the script takes beside plots, tables and trials: the colours, and the commands and names of trials."""
    return {
        "colours": list(COLOURS),
        "dark": dict(ON_DARK),
        "commands": [
            {"first": first, "texts": [list(words) for words in commands]}
            for first, commands in sorted(page.trial_commands.items())
        ],
        "names": {str(trial): name for trial, name in page.trial_names.items()} or None,
    }


class _Shared:
    """Things that are often the same, each held once and known by its number."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._numbers: dict[str, int] = {}

    def number(self, item: Any) -> int:
        key = json.dumps(item)
        if key not in self._numbers:
            self._numbers[key] = len(self.items)
            self.items.append(item)
        return self._numbers[key]


def _plot(figure: Figure, datasets: _Shared, texts: _Shared) -> dict[str, Any]:
    spec = vega_lite(figure, interactive=True)
    title = spec.pop("title")
    spec.pop("$schema")
    rows = 0
    for part in spec["layer"]:
        values = part["data"]["values"]
        rows += len(values)
        part["data"] = datasets.number(_columns(values, texts))
    across, up = _axis_names(figure)
    return {
        "name": figure.name,
        "title": figure.title,
        "note": " ".join(title.get("subtitle", ())),
        "wide": is_wide(figure),
        "x": across,
        "y": up,
        "more": _more(figure),
        "rows": rows,
        "spec": spec,
    }


def _more(figure: Figure) -> list[str]:
    """The names of the further values of each row."""
    if isinstance(figure, CurvesFigure):
        return list(figure.more)
    return [figure.colour.title] if isinstance(figure, (ShadedFigure, ParallelFigure, PairsFigure)) else []


def _axis_names(figure: Figure) -> tuple[str, str]:
    """What the values of a row are called; each row of a figure of several axes names its own."""
    if isinstance(figure, ParallelFigure):
        return "axis", "value"
    if isinstance(figure, PairsFigure):
        return "across", "up"
    return figure.x.title, "number" if isinstance(figure, HistogramFigure) else figure.y.title


def _columns(rows: Sequence[Mapping[str, Any]], texts: _Shared) -> dict[str, Any]:
    """The rows as columns; what is often the same from row to row as pairs of a value and how often it follows.

    Other texts, such as the values of a trial, are in many plots: of them there are the numbers in `texts`.
    """
    columns: dict[str, Any] = {}
    for name in rows[0] if rows else ():
        values = [rounded(row[name]) for row in rows]
        runs = [(value, len(list(same))) for value, same in groupby(values)]
        if 2 * len(runs) < len(values):
            columns[name] = {"runs": runs}
        elif name == "label":
            columns[name] = {"texts": [texts.number(value) for value in values]}
        else:
            columns[name] = values
    return {"rows": len(rows), "columns": columns}


def rounded(value: Any) -> Any:
    """The number with six significant digits, whole ones as they are; None for what JSON has no number for."""
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < _EXACT_IN_A_FLOAT else float(f"{value:.{DIGITS}g}")


def _table(table: PageTable) -> dict[str, Any]:
    rows = table.table.rows
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(table.table.columns)
    return {
        "caption": table.caption,
        "ofTrials": table.of_trials,
        "rows": len(rows),
        "constants": [list(pair) for pair in table.constants],
        "sorted": _sorted(table),
        "columns": [
            {"name": column.name, "numeric": _is_numeric(column, cells)}
            | ({"hidden": True} if column.name in table.hidden else {})
            | _cells([_cell(cell) for cell in cells])
            for column, cells in zip(table.table.columns, columns, strict=True)
        ],
    }


def _sorted(table: PageTable) -> dict[str, int] | None:
    if table.sorted_by is None or table.sorted_by[0] not in table.table.header:
        return None
    name, upwards = table.sorted_by
    return {"column": table.table.header.index(name), "sign": 1 if upwards else -1}


def _is_numeric(column: Column, cells: Sequence[Cell]) -> bool:
    if column.type != "scalar":
        return column.type in ("whole", "real")
    known = [cell for cell in cells if cell is not None]
    return bool(known) and all(isinstance(cell, (int, float)) and not isinstance(cell, bool) for cell in known)


def _cells(cells: Sequence[Any]) -> dict[str, Any]:
    """The cells, or where few texts are in many of them, each text once and the numbers of those in the cells."""
    places = {cell: place for place, cell in enumerate(dict.fromkeys(cells))}
    if not any(isinstance(cell, str) for cell in places) or 2 * len(places) > len(cells):
        return {"cells": cells}
    return {"texts": list(places), "codes": [places[cell] for cell in cells]}


def _cell(cell: Cell) -> Any:
    """A number where JavaScript has it, else its text; missing is null."""
    if cell is None or isinstance(cell, str):
        return cell
    if isinstance(cell, bool) or not math.isfinite(cell) or abs(cell) > _EXACT_IN_A_FLOAT:
        return exact(cell)
    return rounded(cell)


def _trial(detail: TrialDetail, steps: _Shared) -> dict[str, Any]:
    return {
        "trial": detail.trial,
        "state": detail.state,
        "reason": detail.reason,
        "message": detail.message,
        "hyperparameters": [[name, exact(value)] for name, value in detail.hyperparameters.items()],
        "facts": [list(fact) for fact in detail.facts],
        "curves": [
            [name, steps.number([rounded(float(step)) for step in at]), [rounded(float(value)) for value in values]]
            for name, (at, values) in detail.curves.items()
        ],
        "log": detail.log_tail,
        "varying": list(detail.varying),
        "called": detail.called,
    }


def _predictions(item: ShownPredictions, constant: _Shared) -> dict[str, Any]:
    """The predictions of a trial; what does not change in an example is mostly the same in all trials."""
    return {
        "trial": item.trial,
        "label": item.label,
        "selected": item.selected,
        "examples": list(item.examples),
        "constant": [constant.number(_values(values)) for values in item.constant],
        "steps": [
            {"step": step.step, "values": [_values(values) for values in step.values], "right": list(step.right)}
            for step in item.steps
        ],
    }


def _files(item: ShownFiles) -> dict[str, Any]:
    """What a trial wrote; a name may have characters that mean something in an address."""
    return {
        "label": item.label,
        "selected": item.selected,
        "steps": [
            {
                "step": step.step,
                "left": step.left_out,
                "files": [
                    {"name": file.name, "href": quote(file.place), "size": file.size, "picture": file.picture}
                    for file in step.files
                ],
            }
            for step in item.steps
        ],
    }


def _values(values: Mapping[str, KeptValue]) -> list[list[Any]]:
    return [[name, kept_value(value)] for name, value in values.items()]


def kept_value(value: KeptValue) -> Any:
    """A value as the script takes it: a number, true or false, a text, or an object; not finite numbers are texts."""
    match value:
        case KeptText():
            return {"text": value.text, "length": value.length}
        case KeptArray():
            return {"shape": list(value.shape), "numbers": [rounded(number) for number in value.values]}
        case KeptImage():
            full = [value.full_width, value.full_height]
            limits = [] if value.low is None or value.high is None else [rounded(value.low), rounded(value.high)]
            return {"png": value.png, "size": [value.width, value.height], "full": full, "limits": limits}
        case bool() | str():
            return value
        case _:
            return _cell(value)
