"""`tunectl run`: train the trials of a study."""

from __future__ import annotations

import sys
from collections.abc import Collection
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunectl.cli.console import note, say, say_json, say_json_line, say_paths
from tunectl.cli.failed_trials import listed, note_failures
from tunectl.cli.printed_answer import say_answer
from tunectl.cli.printed_findings import say_findings
from tunectl.cli.printed_settings import say_settings
from tunectl.cli.progress_display import can_ask, watcher
from tunectl.cli.shared_options import AsJson, BackendName, NoWait, Quiet, RetryFailed, Slots, Study
from tunectl.core.errors import EXIT_INTERRUPTED, UsageError
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.records import HAS_RESULT, is_stopped_for_good
from tunectl.core.retry_advice import retry_advice
from tunectl.core.wording import percentage

if TYPE_CHECKING:
    from tunectl.commands.run import RunResult


class Order(StrEnum):
    """The order in which trials start; it changes no result."""

    plan = "plan"
    reversed = "reversed"


def run(
    study: Study,
    folder: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="The study folder.  [default: runs/<study>]", show_default=False),
    ] = None,
    slots: Slots = None,
    order: Annotated[
        Order, typer.Option("--order", metavar="ORDER", help="The order in which trials start: plan or reversed.")
    ] = Order.plan,
    retry_failed: RetryFailed = False,
    no_wait: NoWait = False,
    backend_name: BackendName = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Offer the trials to workers, and end; the same command goes on.")
    ] = False,
    as_json: AsJson = False,
    events: Annotated[
        bool, typer.Option("--events", help="Print each event as a line of JSON, in place of the results.")
    ] = False,
    quiet: Quiet = False,
) -> int:
    """Train the trials of a study, or resume where a run stopped."""
    from tunectl.session.backend_start import started_backend

    if events and as_json:
        raise UsageError("--events prints many lines and --json one object: give one of them")
    with started_backend(study, backend_name, detach=detach) as backend, watcher(quiet=quiet) as watching:
        # The rest is imported while the backend loads.
        from tunectl.commands.run import run_study
        from tunectl.session.training_trials import RunOptions

        options = RunOptions(
            folder=folder,
            slots=slots,
            reverse=order is Order.reversed,
            retry_failed=retry_failed,
            waits=not no_wait,
            command=tuple(sys.argv),
            on_event=say_json_line if events else None,
            backend=backend_name,
            detach=detach,
            ask=watching.ask if can_ask() else None,
        )
        report = run_study(study, options, watching, backend)
    if as_json:
        say_json(report.to_json())
    elif not events:
        _print(report, watching.failed)
    return report.exit_code


def _print(report: RunResult, printed: Collection[int]) -> None:
    spec = report.spec
    if report.untouched:
        say(f"{spec.name}: all trials have ended already, nothing to run")
        say()
    failed = [item for item in report.outcomes if item.state == "failed"]
    note_failures(failed, report.folder, printed)
    if failed:
        note(f"failed trials: {retry_advice(item.reason for item in failed)}")
    stopped = [item.plan.trial for item in report.outcomes if is_stopped_for_good(item.state, item.reason)]
    if stopped:
        note(f"stopped by `tunectl stop`: {listed(stopped)}; --retry-failed runs them after all")
    left = f"{report.unfinished} of {len(report.outcomes) + report.to_come} trials left"
    if report.is_left and report.unfinished and not any(item.state in HAS_RESULT for item in report.outcomes):
        _note_left(report, left)  # the tables are empty
        return
    title = f"{spec.name}: settings by {spec.ranking(spec.objective)}{report.judged}"
    say_settings(report.tables.header, report.tables.rows, title)
    if report.curvature is not None:
        say()
        say(
            f"curvature: measuring took {report.curvature.seconds:,.1f} s, {percentage(report.curvature.share)} of the "
            f"{report.curvature.train_seconds:,.1f} s of training"
        )
    say()
    say_paths(report.tables.paths)
    if report.page is not None:
        say()
        say_findings(report.findings)
        if report.stopped:
            note(f"warning: {report.stopped}")
        say_answer(report.answer, spec.goal, report.page.parent)
        say(str(report.page))
    if report.is_left and report.unfinished:
        _note_left(report, left)
    elif report.exit_code == EXIT_INTERRUPTED:
        note(f"interrupted with {left}; run the same command to resume")


def _note_left(report: RunResult, left: str) -> None:
    note(f"{left} to workers (`{tunectl_command('worker', report.folder.path)}`); the same command goes on with them")
