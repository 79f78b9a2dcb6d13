"""`tunectl check`: check a study file and the design of the study."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunectl.cli.console import note, say, say_json
from tunectl.cli.shared_options import AsJson, Study
from tunectl.core.wording import percentage, short_number

if TYPE_CHECKING:
    from tunectl.language.curvature_cost import CurvatureCost
    from tunectl.session.checked_study import CheckedStudy


_MANY_TIMES = 10


def check(
    study: Study,
    probe: Annotated[bool, typer.Option("--probe", help="Also build the workload and run one batch.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check a study file and its design without training."""
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
        note(f"{checked.reference.text}: its arguments are checked by run or check --probe: {checked.unseen}")
    say(
        f"{checked.spec.label}: {checked.spec.name} is a study that can be run"
        + (_count(len(checked.warnings), "warning", ", with "))
    )
    say(cost(checked))
    if checked.curvature_cost is not None:
        say(_curvature(checked.curvature_cost))
    for expected in checked.initialisation_costs:
        say(
            f"initialisation: {_count(expected.steps, 'iteration')} of {expected.method} before step 0,\n"
            f"  expected to take {_time(expected.share)}"
        )


def cost(checked: CheckedStudy) -> str:
    """The cost of the study, in one line."""
    budget, training = checked.budget, checked.spec.training
    even = budget.trials % budget.settings == 0
    each = _count(budget.trials // budget.settings, "trial") if even else "some trials"
    steps = (
        _count(budget.steps // budget.trials, "step")
        if budget.steps % budget.trials == 0
        else f"at least {training.max_train_steps:,} steps"
    )
    product = f"{_count(budget.settings, 'setting')} × {each} × {steps}"
    return f"cost: {product} = {_count(budget.trials, 'trial')}, {_count(budget.steps, 'step')} in all"


def _curvature(found: CurvatureCost) -> str:
    return (
        f"curvature: {_count(found.measurements, 'measurement')} in a trial, expected to take {_time(found.share)}\n"
        "  (where time is proportional to the number of examples; less where models are small)"
    )


def _time(share: tuple[float, float]) -> str:
    """The least and the most share of the time of training, in words."""
    in_times = share[1] >= _MANY_TIMES
    least, most = (short_number(part, 2) if in_times else percentage(part) for part in share)
    return f"{'' if least == most else f'{least} to '}{most} {'times' if in_times else 'of'} the time of its training"


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
        "curvature": asdict(checked.curvature_cost) if checked.curvature_cost else None,
        "initialisation": [asdict(each) for each in checked.initialisation_costs],
    }
