"""`tunectl plan`: the trials of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunectl.cli.console import note, say, say_csv, say_json, say_table
from tunectl.cli.shared_options import Study

MOST_ROWS = 200  # a longer table is hard to read and takes seconds to draw


def plan(
    study: Study,
    as_json: Annotated[bool, typer.Option("--json", help="Print all trials as one JSON object.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print all trials as CSV.")] = False,
) -> None:
    """List the trials of a study without training them."""
    from tunectl.commands.plan import plan_json, plan_summary, plan_table
    from tunectl.core.errors import UsageError
    from tunectl.core.wording import counted
    from tunectl.report.table import csv_bytes
    from tunectl.session.checked_study import check_study
    from tunectl.space.trial_plan import plan_trials

    if as_json and as_csv:
        raise UsageError("--json and --csv cannot be combined")
    checked = check_study(study, Path.cwd())
    trials = plan_trials(checked.spec)
    if checked.spec.search.sampler == "bayesian":
        note(
            f"the points of the {counted(checked.spec.search.trials or 1, 'trial')} are proposed during the run, from "
            f"the trials in {checked.spec.search.after} and from those before them"
        )
    if as_json:
        say_json(plan_json(checked, trials))
    elif as_csv:
        say_csv(csv_bytes(plan_table(checked, trials)))
    elif not trials:
        return
    elif len(trials) <= MOST_ROWS:
        table = plan_table(checked, trials)
        say_table(table.header, table.rows)
    else:
        rows = [(item.name, item.role, item.active, item.values) for item in plan_summary(checked, trials)]
        say_table(("hyperparameter", "role", "trials", "values"), rows)
        say(f"{len(trials):,} trials in {len(checked.settings):,} settings; use --csv or --json to print them all")
