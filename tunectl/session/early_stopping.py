"""Early stopping during a run: it follows the evaluations of running trials, and finds those to be stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tunectl.analysis.search.median_rule import Comparison, Reached, worse_than_most
from tunectl.core.folders import StudyFolder
from tunectl.core.measurement_kinds import EVALUATION
from tunectl.core.records import ENDED, FINAL, PlannedTrial, State, TrialOutcome
from tunectl.core.wording import counted, short_number
from tunectl.execution.jobs import Event, Hopeless, Tick, TrialEnded, TrialRetried, TrialSetAside, TrialStarted
from tunectl.language.code_arguments import takers
from tunectl.language.configuration import TrainingConfiguration
from tunectl.language.name_meaning import is_of_schedule
from tunectl.language.study_spec import StudySpec
from tunectl.session.trial_requests import total_steps
from tunectl.store.trial_files import MeasurementTail

_READ_SECONDS = 0.5  # how often the files of running trials are read


def comparable(spec: StudySpec, trial: PlannedTrial) -> Hashable:
    """What two trials must have in common to be compared before their end.

    It is their setting, stage and length, the whole schedule relative to its base rate, with what a schedule of the
    study's own takes, and what `same` names; for own code also the hyperparameters whose names are those of a schedule.
    """
    rule, values = spec.search.stop_early, trial.hyperparameters
    names = {*(rule.same or () if rule is not None else ())}
    shape: Hashable = ()
    if spec.own_code:
        names |= {name for name in values if is_of_schedule(name)}
    else:
        names |= {name for name in values if takers(spec.code, name).get("schedule")}
        shape = TrainingConfiguration.from_hyperparameters(trial.trained_values).schedule_shape
    same = tuple((name, values.get(name)) for name in sorted(names))
    return trial.setting, trial.stage, total_steps(spec, trial), shape, same


@dataclass(slots=True)
class EarlyStopping:
    """The trials of the search of a study with `search.stop_early`, and what each has reached."""

    folder: StudyFolder
    spec: StudySpec
    trials: Mapping[int, PlannedTrial]
    clock: Callable[[], float] = time.monotonic
    hopeless: dict[int, Hopeless] = field(default_factory=dict)
    _reached: dict[int, Reached] = field(default_factory=dict)
    _tails: dict[int, MeasurementTail] = field(default_factory=dict)
    _groups: dict[Hashable, list[int]] = field(default_factory=dict)
    _group_of: dict[int, Hashable] = field(default_factory=dict)
    _last_read: float = 0.0

    def begin(self, outcomes: Iterable[TrialOutcome]) -> None:
        """Read the trials that have ended before this run."""
        for item in outcomes:
            if item.state in ENDED:
                self._started(item.plan.trial)
                self._ended(item.plan.trial, item.state)

    def take(self, event: Event) -> None:
        """Take one event of the run."""
        match event:
            case TrialStarted():
                self._started(event.trial)
            case TrialEnded():
                self._ended(event.trial, event.state)
            case TrialRetried() | TrialSetAside():
                self._forget(event.trial)
            case Tick():
                self._read_running()
            case _:
                pass

    def _started(self, number: int) -> None:
        trial = self.trials.get(number)
        if trial is None or trial.trial_kind != "search":
            return
        self._forget(number)
        group = self._group_of[number] = comparable(self.spec, trial)
        self._groups.setdefault(group, []).append(number)
        self._follow(number)

    def _follow(self, number: int) -> None:
        self._reached[number] = Reached(self.spec.objective)
        self._tails[number] = MeasurementTail(self.folder.trial(number))

    def _forget(self, number: int) -> None:
        """Leave out a trial that is not comparable now: it failed, waits, or is trained again."""
        if number in self._group_of:
            self._groups[self._group_of.pop(number)].remove(number)
        for known in (self._reached, self._tails, self.hopeless):
            known.pop(number, None)

    def _ended(self, number: int, state: State) -> None:
        if number not in self._reached:
            return
        if state not in FINAL:
            self._forget(number)
            return
        self._follow(number)  # from its first line: the folder of a trial that a worker had is in another place now
        self._read(number)
        del self._tails[number]
        self.hopeless.pop(number, None)
        self._reached[number].ended = True
        self._reached[number].infeasible = state == "infeasible"

    def _read(self, number: int) -> float | None:
        """Read the new evaluations of a trial; gives the time of the last one, None where there is none."""
        measurements, again = self._tails[number].read()
        if again:
            self._reached[number] = Reached(self.spec.objective)
        seconds = None
        for item in measurements:
            if item.measurement_kind == EVALUATION.name:
                self._reached[number].add(item.step, item.metrics.get(self.spec.objective.metric))
                seconds = item.elapsed_seconds
        return seconds

    def _read_running(self) -> None:
        now = self.clock()
        if now - self._last_read < _READ_SECONDS:
            return
        self._last_read = now
        fresh = {number: seconds for number in self._tails if (seconds := self._read(number)) is not None}
        for number, seconds in fresh.items():
            found = self._compared(number)
            if found is not None and number not in self.hopeless:
                self.hopeless[number] = Hopeless(self._in_words(found), found.step, seconds)

    def _compared(self, number: int) -> Comparison | None:
        rule = self.spec.search.stop_early
        if rule is None:
            return None
        others = [self._reached[other] for other in self._groups[self._group_of[number]] if other != number]
        return worse_than_most(self._reached[number], others, rule, total_steps(self.spec, self.trials[number]))

    def _in_words(self, found: Comparison) -> str:
        sign = 1 if self.spec.objective.direction == "minimize" else -1
        own, middle = (short_number(sign * cost) for cost in (found.cost, found.median))
        what = (
            f"{self.spec.objective.metric} {own} is worse than {middle}, the median of {counted(found.others, 'trial')}"
        )
        return f"at step {found.step} its {'best ' if self.spec.objective.checkpoint == 'best' else ''}{what} there"


def early_stopping(
    folder: StudyFolder, spec: StudySpec, trials: Mapping[int, PlannedTrial], outcomes: Sequence[TrialOutcome]
) -> EarlyStopping | None:
    """The early stopping of a run that begins, None where the study asks for none."""
    if spec.search.stop_early is None:
        return None
    found = EarlyStopping(folder, spec, trials)
    found.begin(outcomes)
    return found
