"""Metrics that programs did not print, or that could not be read: one sentence for all trials of a study."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tunectl.core.folders import StudyFolder
from tunectl.core.records import TrialOutcome
from tunectl.store.trial_files import read_result


def warn_of_unread_metrics(folder: StudyFolder, outcomes: Sequence[TrialOutcome], say: Callable[[str], None]) -> None:
    """Say each sentence of `unread_metrics` as a warning."""
    for sentence in unread_metrics(folder, outcomes):
        say(f"warning: {sentence}")


def unread_metrics(folder: StudyFolder, outcomes: Sequence[TrialOutcome]) -> list[str]:
    """One sentence for each note of completed trials, with the number of trials that have it and an example."""
    ended = [item for item in outcomes if item.state in ("completed", "infeasible", "failed")]
    found: dict[str, list[tuple[int, str]]] = {}
    for item in ended:
        # Only a result with a message can have notes, so that most results are not read again.
        result = read_result(folder.trial(item.plan.trial)) if item.state == "completed" and item.message else None
        for note, detail in ({} if result is None else result.notes).items():
            found.setdefault(note, []).append((item.plan.trial, detail))
    return [_sentence(note, trials, len(ended)) for note, trials in found.items()]


def _sentence(note: str, trials: Sequence[tuple[int, str]], ended: int) -> str:
    trial, detail = trials[0]
    noun = "trial" if ended == 1 else "trials"
    example = f" (trial {trial}: {detail})" if detail else ""
    return f"in {len(trials)} of {ended} {noun} {note}{example}"
