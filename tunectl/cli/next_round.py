"""`tunectl next`: the study file for the next round."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunectl.cli.console import note, say, say_json
from tunectl.cli.shared_options import AsJson, StudyFolderPath

if TYPE_CHECKING:
    from tunectl.commands.next_round import NextRound


def next_round(
    folder: StudyFolderPath,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", metavar="FILE", help="The file to write.  [default: <study>-round2.yaml]", show_default=False
        ),
    ] = None,
    is_dry: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing; print the changes and the file's text.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write the study file of the next round, from the findings."""
    from tunectl.commands.next_round import next_round

    found = next_round(folder, to, note, is_dry=is_dry)
    if as_json:
        say_json(found.to_json())
    else:
        _print(found, is_dry=is_dry)


def _print(found: NextRound, *, is_dry: bool) -> None:
    from tunectl.core.errors import dotted
    from tunectl.language.study_edit import in_flow

    if found.judged:
        say(f"{found.study}: by the findings on {found.judged}")
    for item in found.changes:
        say(f"{dotted(item.change.path)}: {in_flow(item.change.value)}")
        by = f" ({', '.join(item.findings)})" if item.findings else ""
        say(f"  {item.change.reason}{by}")
    for conflict in found.conflicts:
        note(str(conflict))
    for line in found.by_hand:
        note(line)
    if found.path is None:
        note(f"{found.study}: the findings recommend no changes to the study file")
    elif is_dry:
        say()
        say(found.text.rstrip("\n"))
        note(f"{found.path}: not written (--dry-run)")
    else:
        say(f"{found.path}")
