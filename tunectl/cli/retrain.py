"""`tunectl retrain`: how much of the best result was luck?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunectl.cli.console import note, say, say_json, say_paths, say_table
from tunectl.cli.progress_display import watcher
from tunectl.core.errors import EXIT_INTERRUPTED
from tunectl.core.folders import StudyFolder

if TYPE_CHECKING:
    from tunectl.commands.retrain import RetrainResult


def retrain(
    folder: Annotated[Path, typer.Argument(help="The study folder (runs/<study>).", show_default=False)],
    best: Annotated[int, typer.Option("--best", min=1, help="So many of the best trials.")] = 1,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="How often each is trained again.")] = 3,
    each_setting: Annotated[bool, typer.Option("--each-setting", help="The best of each setting.")] = False,
    study: Annotated[
        Path | None, typer.Option("--study", help="The study file, if it was moved.", show_default=False)
    ] = None,
    slots: Annotated[int | None, typer.Option("--slots", min=1, help="Trials at a time.", show_default=False)] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run the retrains that failed again, too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no progress.")] = False,
) -> int:
    """Train the best trials of a study again with fresh seeds."""
    from tunectl.session.backend_start import started_backend

    with started_backend(study or StudyFolder(folder).study) as backend:
        # The rest is imported while the backend loads.
        from tunectl.commands.retrain import RetrainRequest, retrain_study
        from tunectl.session.training_trials import RunOptions

        request = RetrainRequest(best, repeats, each_setting)
        options = RunOptions(slots=slots, retry_failed=retry_failed, command=tuple(sys.argv))
        with watcher(quiet=quiet) as watching:
            report = retrain_study(folder, request, study, options, watching, backend)
    if as_json:
        say_json(report.to_json())
    else:
        _print(report)
    return report.exit_code


def _print(report: RetrainResult) -> None:
    from tunectl.analysis.results.seed_variation import NO_VARIATION, PASS_THE_SEED
    from tunectl.report.answer_tables import retrains_table

    table = retrains_table(report.retrained)
    say_table(
        table.header,
        table.rows,
        title=f"{report.study}: {report.objective.metric} of trials trained again, fresh seeds",
    )
    for item in report.retrained:
        if item.identical:
            say(f"trial {item.searched.plan.trial}: {NO_VARIATION}")
    if any(item.identical for item in report.retrained):
        say(PASS_THE_SEED)
    if report.exit_code == EXIT_INTERRUPTED:
        note("interrupted; the same command goes on from here")
    else:
        say()
        say_paths(report.paths)
