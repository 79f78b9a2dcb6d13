"""`tunectl import`: a study folder made of another tool's study."""

from __future__ import annotations

import sys
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tunectl.cli.console import note, say, say_json


class Source(StrEnum):
    """From which tool."""

    optuna = "optuna"


def import_study(
    storage: Annotated[
        str, typer.Argument(help="Its storage: a SQLite or journal file, or an address.", show_default=False)
    ],
    source: Annotated[Source, typer.Option("--from", help="From which tool.", show_default=False)],
    study: Annotated[
        str | None, typer.Option("--study", metavar="NAME", help="Which study of several.", show_default=False)
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--dir", help="The study folder to make [runs/<study>].", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make a study folder of another tool's study, for report and next."""
    from tunectl.commands.import_study import import_study

    found = import_study(source.value, storage, study, folder, sys.argv, datetime.now().astimezone())
    if as_json:
        say_json(found.to_json())
        return
    for remark in found.remarks:
        note(remark)
    states = ", ".join(f"{number} {state}" for state, number in found.states.items())
    say(f"{found.folder}: {found.study}, {states}")
