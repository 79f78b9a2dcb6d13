"""`tunectl clean`: free the disk of what a study does not need any more."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tunectl.cli.console import note, say, say_json, say_table
from tunectl.cli.shared_options import AsJson, StudyFolderPath

if TYPE_CHECKING:
    from tunectl.commands.clean import CleaningResult


def clean(
    folder: StudyFolderPath,
    keep: Annotated[int, typer.Option("--keep", metavar="N", min=1, help="Best checkpoints that stay of a trial.")] = 1,
    best: Annotated[
        int | None,
        typer.Option(
            "--best",
            metavar="N",
            min=1,
            help="Keep checkpoints of only the N best trials of each setting.",
            show_default=False,
        ),
    ] = None,
    earlier: Annotated[bool, typer.Option("--earlier", help="Also remove earlier states of the study.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a study does not need on the disk, and remove it.

    It asks first; without a terminal nothing is removed without --yes. Best checkpoints, measurements and logs stay.
    """
    from tunectl.commands.clean import clean_folder, plan_cleaning
    from tunectl.session.removable_files import CleaningRequest

    request = CleaningRequest(keep, best, earlier)
    found = plan_cleaning(folder, request, note)
    if not as_json:
        _print(found)
    if found.cleaning.items and (yes or (not as_json and _agrees())):
        found = clean_folder(folder, request, lambda _line: None)
    if as_json:
        say_json(found.to_json())
    elif found.is_done:
        say(f"removed {_size(found.cleaning.size)}; `tunectl report` writes the tables again")
    elif found.cleaning.items:
        say("nothing was removed; --yes removes it")


def _print(found: CleaningResult) -> None:
    if found.cleaning.items:
        say_table(("may go", "files", "size"), [(what, number, _size(size)) for what, number, size in found.table])
        say(f"this frees {_size(found.cleaning.size)}; the best checkpoints stay")
    else:
        say(f"{found.folder}: there is nothing to remove")
    for line in found.cleaning.notes:
        note(line)


def _agrees() -> bool:
    """Whether the user agrees; only a person at a terminal is asked."""
    if not (sys.stdin is not None and sys.stdin.isatty()):
        return False
    return typer.confirm("remove it?", err=True)


def _size(size: int) -> str:
    from tunectl.session.disk_room import in_words

    return in_words(size)
