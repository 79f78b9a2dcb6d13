"""`tunectl run`: train the trials of a study, or go on where it was left."""

from __future__ import annotations

import sys
from collections.abc import Collection
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunectl.cli.console import note, say, say_json, say_paths, say_table
from tunectl.cli.failed_trials import note_failures
from tunectl.cli.printed_findings import say_findings
from tunectl.cli.progress_display import watcher
from tunectl.core.errors import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from tunectl.commands.run import RunResult


class Order(StrEnum):
    """In which order trials are launched; it changes no result."""

    plan = "plan"
    reversed = "reversed"


def run(
    study: Annotated[Path, typer.Argument(help="The study's YAML file.", show_default=False)],
    folder: Annotated[
        Path | None, typer.Option("--dir", help="The study folder [runs/<study>].", show_default=False)
    ] = None,
    slots: Annotated[int | None, typer.Option("--slots", min=1, help="Trials at a time.", show_default=False)] = None,
    order: Annotated[Order, typer.Option("--order", help="In which order trials start.")] = Order.plan,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run the trials that failed again, too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no progress.")] = False,
) -> int:
    """Train the trials of a study, or go on where an earlier run stopped."""
    from tunectl.session.backend_start import started_backend

    with started_backend(study) as backend:
        # The rest is imported while the backend loads.
        from tunectl.commands.run import run_study
        from tunectl.session.training_trials import RunOptions

        options = RunOptions(
            folder=folder,
            slots=slots,
            reverse=order is Order.reversed,
            retry_failed=retry_failed,
            command=tuple(sys.argv),
        )
        with watcher(quiet=quiet) as watching:
            report = run_study(study, options, watching, backend)
    if as_json:
        say_json(report.to_json())
    else:
        _print(report, watching.failed)
    return report.exit_code


def _print(report: RunResult, said: Collection[int]) -> None:
    spec = report.spec
    if report.untouched:
        say(f"{spec.name}: the study is complete, nothing was left to run")
        say()
    failed = [item for item in report.outcomes if item.state == "failed"]
    note_failures(failed, report.folder, said)
    if failed:
        note("--retry-failed runs failed trials again, from where they were saved if they were")
    title = f"{spec.name}: settings by {spec.objective.metric}, {spec.objective.direction}"
    say_table(report.tables.header, report.tables.rows, title=title)
    say()
    say_paths(report.tables.paths)
    if report.page is not None:
        say()
        say_findings(report.findings)
        say(str(report.page))
    if report.exit_code == EXIT_INTERRUPTED:
        left = f"{report.unfinished} of {len(report.outcomes)} trials left"
        note(f"interrupted with {left}; the same command goes on from here")
