"""`tunectl init`: write a first study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunectl.cli.console import note, say
from tunectl.core.proposed_commands import tunectl_command


def init(
    folder: Annotated[
        Path | None, typer.Argument(help="The folder to write to.  [default: current folder]", show_default=False)
    ] = None,
    line: Annotated[
        str | None,
        typer.Option("--from", metavar="COMMAND", help="Your command, such as 'python train.py --lr 0.1'."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="With --from: the file.  [default: study.yaml]", show_default=False),
    ] = None,
    metric: Annotated[str | None, typer.Option("--metric", help="With --from: the metric to optimize.")] = None,
    direction: Annotated[str | None, typer.Option("--direction", help="With --from: minimize or maximize.")] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", help="With --from: the number of steps of a trial.", min=1)
    ] = None,
    sample: Annotated[
        Path | None,
        typer.Option("--sample", help="With --from: a file with output of the command, to find its metrics."),
    ] = None,
    place: Annotated[
        list[str] | None,
        typer.Option(
            "--place",
            metavar="NAME",
            help="With --from: another option of the command to make a hyperparameter; can be repeated.",
        ),
    ] = None,
) -> None:
    """Write a first study: an example, or one for your own command."""
    from tunectl.core.errors import UsageError
    from tunectl.drafting.study_draft import StudiedCommand, draft_study

    if out is not None and folder is not None:
        raise UsageError("give the folder or --out, not both")
    path = out or (folder or Path()) / "study.yaml"
    command = None
    if line is not None:
        command = StudiedCommand(line, Path.cwd(), metric, direction, steps, sample, place or ())
    elif any(value is not None for value in (out, metric, direction, steps, sample, place)):
        raise UsageError("--out, --metric, --direction, --steps, --sample and --place need --from")
    drafted = draft_study(path, command, note)
    for text in drafted.notes:
        note(text)
    for file in drafted.files:
        say(str(file))
    for number, text in drafted.to_fill_in:
        say(f"  line {number}: {text}")
    first = "fill in the lines above; then run" if drafted.to_fill_in else "next, run"
    study = drafted.files[0]
    say(f"{first}:")
    say(f"  {tunectl_command('check', study)}")
    say(f"  {tunectl_command('run', study)}")
