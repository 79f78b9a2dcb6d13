"""`tunectl report`: the findings, the report page and the plots of a study."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from tunectl.cli.console import note, say, say_json, say_table
from tunectl.cli.printed_answer import say_answer
from tunectl.cli.printed_findings import say_findings
from tunectl.cli.shared_options import AsJson, Stage, StudyFolderPath

if TYPE_CHECKING:
    from tunectl.session.written_report import StudyReport


class Direction(StrEnum):
    """Which of two values is better."""

    minimize = "minimize"
    maximize = "maximize"


class Checkpoint(StrEnum):
    """The evaluation that gives the value of a trial."""

    best = "best"
    final = "final"


def report(
    folder: StudyFolderPath,
    objective: Annotated[
        str | None,
        typer.Option("--objective", metavar="METRIC", help="Judge by another metric.", show_default=False),
    ] = None,
    direction: Annotated[
        Direction | None,
        typer.Option(
            "--direction",
            metavar="DIRECTION",
            help="Which values are better: minimize or maximize.",
            show_default=False,
        ),
    ] = None,
    checkpoint: Annotated[
        Checkpoint | None,
        typer.Option(
            "--checkpoint",
            metavar="WHICH",
            help="The evaluation that gives a trial's value: best or final.",
            show_default=False,
        ),
    ] = None,
    steps_to: Annotated[
        float | None,
        typer.Option(
            "--steps-to",
            metavar="VALUE",
            help="Judge by the steps until the metric first reaches this value.",
            show_default=False,
        ),
    ] = None,
    stage: Stage = None,
    as_json: AsJson = False,
) -> None:
    """Write a study's findings, report page and plots.

    Nothing is trained.
    """
    from tunectl.report.renderer import renderers

    with renderers() as ready:
        # The rest is imported, and the study read, while the processes that draw start.
        from tunectl.commands.report import report_study
        from tunectl.session.study_evidence import ObjectiveChoice

        question = ObjectiveChoice(
            objective,
            cast("Literal['minimize', 'maximize'] | None", direction),
            cast("Literal['best', 'final'] | None", checkpoint),
            steps_to,
        )
        found = report_study(folder, question, stage=stage, ready=ready, say=note)
    for warning in found.warnings:
        note(f"warning: {warning}")
    if as_json:
        say_json(found.to_json())
    else:
        _print(found)


def _at(stage: str) -> str:
    return f", {stage}" if stage else ""


def _print(found: StudyReport) -> None:
    title = f"{found.spec.name}: settings by {found.spec.ranking(found.objective)}{_at(found.judged)}"
    say_table(found.header, found.rows, title=title)
    say()
    header, rows = found.sensitivity
    if rows:
        say_table(header, rows, title="sensitivity: the part of the differences between trials that each explains")
        say()
    say_findings(found.findings)
    say_answer(found.answer, found.spec.goal)
    say(str(found.page))
