"""`tunectl profile`: what the time of training goes to, and what would save some."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tunectl.cli.console import say
from tunectl.cli.progress_display import watcher
from tunectl.cli.shared_options import AsJson, BackendName, NoWait, Quiet, RetryFailed, Study
from tunectl.cli.sweeps import At, ValuesFrom, folder_option, say_report


def profile(
    study: Study,
    *,
    trial: Annotated[
        int, typer.Option("--trial", metavar="N", min=0, help="The trial of the plan whose configuration is timed.")
    ] = 0,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps", metavar="N", min=1, help="The most steps of each timing.  [default: 20000]", show_default=False
        ),
    ] = None,
    values_from: ValuesFrom = None,
    at: At = None,
    folder: Annotated[Path | None, folder_option("profile")] = None,
    retry_failed: RetryFailed = False,
    no_wait: NoWait = False,
    backend_name: BackendName = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Find what takes the time of training, and what saves some.

    Times waiting for data, copying, computing, evaluating and saving; then the trial with each change that may help.
    """
    from tunectl.session.backend_start import started_backend

    with started_backend(study, backend_name) as backend:
        # The rest is imported while the backend loads.
        from tunectl.commands.profile import planned_values
        from tunectl.commands.sweep import run_procedure
        from tunectl.procedures.profile import ProfileOptions
        from tunectl.session.base_configuration import values_at, values_of_trial
        from tunectl.session.procedure_request import ProcedureRequest
        from tunectl.session.training_trials import RunOptions

        planned = planned_values(study, trial)
        values = planned if values_from is None else values_of_trial(values_from, lambda _line: None)
        request = ProcedureRequest(ProfileOptions(steps), values_at(at or []), None, values)
        where = RunOptions(
            folder=folder,
            retry_failed=retry_failed,
            waits=not no_wait,
            command=tuple(sys.argv),
            backend=backend_name,
        )
        with watcher(quiet=quiet) as watching:
            report = run_procedure(study, request, where, watching, backend)
    code = say_report(report, watching.failed, as_json=as_json)
    trace = report.folder.trial(0).trace
    if not as_json and report.conclusion is not None and trace.exists():
        say(f"trace of some updates, to be opened in https://ui.perfetto.dev or chrome://tracing:\n  {trace}")
    return code
