"""The door to look at a study folder: its state at one moment, also while a runner is at work there; writes nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.core.records import RUNNER_ENDED, PlannedTrial, TrialOutcome
from tunectl.execution.runner_lock import is_held
from tunectl.language.study_spec import StudySpec
from tunectl.session.damage import DamageLog, changed_files, damage_notes
from tunectl.session.open_study import study_in
from tunectl.session.outcome_index import read_outcomes
from tunectl.session.plan_agreement import agreed_plan
from tunectl.store.claimed_trials import claimed_trials
from tunectl.store.index import Index
from tunectl.store.study_folder import open_folder


@dataclass(frozen=True, slots=True)
class StudySnapshot:
    """A study at one moment. `runner_alive`: a runner, or a trial that a killed runner left, has the folder's lock.

    `index` is None where it is missing or cannot be used; then the outcomes come from the trial folders. `damage` has
    one line for everything in the folder that is damaged.
    """

    folder: StudyFolder
    spec: StudySpec
    trials: Sequence[PlannedTrial]
    outcomes: Sequence[TrialOutcome]
    runner_alive: bool
    index: Index | None
    damage: Sequence[str] = ()


@contextlib.contextmanager
def study_snapshot(
    place: Path,
    say: Callable[[str], None] = lambda _line: None,
    *,
    may_be_half_read: bool = False,
    holds_lock: bool = False,
) -> Iterator[StudySnapshot]:
    """The study in the folder at `place`; `say` is called with each line about damage.

    `holds_lock`: this process has the folder's lock, so that no runner is at work. Raises FolderError where there is no
    study; unless `may_be_half_read`, also where its trials are being read again as a changed study says, or were when a
    runner was killed: those that were read again cannot be compared with the rest.
    """
    folder = open_folder(place)
    spec = study_in(folder)
    if folder.rereading.is_file() and not may_be_half_read:
        raise FolderError(
            f"{place}: its trials are being read again as a changed study says, and some are left; if no runner "
            "is at work, run the study again: it reads the rest"
        )
    alive = not holds_lock and is_held(folder.lock)
    index = Index.open_read_only(folder.index) if alive else Index.open_at_rest(folder.index)
    with index or contextlib.nullcontext():
        stored, count = (index.planned, index.planned_count()) if index is not None else (dict, 0)
        plan = agreed_plan(folder, spec, stored, at_least=count)
        trials = plan.trials
        if alive and index is not None:
            outcomes = list(index.outcomes())
        else:
            # Without a runner the index may be out of date; then, or where it is damaged, the trial folders are read.
            found = read_outcomes(folder, trials, spec.objective, index)
            claimed = {claim.trial for claim in claimed_trials(folder)}
            outcomes = [_running(item) if alive or item.plan.trial in claimed else item for item in found]
        notes = (f"warning: {note}" for note in (*plan.notes, *plan.doubts))
        said = DamageLog(say)
        for line in (*notes, *changed_files(folder, index), *damage_notes(folder, outcomes)):
            said(line)
        yield StudySnapshot(folder, spec, trials, outcomes, alive, index, said.lines)


def _running(item: TrialOutcome) -> TrialOutcome:
    """The outcome of a trial by its folder alone, while a runner is at work: one without an end is running."""
    return replace(item, state="running", reason="", message="") if item.message == RUNNER_ENDED else item
