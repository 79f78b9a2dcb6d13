"""`tunectl check`: is the study right, and is it well designed?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunectl.cli.console import note, say, say_json

if TYPE_CHECKING:
    from tunectl.session.checked_study import CheckedStudy


def check(
    study: Annotated[Path, typer.Argument(help="The study's YAML file.", show_default=False)],
    probe: Annotated[bool, typer.Option("--probe", help="Also build the workload and try one batch.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check a study and its design without training anything."""
    if probe:
        from tunectl.session.backend_start import started_backend

        with started_backend(study) as backend:
            # The rest is imported while the backend loads.
            from tunectl.session.probed_study import probe_study

            checked = probe_study(study, Path.cwd(), backend)
    else:
        from tunectl.session.checked_study import check_study

        checked = check_study(study, Path.cwd())
    if as_json:
        say_json(_report(checked, probe))
        return
    for warning in checked.warnings:
        note(f"warning: {warning}")
    if checked.unseen and not probe:
        note(f"{checked.reference.text}: keywords are checked at run: {checked.unseen}")
    say(
        f"{checked.spec.label}: {checked.spec.name} is a study that can be run"
        + (_count(len(checked.warnings), "warning", ", with "))
    )
    say(cost(checked))


def cost(checked: CheckedStudy) -> str:
    """What the study costs, in one line."""
    budget, training = checked.budget, checked.spec.training
    even = budget.trials % budget.settings == 0
    each = _count(budget.trials // budget.settings, "trial") if even else "some trials"
    steps = (
        _count(budget.steps // budget.trials, "step")
        if budget.steps % budget.trials == 0
        else f"{training.max_train_steps:,} and more steps"
    )
    product = f"{_count(budget.settings, 'setting')} × {each} × {steps}"
    return f"cost: {product} = {_count(budget.trials, 'trial')}, {_count(budget.steps, 'step')} in all"


def _count(number: int, noun: str, before: str = "") -> str:
    if number == 0 and before:
        return ""
    return f"{before}{number:,} {noun}{'' if number == 1 else 's'}"


def _report(checked: CheckedStudy, probed: bool) -> dict[str, object]:
    warnings = [
        {"line": item.line, "column": item.column, "path": item.path, "message": item.message}
        for item in checked.warnings
    ]
    return {
        "study": checked.spec.name,
        "warnings": warnings,
        "checked_at_run": None if probed or not checked.unseen else checked.unseen,
        "settings": checked.budget.settings,
        "trials": checked.budget.trials,
        "steps": checked.budget.steps,
    }
