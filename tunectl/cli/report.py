"""`tunectl report`: what a study says, as findings, a page and plots."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from tunectl.cli.console import note, say, say_json, say_table
from tunectl.cli.printed_findings import say_findings

if TYPE_CHECKING:
    from tunectl.session.written_report import StudyReport


class Direction(StrEnum):
    """Which of two values is better."""

    minimize = "minimize"
    maximize = "maximize"


class Checkpoint(StrEnum):
    """By which evaluation a trial counts."""

    best = "best"
    final = "final"


def report(
    folder: Annotated[Path, typer.Argument(help="The study folder (runs/<study>).", show_default=False)],
    objective: Annotated[
        str | None,
        typer.Option("--objective", metavar="METRIC", help="Another metric to judge by.", show_default=False),
    ] = None,
    direction: Annotated[
        Direction | None, typer.Option("--direction", help="Which of its values are better.", show_default=False)
    ] = None,
    checkpoint: Annotated[
        Checkpoint | None,
        typer.Option("--checkpoint", help="The evaluation by which a trial counts.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write a study's findings, its page and its plots anew; trains nothing."""
    from tunectl.report.renderer import renderers

    with renderers() as ready:
        # The rest is imported, and the study read, while the processes that draw start.
        from tunectl.commands.report import report_study
        from tunectl.session.study_evidence import ObjectiveChoice

        question = ObjectiveChoice(
            objective,
            cast("Literal['minimize', 'maximize'] | None", direction),
            cast("Literal['best', 'final'] | None", checkpoint),
        )
        found = report_study(folder, question, ready=ready, say=note)
    for warning in found.warnings:
        note(f"warning: {warning}")
    if as_json:
        say_json(found.to_json())
    else:
        _print(found)


def _print(found: StudyReport) -> None:
    title = f"{found.spec.name}: settings by {found.objective.metric}, {found.objective.direction}"
    say_table(found.header, found.rows, title=title)
    say()
    say_findings(found.findings)
    say(str(found.page))
