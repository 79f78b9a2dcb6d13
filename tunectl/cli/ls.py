"""`tunectl ls`: the studies in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunectl.cli.console import note, say, say_csv, say_json, say_table, shown_retrains
from tunectl.cli.shared_options import AsJson

if TYPE_CHECKING:
    from tunectl.commands.ls import TrackedStudy

_COMMIT_DIGITS = 8
_DATE_CHARACTERS = len("2026-01-01T12:00")


def ls(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The folder to search, with all folders in it.")
    ] = Path(),
    long: Annotated[bool, typer.Option("--long", help="Print all details, one in each line.")] = False,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the whole table as CSV.")] = False,
) -> None:
    """List the studies in a folder and their results."""
    from tunectl.commands.ls import tracked_studies, tracking_table
    from tunectl.core.errors import UsageError
    from tunectl.report.table import csv_bytes

    if sum((long, as_json, as_csv)) > 1:
        raise UsageError("--long, --json and --csv cannot be combined")
    studies = tracked_studies(folder, note)
    if as_json:
        say_json({"studies": [item.to_json() for item in studies]})
    elif as_csv:
        say_csv(csv_bytes(tracking_table(studies)))
    elif not studies:
        say(f"{folder}: no study found in this folder or in the folders in it")
    elif long:
        _print_long(studies)
    else:
        _print_short(studies)


def _print_short(studies: list[TrackedStudy]) -> None:
    header = ("folder", "run", "infeasible", "failed", "best", "metric", "date", "goal")
    say_table(
        header,
        [
            (
                item.folder,
                _run_in_words(item),
                item.infeasible,
                item.failed,
                item.best_value,
                item.judged_by if item.stage is None else f"{item.judged_by}, stage {item.stage}",
                item.date[:_DATE_CHARACTERS].replace("T", " "),
                item.goal,
            )
            for item in studies
        ],
        optional=("goal", "date"),
    )
    damaged = [item for item in studies if item.problem]
    if damaged:
        say()
    for item in damaged:
        is_named = item.problem.startswith((f"{item.folder}:", f"{item.folder}/"))
        say(item.problem if is_named else f"{item.folder}: {item.problem}")


def _run_in_words(item: TrackedStudy) -> str | None:
    """The number of trials that have ended, and of retrains."""
    if item.planned is None or item.run is None:
        return None
    retrains, retrains_run = item.retrains or 0, item.retrains_run or 0
    return f"{item.run - retrains_run} of {item.planned - retrains}{shown_retrains(retrains, retrains_run)}"


def _print_long(studies: list[TrackedStudy]) -> None:
    for item in studies:
        say(item.folder)
        if item.problem:
            say(f"  problem          {item.problem}")
        if item.planned is None:
            say()
            continue
        best = None
        if item.best_value is not None:
            best = f"{item.best_value:.6g} {item.judged_by} (trial {item.best_trial}, step {item.best_step})"
            best += "" if item.stage is None else f", of stage {item.stage}"
        changed = " with uncommitted changes" if item.uncommitted else ""
        lines = {
            "study": f"{item.study} ({item.study_kind})",
            "goal": item.goal,
            "notes": item.notes,
            "study file": item.study_file,
            "trials": f"{_run_in_words(item)} run, {item.infeasible} infeasible, {item.failed} failed",
            "best": best,
            "best checkpoint": item.best_checkpoint,
            "command": item.command,
            "commit": f"{item.commit[:_COMMIT_DIGITS]}{changed}" if item.commit else "",
            "date": item.date,
        }
        for name, value in lines.items():
            if value:
                say(f"  {name:<16} {' '.join(value.split())}")
        say()
