"""What the commands of the procedures share: their options, running one, and printing what it found."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunectl.cli.console import note, say, say_json, say_paths, say_table
from tunectl.cli.failed_trials import note_failures
from tunectl.cli.progress_display import watcher

if TYPE_CHECKING:
    from tunectl.commands.sweep import ProcedureResult
    from tunectl.procedures.procedure import ProcedureOptions

Study = Annotated[Path, typer.Argument(help="The study's YAML file.", show_default=False)]
Before = Annotated[
    Path | None, typer.Option("--from", help="The folder of the sweep to go on from.", show_default=False)
]
ValuesFrom = Annotated[
    Path | None,
    typer.Option("--values-from", help="A finished trial whose values hold: DIR/TRIAL.", show_default=False),
]
At = Annotated[
    list[str] | None,
    typer.Option("--at", metavar="NAME=VALUE", help="A value of what varies in the study.", show_default=False),
]
Folder = Annotated[
    Path | None, typer.Option("--dir", help="The folder [runs/<study>.<procedure>].", show_default=False)
]
Slots = Annotated[int | None, typer.Option("--slots", min=1, help="Trials at a time.", show_default=False)]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Run the trials that failed again, too.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print no progress.")]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command asks for: the options of its procedure, and the folder that it goes on from."""

    options: ProcedureOptions
    before: Path | None = None


def _shared(
    *,
    values_from: ValuesFrom = None,
    at: At = None,
    folder: Folder = None,
    slots: Slots = None,
    retry_failed: RetryFailed = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Only its signature is used: the options that every procedure's command has, behind its own."""


def command(ask: Callable[..., Asked]) -> Callable[..., int]:
    """The command with the options that `ask` takes by keyword, and the shared ones; it runs what `ask` gives."""
    own, shared = (inspect.signature(function, eval_str=True).parameters for function in (ask, _shared))
    study = inspect.Parameter("study", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Study)

    def called(study: Path, **words: Any) -> int:
        asked = ask(**{name: words[name] for name in own})
        return _run(asked, study, **{name: words[name] for name in shared})

    parameters = [study, *own.values(), *shared.values()]
    called.__signature__ = inspect.Signature(parameters, return_annotation=int)  # type: ignore[attr-defined]
    called.__annotations__ = {item.name: item.annotation for item in parameters}
    called.__doc__ = ask.__doc__
    return called


def _run(
    asked: Asked,
    study: Path,
    *,
    values_from: Path | None,
    at: list[str] | None,
    folder: Path | None,
    slots: int | None,
    retry_failed: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    from tunectl.session.backend_start import started_backend

    with started_backend(study) as backend:
        # The rest is imported while the backend loads.
        from tunectl.commands.sweep import run_procedure
        from tunectl.session.base_configuration import values_at, values_of_trial
        from tunectl.session.procedure_request import ProcedureRequest
        from tunectl.session.training_trials import RunOptions

        given = {**(values_of_trial(values_from, note) if values_from is not None else {}), **values_at(at or [])}
        request = ProcedureRequest(asked.options, given, asked.before)
        where = RunOptions(folder=folder, slots=slots, retry_failed=retry_failed, command=tuple(sys.argv))
        with watcher(quiet=quiet) as watching:
            report = run_procedure(study, request, where, watching, backend)
    if as_json:
        say_json(report.to_json())
    else:
        _print(report, watching.failed)
    return report.exit_code


def _print(report: ProcedureResult, said: Collection[int]) -> None:
    note_failures(report.failed, report.folder, said)
    conclusion = report.conclusion
    if conclusion is None:
        left = sum(item.state not in ("completed", "infeasible") for item in report.outcomes)
        why = "interrupted" if report.interrupted else "not concluded"
        again = "the same command goes on from here" if report.interrupted else "run again with --retry-failed"
        note(f"{report.procedure}: {why} with {left} trials left; {again}")
        return
    if conclusion.rows:
        say_table(conclusion.header, conclusion.rows)
        say()
    say(conclusion.verdict)
    if conclusion.advice:
        say()
        say(conclusion.advice)
    say()
    say_paths(report.paths)
