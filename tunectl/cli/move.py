"""`tunectl rename` and `tunectl mv`: another name for a study, another place for its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunectl.cli.console import note, say, say_json
from tunectl.cli.shared_options import AsJson, StudyFolderPath

if TYPE_CHECKING:
    from tunectl.commands.move import Moved


def rename(
    folder: StudyFolderPath,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new name.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Give a study and its folder another name.

    Your study file stays as it is, and needs the new name, too.
    """
    from tunectl.commands.move import rename_study

    _print(rename_study(folder, name), as_json=as_json)


def mv(
    folder: StudyFolderPath,
    to: Annotated[Path, typer.Argument(metavar="PLACE", help="Its new path, or a folder.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Move a study folder."""
    from tunectl.commands.move import move_study

    _print(move_study(folder, to), as_json=as_json)


def _print(moved: Moved, *, as_json: bool) -> None:
    if as_json:
        say_json(moved.to_json())
        return
    say(f"{moved.old} is {moved.new} now; the study is called {moved.study}")
    for line in moved.lines:
        note(line) if line.startswith("warning: ") else say(line)
