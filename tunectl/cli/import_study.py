"""`tunectl import`: a study folder made from another tool's study."""

from __future__ import annotations

import sys
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tunectl.cli.console import note, say, say_json
from tunectl.cli.shared_options import AsJson


class OtherTool(StrEnum):
    """The tools whose studies can be imported."""

    optuna = "optuna"


def import_study(
    storage: Annotated[
        str,
        typer.Argument(
            metavar="STORAGE", help="The other tool's storage: a SQLite or journal file, or a URL.", show_default=False
        ),
    ],
    source: Annotated[
        OtherTool,
        typer.Option("--from", metavar="TOOL", help=f"The other tool: {', '.join(OtherTool)}.", show_default=False),
    ],
    study: Annotated[
        str | None,
        typer.Option("--study", metavar="NAME", help="The study, if the storage has several.", show_default=False),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="The new study folder.  [default: runs/<study>]", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Convert another tool's study into a study folder.

    `tunectl report` and `tunectl next` work on it.
    """
    from tunectl.commands.import_study import import_study

    found = import_study(source.value, storage, study, folder, sys.argv, datetime.now().astimezone())
    if as_json:
        say_json(found.to_json())
        return
    for remark in found.remarks:
        note(remark)
    states = ", ".join(f"{number} {state}" for state, number in found.states.items())
    say(f"{found.folder}: {found.study}, {states}")
