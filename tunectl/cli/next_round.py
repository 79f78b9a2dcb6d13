"""`tunectl next`: the study file of the next round."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunectl.cli.console import note, say, say_json

if TYPE_CHECKING:
    from tunectl.commands.next_round import NextRound


def next_round(
    folder: Annotated[Path, typer.Argument(help="The study folder (runs/<study>).", show_default=False)],
    to: Annotated[
        Path | None, typer.Option("--to", help="The file to write [<study>-round2.yaml].", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write the study of the next round, as the findings recommend it."""
    from tunectl.commands.next_round import next_round

    found = next_round(folder, to, note)
    if as_json:
        say_json(found.to_json())
    else:
        _print(found)


def _print(found: NextRound) -> None:
    from tunectl.core.errors import dotted
    from tunectl.language.study_edit import in_flow

    for item in found.changes:
        say(f"{dotted(item.change.path)}: {in_flow(item.change.value)}")
        say(f"  {item.change.reason} ({', '.join(item.findings)})")
    for conflict in found.conflicts:
        note(str(conflict))
    for line in found.by_hand:
        note(line)
    if found.path is None:
        note(f"{found.study}: the findings recommend no change of the study file")
    else:
        say(f"{found.path}")
