"""`tunectl retrain`: train the best trials again, to see how much of their results was luck."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunectl.cli.console import note, say, say_json, say_paths, say_table
from tunectl.cli.progress_display import watcher
from tunectl.cli.shared_options import AsJson, BackendName, NoWait, Quiet, RetryFailed, Slots, Stage
from tunectl.core.errors import EXIT_INTERRUPTED, UsageError
from tunectl.core.folders import StudyFolder

if TYPE_CHECKING:
    from tunectl.commands.retrain import RetrainResult


def retrain(
    place: Annotated[
        Path,
        typer.Argument(metavar="DIR[/TRIAL]", help="A study folder; without a trial its best one.", show_default=False),
    ],
    best: Annotated[
        int | None,
        typer.Option(
            "--best", metavar="N", min=1, help="The number of best trials to retrain.  [default: 1]", show_default=False
        ),
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", metavar="N", min=1, help="The number of retrains of each.")] = 3,
    each_setting: Annotated[
        bool, typer.Option("--each-setting", help="Retrain the best trials of each setting.")
    ] = False,
    stage: Stage = None,
    study: Annotated[
        Path | None,
        typer.Option("--study", metavar="FILE", help="The study file, if it was moved.", show_default=False),
    ] = None,
    slots: Slots = None,
    retry_failed: RetryFailed = False,
    no_wait: NoWait = False,
    backend_name: BackendName = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Train the best trials of a study again, or a named one."""
    from tunectl.session.backend_start import started_backend
    from tunectl.store.study_folder import study_and_trial

    folder, trial = study_and_trial(place)
    if trial is not None and (best is not None or each_setting or stage is not None):
        raise UsageError(f"{place}: names a trial, so leave --best, --each-setting and --stage out")
    with started_backend(study or StudyFolder(folder).study, backend_name) as backend:
        # The rest is imported while the backend loads.
        from tunectl.commands.retrain import RetrainRequest, retrain_study
        from tunectl.session.training_trials import RunOptions

        request = RetrainRequest(best or 1, repeats, each_setting, stage, trial)
        options = RunOptions(
            slots=slots,
            retry_failed=retry_failed,
            waits=not no_wait,
            command=tuple(sys.argv),
            backend=backend_name,
        )
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
    of_stage = f" of {report.stage}" if report.stage else ""
    say_table(
        table.header,
        table.rows,
        title=f"{report.study}: {report.objective.title} of trials{of_stage} retrained with new seeds",
    )
    for item in report.retrained:
        if item.identical:
            say(f"trial {item.searched.plan.trial}: {NO_VARIATION}")
        if item.not_reached:
            say(
                f"trial {item.searched.plan.trial}: {item.not_reached} of its retrains never reached "
                f"{report.objective.target}; a mean of the others would be too small"
            )
    if any(item.identical for item in report.retrained):
        say(PASS_THE_SEED)
    if report.exit_code == EXIT_INTERRUPTED:
        note("interrupted; run the same command to resume")
    else:
        say()
        say_paths(report.paths)
