"""The table of a study's settings, as `run` and `report` print it."""

from __future__ import annotations

from collections.abc import Sequence

from tunectl.cli.console import say_table

_OPTIONAL = ("seconds_to_best", "completed", "best_step", "trials")
"""What a narrow terminal leaves out first; `tables/settings` has it."""


def say_settings(header: Sequence[str], rows: Sequence[Sequence[object]], title: str) -> None:
    """Print the settings, a row each; on a narrow terminal with fewer columns."""
    say_table(header, rows, title=title, optional=_OPTIONAL)
