"""`tunectl logs`: the output of a trial."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tunectl.cli.console import note, say_piece
from tunectl.cli.shared_options import StudyFolderPath, TrialNumber
from tunectl.core.safe_text import LogText


def logs(
    folder: StudyFolderPath,
    trial: TrialNumber,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print new output until the trial ends.")] = False,
    lines: Annotated[
        int | None, typer.Option("--lines", metavar="N", min=0, help="Print only the last N lines.", show_default=False)
    ] = None,
) -> None:
    """Print the output of a trial, also while it runs."""
    from tunectl.commands.logs import trial_end, trial_log

    # A reader that is gone ends this command, which has nothing else to do.
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
        note(f"trial {trial} has no output")
