"""`tunectl logs`: what did a trial write?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tunectl.cli.console import note, say_piece
from tunectl.core.safe_text import LogText


def logs(
    folder: Annotated[Path, typer.Argument(help="The study folder (runs/<study>).", show_default=False)],
    trial: Annotated[int, typer.Argument(help="The trial's number.", min=0, show_default=False)],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the trial has ended.")] = False,
    lines: Annotated[
        int | None, typer.Option("--lines", help="Only the last so many lines.", min=0, show_default=False)
    ] = None,
) -> None:
    """Print what a trial wrote to stdout and stderr, also while it runs."""
    from tunectl.commands.logs import trial_end, trial_log

    # A reader that is gone ends this command: there is nothing else that it does.
    log, wrote = LogText(), ""
    for piece in trial_log(folder, trial, last_lines=lines, follow=follow):
        text = log.text(piece)
        say_piece(text)
        wrote = text or wrote
    rest = log.text(b"", final=True)
    say_piece(rest)
    wrote = rest or wrote
    if wrote and not wrote.endswith("\n") and sys.stdout.isatty():
        say_piece("\n")
    if follow:
        state, reason, message = trial_end(folder, trial)
        note(f"trial {trial}: {state}" + (f" ({reason}: {message})" if reason and message else ""))
    elif not wrote and lines != 0:
        note(f"trial {trial} wrote nothing")
