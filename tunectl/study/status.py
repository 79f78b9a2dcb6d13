"""`status`: how far is a study, also while a runner is at work."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tunectl.analysis.outcomes import best_outcome
from tunectl.core.objective import Objective
from tunectl.core.records import TrialOutcome
from tunectl.execution.lock import is_held
from tunectl.store.index import Index
from tunectl.study.opening import open_to_read
from tunectl.study.progress import RunningTrial
from tunectl.study.requests import total_steps
from tunectl.study.standing import refresh


@dataclass(frozen=True, slots=True)
class StatusReport:
    """A study at one moment. `runner_alive`: a runner, or a trial that a killed one left, holds the folder."""

    study: str
    objective: Objective
    runner_alive: bool
    total: int
    counts: dict[str, int]
    running: tuple[RunningTrial, ...]
    best: TrialOutcome | None
    failures: tuple[TrialOutcome, ...]

    def to_json(self) -> dict[str, Any]:
        """The report as one JSON object."""
        best = self.best
        return {
            "study": self.study,
            "objective": asdict(self.objective),
            "runner_alive": self.runner_alive,
            "trials": self.total,
            "states": self.counts,
            "running": [asdict(trial) for trial in self.running],
            "best": {"trial": best.plan.trial, "value": best.best_value, "step": best.best_step} if best else None,
            "failed": [
                {"trial": item.plan.trial, "reason": item.reason, "message": item.message} for item in self.failures
            ],
        }


def study_status(place: Path) -> StatusReport:
    """The status of the study folder at `place`; writes nothing. Raises FolderError where there is none."""
    folder, spec, trials = open_to_read(place)
    alive = is_held(folder.lock)
    index = Index.open_read_only(folder.index) if alive else None
    if index is None:
        # Nobody keeps the index up to date, or it cannot be used: the trial folders say how things stand.
        index = Index.in_memory()
        refresh(folder, trials, spec.objective, index, lambda _line: None)
    with index:
        outcomes = list(index.outcomes())
        steps = {trial.trial: total_steps(spec, trial) for trial in trials}
        running = tuple(
            RunningTrial(
                item.trial,
                trials[item.trial].setting,
                item.slot,
                item.last_step or 0,
                steps[item.trial],
                item.last_value,
            )
            for item in index.progress(spec.objective)
        )
        counts = {str(state): number for state, number in index.counts().items()}
    return StatusReport(
        study=spec.name,
        objective=spec.objective,
        runner_alive=alive,
        total=len(trials),
        counts=counts,
        running=running,
        best=best_outcome(outcomes, spec.objective),
        failures=tuple(item for item in outcomes if item.state == "failed"),
    )
