"""`tunectl report`: the findings, the report page and the plots of a study."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from tunectl.cli.console import note, say, say_json, say_table
from tunectl.cli.printed_answer import say_answer
from tunectl.cli.printed_findings import say_findings
from tunectl.cli.printed_settings import say_settings
from tunectl.cli.shared_options import AsJson, Stage
from tunectl.core.errors import UsageError

if TYPE_CHECKING:
    from tunectl.session.study_evidence import ObjectiveChoice
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
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER", help="The study folder (runs/<study>), or several.", show_default=False),
    ],
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
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", metavar="FILE", help="With several folders: the page.  [default: studies.html beside them]"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a study's findings, report page and plots.

    Of several studies it writes one page. Nothing is trained.
    """
    question = _Question(objective, direction, checkpoint, steps_to)
    if len(folders) > 1:
        _report_several(folders, question, stage, to, as_json=as_json)
        return
    if to is not None:
        raise UsageError("--to names the page of several studies; give two or more folders")
    from tunectl.report.renderer import renderers

    with renderers() as ready:
        # The rest is imported, and the study read, while the processes that draw start.
        from tunectl.commands.report import report_study

        found = report_study(folders[0], question.choice(), stage=stage, ready=ready, say=note)
    for warning in found.warnings:
        note(f"warning: {warning}")
    if as_json:
        say_json(found.to_json())
    else:
        _print(found)


@dataclass(frozen=True, slots=True)
class _Question:
    """The options that say by what trials are judged."""

    objective: str | None
    direction: Direction | None
    checkpoint: Checkpoint | None
    steps_to: float | None

    def choice(self) -> ObjectiveChoice:
        from tunectl.session.study_evidence import ObjectiveChoice

        return ObjectiveChoice(
            self.objective,
            cast("Literal['minimize', 'maximize'] | None", self.direction),
            cast("Literal['best', 'final'] | None", self.checkpoint),
            self.steps_to,
        )


def _report_several(
    folders: list[Path], question: _Question, stage: int | None, to: Path | None, *, as_json: bool
) -> None:
    from tunectl.commands.studies_report import report_studies
    from tunectl.report.table import short

    if stage is not None:
        raise UsageError("--stage: expected one folder with it; of several, the last complete stage of each is shown")
    found = report_studies(folders, question.choice(), to=to, say=note)
    if as_json:
        say_json(found.to_json())
        return
    say_table(found.header[:-1], [[short(cell) for cell in row[:-1]] for row in found.rows])
    say()
    say(str(found.page))


def _at(stage: str) -> str:
    return f", {stage}" if stage else ""


def _print(found: StudyReport) -> None:
    title = f"{found.spec.name}: settings by {found.spec.ranking(found.objective)}{_at(found.judged)}"
    say_settings(found.header, found.rows, title)
    say()
    header, rows = found.sensitivity
    if rows:
        say_table(header, rows, title="sensitivity: the part of the differences between trials that each explains")
        say()
    say_findings(found.findings)
    say_answer(found.answer, found.spec.goal, found.page.parent)
    say(str(found.page))
