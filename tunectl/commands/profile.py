"""`tunectl profile`: the configuration that is timed where the user names none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tunectl.core.errors import UsageError
from tunectl.core.records import Scalar
from tunectl.session.checked_study import check_study
from tunectl.space.trial_plan import plan_trials

_INSTEAD = (
    "profile: times tunectl's own training loop, and {label} trains by a {kind}. Let it profile itself: "
    "with torch.profiler.profile() as p: train(); then p.export_chrome_trace('trace.json'), "
    "to be opened in https://ui.perfetto.dev"
)


def planned_values(study: Path, trial: int) -> Mapping[str, Scalar]:
    """The hyperparameters of a trial of the study's plan.

    Raises UsageError where there is no such trial, or the user's own code trains, and StudyError as `check` does.
    """
    spec = check_study(study, Path.cwd()).spec
    if spec.own_code:
        raise UsageError(_INSTEAD.format(label=spec.label, kind=spec.workload_kind))
    trials = plan_trials(spec)
    if not 0 <= trial < len(trials):
        raise UsageError(f"--trial {trial}: expected a trial from 0 to {len(trials) - 1}; `tunectl plan` prints them")
    return trials[trial].hyperparameters
