"""`tunectl launch`: record the new best configuration of a campaign."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from tunectl.cli.console import note, say, say_json, shown
from tunectl.cli.shared_options import AsJson, CampaignFolder
from tunectl.cli.shell_completion import complete_place

if TYPE_CHECKING:
    from tunectl.commands.launch import LaunchResult


def launch(
    place: Annotated[
        str,
        typer.Argument(
            metavar="DIR/TRIAL",
            help="The trial to launch; DIR alone is its best trial.",
            show_default=False,
            autocompletion=complete_place,
        ),
    ],
    because: Annotated[str, typer.Option("--because", metavar="TEXT", help="Why it is launched.", show_default=False)],
    campaign: CampaignFolder = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Launch it although compare does not say adopt; this is recorded.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Record the new best configuration of a campaign.

    It is compared with the configuration that was launched before, or with the baseline. The comparison must say
    adopt.
    """
    from tunectl.commands.launch import LaunchRequest, launch

    request = LaunchRequest(place, because, campaign, anyway, datetime.now().astimezone())
    found = launch(request, note)
    if as_json:
        say_json(found.to_json())
    else:
        _print(found)


def _print(found: LaunchResult) -> None:
    entry = found.launch
    note(f"campaign: {found.file} ({found.campaign.how})")
    if not found.added:
        say(f"{entry.place} is launched already ({entry.date or 'no date'}): {entry.because}")
        return
    for line in found.notes:
        note(f"note: {line}")
    say(f"launched {entry.place}: {entry.because}")
    say(f"  {', '.join(f'{name}={shown(value)}' for name, value in entry.values.items())}")
    if entry.verdict:
        say(f"  compared with {entry.compared_with}: {entry.verdict}: {entry.reason}")
    if entry.anyway:
        say("  launched anyway (--anyway)")
