"""`tunectl status`: the progress of a study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tunectl.cli.console import note, say, say_json, say_json_line, say_table, shown, shown_retrains
from tunectl.cli.failed_trials import by_message, listed
from tunectl.cli.shared_options import AsJson, StudyFolderPath
from tunectl.core.errors import UsageError
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.wording import counted

if TYPE_CHECKING:
    from tunectl.commands.status import StudyStatus

_NEXT_RUN = {
    "nothing": "the next run trains what is left in the new environment",
    "read again": "the next run reads the output of the trials that there are again",
    "begin anew": "the next run begins the study anew and keeps what is there in the folder earlier",
    "refuse": "it is another study now, which the next run refuses",
}


def status(
    folder: StudyFolderPath,
    as_json: AsJson = False,
    events: Annotated[
        bool, typer.Option("--events", help="Print what happened in its runs, an event as a line of JSON.")
    ] = False,
    since: Annotated[
        int, typer.Option("--since", metavar="N", min=0, help="With --events: those after the event number N.")
    ] = 0,
) -> None:
    """Show the progress of a study, also while it runs."""
    from tunectl.commands.status import study_events, study_status

    if events and as_json:
        raise UsageError("--events prints many lines and --json one object: give one of them")
    if since and not events:
        raise UsageError("--since needs --events")
    if events:
        for event in study_events(folder, since):
            say_json_line(event)
        return
    report = study_status(folder, note)
    if as_json:
        say_json(report.to_json())
    else:
        _print(report)


def _print(report: StudyStatus) -> None:
    search = report.total - report.retrains
    say(
        f"{report.study}: {search} {'trial' if search == 1 else 'trials'}{shown_retrains(report.retrains)}: "
        f"{report.in_words}; {_runner(report)}"
    )
    for stage in report.stages:
        say(f"  {stage.name}: {stage.ended} of {stage.planned} trials have ended")
    if report.to_come:
        say(f"up to {report.to_come} more are proposed when these have ended")
    _say_best(report)
    _say_running(report)
    if report.correction is not None:
        say()
        say(f"{report.study_file} has changed since: {_NEXT_RUN[report.correction.what]}; these differ:")
        for line in (*report.correction.lines, *report.correction.environment):
            say(f"  {line}")
    if report.failures:
        say()
        say_table(
            ("failed", "reason", "message"),
            [(listed(trials), reason, message) for trials, reason, message in by_message(report.failures)],
        )


def _say_running(report: StudyStatus) -> None:
    where = {worker.trial: worker.where or "a worker" for worker in report.workers}
    if report.running:
        say()
        columns = ("running", "setting", "step", "of", f"last {report.objective.metric}")
        say_table(
            (*columns, *(("worker",) if where else ())),
            [
                (item.trial, item.setting, item.reached, item.steps, item.value)
                + ((where.get(item.trial, ""),) if where else ())
                for item in report.running
            ],
        )
    elif where:
        say()
        say_table(("running", "worker"), list(where.items()))
    if report.offered:
        say(f"{counted(report.offered, 'trial')} offered to workers: `{tunectl_command('worker', report.folder)}`")


def _runner(report: StudyStatus) -> str:
    if report.paused:
        return "the runner is paused, until `tunectl resume`"
    if not report.runner_alive and (report.workers or report.offered):
        return "a run has left it to workers"
    return "a runner is at work" if report.runner_alive else "no runner is at work"


def _say_best(report: StudyStatus) -> None:
    at = f", of {report.judged}" if report.judged else ""
    if report.best is not None:
        say(
            f"best so far: {shown(report.best.best_value)} {report.objective.title} (trial {report.best.plan.trial}, "
            f"step {report.best.best_step}){at}"
        )
    elif report.objective.steps_to is not None and report.counts["completed"] and not report.half_read:
        say(f"best so far: {report.objective.never_given}{at}")
    if report.half_read:
        say(
            "best so far: not known; the trials are being read again as a changed study says, and not all have been"
            + ("" if report.runner_alive else ": run it again, and it goes on from there")
        )
