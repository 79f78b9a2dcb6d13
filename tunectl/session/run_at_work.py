"""A run at work, as requests may change it: its study, the trials that it trains, and its progress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tunectl.core.errors import UsageError
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.records import PlannedTrial
from tunectl.execution.jobs import Job
from tunectl.session.added_trials import Addition, add_trials, added_words
from tunectl.session.further_trials import trials_to_come
from tunectl.session.open_study import OpenStudy
from tunectl.session.run_progress import Tally
from tunectl.session.stopped_trials import check_trial
from tunectl.session.trial_requests import total_steps
from tunectl.store.trial_files import read_trial


@dataclass(slots=True)
class RunAtWork:
    """The study of a run, which grows by added trials; `trials` are all of it, `jobs` the ids that this run trains.

    `may_grow`: it trains whatever the study plans, and so also what is added; other commands train chosen trials.
    """

    study: OpenStudy
    trials: dict[int, PlannedTrial]
    jobs: set[int]
    tally: Tally
    may_grow: bool = False
    ended: set[int] = field(default_factory=set)

    @property
    def resume_command(self) -> str:
        """The command that ends a pause."""
        return tunectl_command("resume", self.study.folder.path)

    def check_trial(self, trial: int) -> None:
        """Raise UsageError where the study has no such trial, or belongs to a procedure."""
        check_trial(self.study.folder, trial, len(self.trials))

    def run_again(self, trial: int) -> None:
        """Let this run train a trial that was stopped for good, where it trains whatever the study plans."""
        if trial in self.jobs and trial not in self.ended:
            return
        if self.may_grow or trial in self.jobs:
            self.jobs.add(trial)
            self.ended.discard(trial)
            self.tally.reopen(trial)
            self.study.control.added.append(Job(trial, read_trial(self.study.folder.trial(trial)).attempts))

    def add(self, wish: Addition) -> str:
        """Add trials to the study and to this run; raises UsageError where that cannot be done."""
        if not self.may_grow:
            raise UsageError("the command at work trains chosen trials alone; add trials when it has ended")
        spec, added = add_trials(self.study.folder, self.study.spec, list(self.trials.values()), wish, self.study.index)
        self.study = replace(self.study, spec=spec, trials=[*self.study.trials, *added])
        self._plan(added)
        return added_words(wish, added)

    def _plan(self, added: Sequence[PlannedTrial]) -> None:
        self.study.index.put_plan(self.study.trials)
        self.tally.to_come = trials_to_come(self.study.spec, self.study.trials)
        self.tally.add({trial.trial: total_steps(self.study.spec, trial) for trial in added}, added)
        for trial in added:
            self.trials[trial.trial] = trial
            self.jobs.add(trial.trial)
        self.study.control.added += [Job(trial.trial) for trial in added]
