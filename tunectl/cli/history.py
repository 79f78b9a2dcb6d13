"""`tunectl history`: the rounds of a campaign."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunectl.cli.console import note, say, say_json, say_table
from tunectl.cli.printed_findings import say_findings
from tunectl.cli.shared_options import AsJson
from tunectl.core.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tunectl.analysis.comparison.campaign_history import CampaignHistory
    from tunectl.commands.history import CampaignReport

_DATE_CHARACTERS = len("2026-01-01")


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


_ROUNDS = ("round", "study", "best_trial", "best_value", "retrains", "mean", "deviation", "best_so_far", "launched")
# The columns of costs_table; the names of the longest are shorter on a terminal.
_COSTS = ("round", "study", "searches", "trials", "device_seconds", "examples", "total_seconds", "total_examples")


def _print(found: CampaignReport) -> None:
    from tunectl.report.campaign_page import costs_table

    campaign, history, objective = found.campaign, found.history, found.history.objective
    note(f"campaign: {campaign.document.file} ({found.found.how})")
    say(f"{campaign.name}: {campaign.goal}" if campaign.goal else campaign.name)
    say()
    by_mean = any(mean is not None for mean in history.best_means())
    path = "by the means of retrains" if by_mean else "by the searches"
    title = f"{objective.best_direction} {objective.title}; best_so_far is {path}" if objective else ""
    say_table(_ROUNDS, _round_rows(history, history.best_means() if by_mean else history.best_values()), title=title)
    for item in history.rounds:
        if item.problem:
            say(f"{item.name}: {item.problem}")
    say()
    say_table(
        _COSTS, costs_table(history).rows, title="cost: training, evaluation and start-up of all trials, retrains too"
    )
    untimed = history.costs()[-1].untimed if history.rounds else 0
    if untimed:
        why = "it has not ended by itself" if untimed == 1 else "they have not ended by themselves"
        say(f"the time of {counted(untimed, 'trial')} is not known: {why}")
    say()
    say("nothing was launched yet" if not campaign.launched else "launched:")
    for launched in campaign.launched:
        date = f"{launched.date[:_DATE_CHARACTERS]} " if launched.date else ""
        say(f"  {date}{launched.place}{' (anyway)' if launched.anyway else ''}: {launched.because}")
    say()
    say_findings(found.findings)
    say(str(found.page))


def _round_rows(history: CampaignHistory, path: Sequence[float | None]) -> list[tuple[object, ...]]:
    return [
        (
            number,
            item.name,
            item.best_trial,
            item.best_value,
            len(item.retrains) or None,
            history.mean(item),
            history.deviation(item),
            best,
            ", ".join(map(str, item.launched)),
        )
        for number, (item, best) in enumerate(zip(history.rounds, path, strict=True), start=1)
    ]
