"""`tunectl worker`: train trials that a run offers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunectl.cli.console import note, say
from tunectl.cli.shared_options import NoWait, Quiet, Slots

if TYPE_CHECKING:
    from tunectl.execution.worker_options import WorkerReport


def worker(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="The study folder, as this host sees it (runs/<study>).", show_default=False
        ),
    ],
    slots: Slots = None,
    idle_seconds: Annotated[
        float | None,
        typer.Option(
            "--idle-seconds",
            metavar="S",
            min=0.0,
            help="End when no trial was offered for S seconds.  [default: wait as long as the run is at work, "
            "and a minute for one to begin]",
            show_default=False,
        ),
    ] = None,
    stop_after_seconds: Annotated[
        float | None,
        typer.Option(
            "--stop-after-seconds",
            metavar="S",
            min=0.0,
            help="End within S seconds: trials save before, and go on elsewhere. At least 10 more than grace_seconds.  "
            "[default: a Slurm job's time limit]",
            show_default=False,
        ),
    ] = None,
    no_wait: NoWait = False,
    quiet: Quiet = False,
) -> int:
    """Train the trials that a run offers to workers.

    Start the run first: `tunectl run --backend external` makes the folder, and offers its trials there. Any number of
    workers, on any hosts that see the folder, train them until none is left. Ctrl-C, SIGTERM and SIGUSR2 let the
    trials save: another worker goes on with them.
    """
    from tunectl.commands.worker import WorkerRequest, run_worker

    request = WorkerRequest(folder, slots, idle_seconds, stop_after_seconds, waits=not no_wait)
    report = run_worker(request, _nothing if quiet else note)
    say(_summary(report))
    return report.exit_code


def _nothing(_line: str) -> None:
    pass


def _summary(report: WorkerReport) -> str:
    from tunectl.execution.worker_engine import TIME_IS_SHORT

    counts = [f"{report.ended} ended here"]
    counts += [f"{report.released} released"] if report.released else []
    counts += [f"{report.stopped} stopped as the run has asked"] if report.stopped else []
    counts += [f"{report.crashed} crashed"] if report.crashed else []
    counts += [f"{report.lost} taken over by others"] if report.lost else []
    why = report.why
    if why.startswith(TIME_IS_SHORT) and counts == ["0 ended here"]:
        why += " before it could train a trial, as it first loads the workload"
    return f"the worker has ended: {why}; trials: {', '.join(counts)}"
