"""The checkpoints that trials of a finished study have kept, read without a change to its folder."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunectl.core import regular_files, typed_fields
from tunectl.core.errors import UsageError
from tunectl.core.path_errors import system_reason
from tunectl.core.records import PlannedTrial, TrialOutcome
from tunectl.core.trial_checkpoints import TrialCheckpoints
from tunectl.session.outcome_index import has_ended
from tunectl.session.snapshot import StudySnapshot
from tunectl.session.trial_requests import request_of

_OURS = re.compile(r"step-\d{8,}\.pt")
_TAIL_BYTES = 24
"""The end of a checkpoint, with the checksum of all that is before it."""


@dataclass(frozen=True, slots=True)
class FoundCheckpoints:
    """The wanted trials that have checkpoints, with them, and why the others are passed over, by their ids."""

    kept: dict[int, tuple[PlannedTrial, TrialCheckpoints]]
    passed_over: dict[int, str]


def study_checkpoints(study: StudySnapshot, trials: Sequence[int]) -> FoundCheckpoints:
    """The kept checkpoints of these trials, by their ids; raises UsageError where the study has no such trial."""
    last = len(study.outcomes) - 1
    unknown = [number for number in trials if number > last]
    if unknown:
        raise UsageError(f"--trials {', '.join(map(str, unknown))}: expected trials from 0 to {last}")
    found = FoundCheckpoints({}, {})
    for number in dict.fromkeys(trials):
        outcome = study.outcomes[number]
        kept = _kept(study, outcome)
        if isinstance(kept, str):
            found.passed_over[number] = kept
        else:
            found.kept[number] = (outcome.plan, kept)
    return found


def _kept(study: StudySnapshot, outcome: TrialOutcome) -> TrialCheckpoints | str:
    """The checkpoints of a trial, or why it is passed over."""
    if study.spec.own_code:
        return f"it is the trial of a {study.spec.workload_kind}, whose model and optimizer are not known"
    if outcome.plan.trial_kind in ("throughput", "profile", "curvature"):
        return f"it is a trial of the kind {outcome.plan.trial_kind}, which trains nothing"
    if not has_ended(outcome):
        return f"it is {outcome.state}, and has not ended"
    folder = study.folder.trial(outcome.plan.trial)
    try:
        names = sorted(path.name for path in folder.checkpoints.iterdir() if _OURS.fullmatch(path.name))
        files = {name: _tail(folder.checkpoints / name) for name in names}
    except FileNotFoundError:
        files = {}
    except OSError as error:
        return f"its checkpoints cannot be read ({system_reason(error)})"
    if not files:
        return "it has no kept checkpoint"
    kept = TrialCheckpoints(str(study.folder.path.resolve()), outcome.plan.trial, files)
    try:
        request_of(kept)
    except typed_fields.DamagedError as error:
        return f"its {folder.request.name} cannot be used: {error}"
    return kept


def _tail(path: Path) -> str:
    with regular_files.opened(path) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
        return file.read().decode("ascii", "replace")
