"""`tunectl history`: the rounds of a campaign."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunectl.cli.console import note, say, say_json, say_table
from tunectl.cli.printed_findings import say_findings
from tunectl.cli.shared_options import AsJson

if TYPE_CHECKING:
    from tunectl.commands.history import CampaignReport
    from tunectl.report.table import Table


def history(
    campaign: Annotated[
        Path | None,
        typer.Argument(
            metavar="CAMPAIGN",
            help="The folder with campaign.yaml.  [default: the current one or one above]",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the best of each round of a campaign, and its cost.

    Also says whether the last rounds still gained anything, and writes a page.
    """
    from tunectl.report.renderer import renderers
    from tunectl.session.campaign_folder import find_campaign

    place = find_campaign(campaign)
    with renderers() as ready:
        # The rest is imported, and the rounds read, while the processes that draw start.
        from tunectl.commands.history import campaign_report

        found = campaign_report(place, ready, note)
    for warning in found.warnings:
        note(f"warning: {warning}")
    if as_json:
        say_json(found.to_json())
    else:
        _print(found)


def _print(found: CampaignReport) -> None:
    from tunectl.report.campaign_page import costs_table, rounds_table

    campaign, objective = found.campaign, found.history.objective
    note(f"campaign: {campaign.document.file} ({found.found.how})")
    if campaign.goal:
        say(f"{campaign.name}: {campaign.goal}")
    judged = f", {objective.best_direction} {objective.title}" if objective else ""
    _say(rounds_table(found.history), f"the best of each round{judged}", without=("problem",))
    for item in found.history.rounds:
        if item.problem:
            say(f"{item.name}: {item.problem}")
    say()
    _say(costs_table(found.history), "cost: training, evaluation and start-up of all trials")
    say()
    for launched in campaign.launched[-1:]:
        say(f"launched: {launched.place}: {launched.because}")
    if not campaign.launched:
        say("nothing was launched yet")
    say()
    say_findings(found.findings)
    say(str(found.page))


def _say(table: Table, title: str, without: tuple[str, ...] = ()) -> None:
    """Print a table without empty columns and those that are named."""
    kept = [
        place
        for place, name in enumerate(table.header)
        if name not in without and any(row[place] is not None for row in table.rows)
    ]
    say_table(
        [table.header[place] for place in kept], [[row[place] for place in kept] for row in table.rows], title=title
    )
