"""`tunectl export`: a study in the formats of other tools."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from tunectl.cli.console import note, say, say_json
from tunectl.cli.shared_options import AsJson, StudyFolderPath


class Target(StrEnum):
    """The tools and formats that a study can be exported to."""

    tensorboard = "tensorboard"
    mlflow = "mlflow"
    wandb = "wandb"
    optuna = "optuna"
    csv = "csv"
    parquet = "parquet"


def export(
    folder: StudyFolderPath,
    to: Annotated[
        Target,
        typer.Option("--to", metavar="TOOL", help=f"The tool or format: {', '.join(Target)}.", show_default=False),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="PATH",
            help="The folder to write; for mlflow and optuna, the SQLite file.  [default: FOLDER/exports/...]",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Convert a study for another tool, or write its tables.

    Nothing is trained.
    """
    from tunectl.commands.export import export_study

    found = export_study(folder, to.value, out, note)
    if as_json:
        say_json(found.to_json())
        return
    say(str(found.place))
    left = found.planned - found.trials
    if left:
        note(f"{found.trials} of {found.planned} trials exported; {left} have not started yet")
    if found.view:
        note(found.view)
