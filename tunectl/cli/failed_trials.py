"""Failed trials for people: what several have in common is said once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from tunectl.cli.console import note
from tunectl.core.proposed_commands import tunectl_command

if TYPE_CHECKING:
    from tunectl.core.folders import StudyFolder
    from tunectl.core.records import TrialOutcome

_MOST_MESSAGES, _MOST_TRIALS = 5, 8


def by_message(failed: Iterable[TrialOutcome]) -> list[tuple[list[int], str, str]]:
    """The trials that failed with the same reason and message, with the two."""
    found: dict[tuple[str, str], list[int]] = {}
    for item in failed:
        found.setdefault((item.reason, item.message), []).append(item.plan.trial)
    return [(trials, *said) for said, trials in found.items()]


def listed(trials: Sequence[int]) -> str:
    """Numbers of trials as text: `0, 1, 2 and 40 more`."""
    shown = ", ".join(map(str, trials[:_MOST_TRIALS]))
    return f"{shown} and {len(trials) - _MOST_TRIALS} more" if len(trials) > _MOST_TRIALS else shown


def note_failures(failed: Sequence[TrialOutcome], folder: StudyFolder, said: Collection[int] = ()) -> None:
    """Say how trials failed, but for those of which it was said already, and where their logs are."""
    if not failed:
        return
    known = {(item.reason, item.message) for item in failed if item.plan.trial in said}
    groups = by_message(item for item in failed if (item.reason, item.message) not in known)
    for trials, reason, message in groups[:_MOST_MESSAGES]:
        note(f"{_noun(trials)} {listed(trials)} failed: {reason}: {message}")
    if len(groups) > _MOST_MESSAGES:
        note(
            f"and {len(groups) - _MOST_MESSAGES} other messages; `{tunectl_command('status', folder.path)}` lists them"
        )
    first = failed[0].plan.trial
    note(f"{len(failed)} failed; the log of trial {first}: {folder.trial(first).log}")


def _noun(trials: Sequence[int]) -> str:
    return "trial" if len(trials) == 1 else "trials"
