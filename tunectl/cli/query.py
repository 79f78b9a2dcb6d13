"""`tunectl query`: SQL over a study."""

from __future__ import annotations

from typing import Annotated

import typer

from tunectl.cli.console import note, say, say_csv, say_json, say_table
from tunectl.cli.shared_options import AsJson, StudyFolderPath

MOST_ROWS = 200  # a longer table is hard to read


def query(
    folder: StudyFolderPath,
    sql: Annotated[
        str | None,
        typer.Argument(
            metavar="SQL",
            help="One SELECT from trials, settings or measurements.  [default: list their columns]",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the answer as CSV.")] = False,
) -> None:
    """Answer an SQL query about a study, also while it runs.

    Nothing is written.
    """
    from tunectl.commands.query import query_study, study_columns
    from tunectl.core.errors import UsageError
    from tunectl.core.table_columns import Column
    from tunectl.report.table import Table, csv_bytes

    if as_json and as_csv:
        raise UsageError("--json and --csv cannot be combined")
    answer = query_study(folder, sql, note) if sql is not None else study_columns(folder, note)
    if as_json:
        say_json(answer.to_json())
    elif as_csv:
        say_csv(csv_bytes(Table(tuple(Column(name, "scalar") for name in answer.columns), answer.rows)))
    else:
        say_table(answer.columns, answer.rows[:MOST_ROWS])
        if len(answer.rows) > MOST_ROWS:
            say(f"the first {MOST_ROWS:,} of {len(answer.rows):,} rows; use --csv or --json to print them all")
