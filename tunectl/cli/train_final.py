"""`tunectl train-final`: train the configuration that was chosen on all data but `test`."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunectl.cli.console import note, say, say_json, wrapped
from tunectl.cli.progress_display import watcher
from tunectl.cli.shared_options import AsJson, BackendName, NoWait, Quiet, RetryFailed
from tunectl.cli.shell_completion import complete_place
from tunectl.cli.sweeps import say_report
from tunectl.core.errors import EXIT_DONE
from tunectl.core.folders import StudyFolder

if TYPE_CHECKING:
    from collections.abc import Collection

    from tunectl.commands.final_program import FinalProgram
    from tunectl.commands.train_final import FinalResult


def train_final(
    place: Annotated[
        Path,
        typer.Argument(
            metavar="DIR[/TRIAL]",
            help="A study folder; without a trial its best one.",
            show_default=False,
            autocompletion=complete_place,
        ),
    ],
    *,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            "--dir",
            metavar="DIR",
            help="The folder of the model.  [default: runs/<study>.final]",
            show_default=False,
        ),
    ] = None,
    same_epochs: Annotated[
        bool,
        typer.Option("--same-epochs", help="Train as many epochs as the study did, not as many updates."),
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Evaluate test once more; this is counted.")] = False,
    study: Annotated[
        Path | None,
        typer.Option("--study", metavar="FILE", help="The study file, if it was moved.", show_default=False),
    ] = None,
    retry_failed: RetryFailed = False,
    no_wait: NoWait = False,
    backend_name: BackendName = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Train a configuration on train and validation data.

    Evaluates test once, and writes a folder with the model, its configuration, a loader and a model card.
    """
    from tunectl.session.backend_start import started_backend
    from tunectl.store.study_folder import study_and_trial

    folder, trial = study_and_trial(place)
    with started_backend(study or StudyFolder(folder).study, backend_name) as backend:
        # The rest is imported while the backend loads.
        from tunectl.commands.train_final import FinalOptions, FinalResult
        from tunectl.commands.train_final import train_final as train
        from tunectl.session.training_trials import RunOptions

        now = datetime.now(UTC).astimezone().isoformat(timespec="seconds")
        asked = FinalOptions(folder, trial, now, os.urandom(8).hex(), same_epochs, again, study)
        options = RunOptions(
            folder=to,
            slots=1,
            retry_failed=retry_failed,
            waits=not no_wait,
            command=tuple(sys.argv),
            backend=backend_name,
        )
        with watcher(quiet=quiet) as watching:
            report = train(asked, options, watching, backend)
    if not isinstance(report, FinalResult):
        _say_program(report, as_json=as_json)
        return EXIT_DONE
    return _say(report, watching.failed, as_json=as_json)


def _say_program(report: FinalProgram, *, as_json: bool) -> None:
    if as_json:
        say_json(report.to_json())
        return
    note(wrapped(report.explanation, sys.stderr, indent=""))
    for line in report.lines:
        say(line)


def _say(report: FinalResult, printed: Collection[int], *, as_json: bool) -> int:
    if as_json:
        say_json(report.to_json())
        return report.exit_code
    if report.infeasible:
        note(f"train-final: there is no model, since the training is infeasible: {report.infeasible}")
        return report.exit_code
    return say_report(report.procedure, printed, as_json=False)
