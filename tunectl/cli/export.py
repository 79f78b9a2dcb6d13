"""`tunectl export`: a study as other tools read it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tunectl.cli.console import note, say, say_json


class To(StrEnum):
    """For which tool."""

    tensorboard = "tensorboard"
    mlflow = "mlflow"
    wandb = "wandb"
    optuna = "optuna"
    csv = "csv"
    parquet = "parquet"


def export(
    folder: Annotated[Path, typer.Argument(help="The study folder (runs/<study>).", show_default=False)],
    to: Annotated[To, typer.Option("--to", help="For which tool.", show_default=False)],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="PLACE",
            help="A folder; a SQLite file for mlflow and optuna [DIR/exports/…].",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write a study for another tool, or its tables as files; trains nothing."""
    from tunectl.commands.export import export_study

    found = export_study(folder, to.value, out, note)
    if as_json:
        say_json(found.to_json())
        return
    say(str(found.place))
    left = found.planned - found.trials
    if left:
        note(f"{found.trials} of {found.planned} trials; {left} were not launched yet")
    if found.view:
        note(found.view)
