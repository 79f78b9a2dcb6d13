"""The progress of a run, and the watcher that draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tunectl.analysis.results.stages import last_complete
from tunectl.core.objective import Objective
from tunectl.core.records import PlannedTrial, TrialOutcome


@dataclass(frozen=True, slots=True)
class RunningTrial:
    """A running trial: at its last evaluation it had made `step` of `steps` updates, and the objective was `value`.

    `iteration` is that of the procedure before step 0, None where there is none, or it is over. `where` says in words
    at which worker it is, "" on this machine.
    """

    trial: int
    setting: int
    slot: int
    step: int = 0
    steps: int = 0
    value: float | None = None
    iteration: int | None = None
    where: str = ""

    @property
    def reached(self) -> str:
        """The step as it is shown, during an initialisation with its iteration."""
        return str(self.step) if self.iteration is None else f"{self.step} (initialisation: {self.iteration})"


@dataclass(frozen=True, slots=True)
class RunProgress:
    """The progress of a run at one moment; `seconds_left` is None until the first steps have been timed.

    `objective` is the one by which `best` is the best; where there are several `stages`, of one of them.
    """

    total: int
    done: int
    infeasible: int
    failed: int
    running: tuple[RunningTrial, ...]
    best: TrialOutcome | None
    seconds_left: float | None
    objective: Objective | None = None
    stages: int = 1
    stopped: int = 0


class Watcher(Protocol):
    """Draws a run; the runner calls it, and it does not call the runner."""

    def message(self, text: str) -> None:
        """Show a message to the user: a warning, a phase."""

    def finished(self, outcome: TrialOutcome, progress: RunProgress) -> None:
        """Show that a trial has ended."""

    def progress(self, progress: RunProgress) -> None:
        """Show the progress after some time."""


_OF_THE_LONGEST = 100
"""A trial is timed if it has at least this part of the longest one's steps: one update measures only its start."""


@dataclass(slots=True)
class Tally:
    """Counts the trials of a run that have ended, finds the best one, and estimates the time that is left.

    `stages` has the stage of each trial of a search, without its retrains: the best one is of one stage. `to_come` is
    the number of trials that are planned later; they are taken to be as long as the longest.
    """

    objective: Objective
    steps_by_trial: dict[int, int]
    started: float
    ended: dict[int, TrialOutcome] = field(default_factory=dict)
    running: dict[int, RunningTrial] = field(default_factory=dict)
    stages: Mapping[int, int] = field(default_factory=dict)
    to_come: int = 0
    _best: dict[int, TrialOutcome] = field(default_factory=dict)
    _steps_before: int = 0
    _steps_now: int = 0
    _steps_timed: int = 0

    @property
    def _shortest_timed(self) -> float:
        """The steps of the shortest trial that says how long a step takes; of shorter ones most time is their start."""
        return max(self.steps_by_trial.values(), default=0) / _OF_THE_LONGEST

    def before(self, outcomes: Sequence[TrialOutcome]) -> None:
        """Count trials that ended in earlier runs: they are done, and not used to estimate the speed of this run."""
        for outcome in outcomes:
            self._take(outcome)
        self._steps_before = sum(self.steps_by_trial[outcome.plan.trial] for outcome in outcomes)

    def add(self, steps: Mapping[int, int], trials: Sequence[PlannedTrial]) -> None:
        """Count trials that were added to the study, with the steps of each."""
        self.steps_by_trial |= steps
        self.stages = {**self.stages, **{trial.trial: trial.stage for trial in trials}}

    def reopen(self, trial: int) -> None:
        """Take back that a trial has ended: it is run again."""
        self.ended.pop(trial, None)

    def end(self, outcome: TrialOutcome) -> None:
        """Count a trial that ended in this run."""
        self.running.pop(outcome.plan.trial, None)
        steps = self.steps_by_trial[outcome.plan.trial]
        self._steps_now += steps
        self._steps_timed += steps if steps >= self._shortest_timed else 0
        self._take(outcome)

    def _take(self, outcome: TrialOutcome) -> None:
        self.ended[outcome.plan.trial] = outcome
        if outcome.state != "completed":
            return
        rank, best = self.objective.rank, self._best.get(outcome.plan.stage)
        if best is None or rank(outcome.best_value, outcome.plan.trial) < rank(best.best_value, best.plan.trial):
            self._best[outcome.plan.stage] = outcome

    @property
    def best(self) -> TrialOutcome | None:
        """The best trial of the stage that is judged."""
        return self._best.get(last_complete((stage, trial in self.ended) for trial, stage in self.stages.items()))

    def progress(self, now: float) -> RunProgress:
        """The progress at `now`, a time of the same clock as `started` (seconds)."""
        running = tuple(self.running[trial] for trial in sorted(self.running))
        states = [outcome.state for outcome in self.ended.values()]
        done_now = self._steps_now + sum(trial.step for trial in running)
        shortest = self._shortest_timed
        timed = self._steps_timed + sum(
            trial.step for trial in running if self.steps_by_trial.get(trial.trial, 0) >= shortest
        )
        left = sum(self.steps_by_trial.values()) - self._steps_before - done_now
        left += self.to_come * max(self.steps_by_trial.values(), default=0)
        elapsed = now - self.started
        return RunProgress(
            total=len(self.steps_by_trial) + self.to_come,
            done=len(states),
            infeasible=states.count("infeasible"),
            failed=states.count("failed"),
            stopped=states.count("stopped"),
            running=running,
            best=self.best,
            seconds_left=elapsed * left / timed if timed > 0 else None,
            objective=self.objective,
            stages=len(set(self.stages.values())) or 1,
        )
