"""`tunectl init`: a study to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunectl.cli.console import note, say
from tunectl.core.proposed_commands import tunectl_command

if TYPE_CHECKING:
    from tunectl.drafting.study_draft import BegunStudy


def init(
    folder: Annotated[
        Path | None, typer.Argument(help="Where to write it [the current folder].", show_default=False)
    ] = None,
    line: Annotated[
        str | None,
        typer.Option("--from", metavar="COMMAND", help="A study of this command, such as 'python train.py --lr 0.1'."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="With --from: the file to write [study.yaml].", show_default=False)
    ] = None,
    metric: Annotated[str | None, typer.Option("--metric", help="With --from: the objective's name.")] = None,
    direction: Annotated[str | None, typer.Option("--direction", help="With --from: minimize or maximize.")] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", help="With --from: how many steps a trial trains.", min=1)
    ] = None,
    sample: Annotated[
        Path | None,
        typer.Option("--sample", help="With --from: a file with what the command prints, to find its metrics in."),
    ] = None,
    place: Annotated[
        list[str] | None,
        typer.Option(
            "--place",
            metavar="NAME",
            help="With --from: an option that COMMAND leaves out, to be a hyperparameter too; may be repeated.",
        ),
    ] = None,
) -> None:
    """Write a study to begin with: one that runs as it stands, or one of your own command."""
    from tunectl.core.errors import UsageError
    from tunectl.drafting.study_draft import begin_from, begin_study

    if line is None:
        if any(value is not None for value in (out, metric, direction, steps, sample, place)):
            raise UsageError("--out, --metric, --direction, --steps, --sample and --place go with --from")
        _print(begin_study(folder or Path()))
        return
    if out is not None and folder is not None:
        raise UsageError("give the folder or --out, not both")
    path = out or (folder or Path()) / "study.yaml"
    begun = begin_from(
        line,
        path,
        Path.cwd(),
        metric=metric,
        direction=direction,
        steps=steps,
        sample=sample,
        place=place or (),
        tell=note,
    )
    _print(begun)


def _print(begun: BegunStudy) -> None:
    for text in begun.notes:
        note(text)
    for path in begun.files:
        say(str(path))
    for number, text in begun.marked:
        say(f"  line {number}: {text}")
    first = "fill in the lines above; then" if begun.marked else "next"
    file = begun.files[0]
    say(f"{first}: {tunectl_command('check', file)}, {tunectl_command('run', file)}")
