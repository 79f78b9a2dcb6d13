"""Messages about failed trials; trials with the same message are reported together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from tunectl.cli.console import note
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.wording import first_listed

if TYPE_CHECKING:
    from tunectl.core.folders import StudyFolder
    from tunectl.core.records import TrialOutcome

_MOST_MESSAGES, _MOST_TRIALS = 5, 8


def by_message(failed: Iterable[TrialOutcome]) -> list[tuple[list[int], str, str]]:
    """The failed trials grouped by reason and message."""
    found: dict[tuple[str, str], list[int]] = {}
    for item in failed:
        found.setdefault((item.reason, item.message), []).append(item.plan.trial)
    return [(trials, reason, message) for (reason, message), trials in found.items()]


def listed(trials: Sequence[int]) -> str:
    """Trial numbers as text: `0, 1, 2 and 40 more`."""
    return first_listed([str(trial) for trial in trials], _MOST_TRIALS)


def note_failures(failed: Sequence[TrialOutcome], folder: StudyFolder, printed: Collection[int] = ()) -> None:
    """Print how trials failed, except messages that were `printed` for a trial already, and where a log is."""
    if not failed:
        return
    known = {(item.reason, item.message) for item in failed if item.plan.trial in printed}
    groups = by_message(item for item in failed if (item.reason, item.message) not in known)
    for trials, reason, message in groups[:_MOST_MESSAGES]:
        noun = "trial" if len(trials) == 1 else "trials"
        note(f"{noun} {listed(trials)} failed: {reason}: {message}")
    if len(groups) > _MOST_MESSAGES:
        note(
            f"and {len(groups) - _MOST_MESSAGES} other messages; `{tunectl_command('status', folder.path)}` lists them"
        )
    first = failed[0].plan.trial
    note(f"{len(failed)} failed; the log of trial {first}: {folder.trial(first).log}")
