"""The recorder of a run: it reads what running trials measure, fills the index, and informs the watcher."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar, assert_never

from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.core.measurement_kinds import WHOLE, counts_updates
from tunectl.core.measurements import Measurement
from tunectl.core.records import PlannedTrial, is_ended
from tunectl.execution.backends.backend import BackendReady
from tunectl.execution.jobs import (
    Event,
    StoppedByFailures,
    Tick,
    TrialEnded,
    TrialRetried,
    TrialSetAside,
    TrialStarted,
)
from tunectl.language.study_spec import StudySpec
from tunectl.session.outcome_index import read_outcome, store_outcome
from tunectl.session.run_progress import RunningTrial, Tally, Watcher
from tunectl.session.study_events import StudyEvents
from tunectl.store.index import Index
from tunectl.store.trial_files import MeasurementTail

_T = TypeVar("_T")
_READ_SECONDS = 0.5  # how often the files of running trials are read


def stop_in_words(spec: StudySpec) -> str:
    """What happens to the running trials when a run stops, in words."""
    if spec.workload_kind == "function":
        return "waiting for the running trials to save; a trial that does not will start again from step 0"
    if spec.program is None or spec.program.can_resume:
        return "saving the running trials"
    return "ending the running trials; the next run starts them again from step 0"


class Recorder:
    """Takes the events of a run: reads new measurements, writes them to the index, and calls the watcher."""

    def __init__(
        self,
        folder: StudyFolder,
        spec: StudySpec,
        trials: Mapping[int, PlannedTrial],
        index: Index,
        tally: Tally,
        watcher: Watcher,
        events: StudyEvents | None = None,
    ) -> None:
        self.folder = folder
        self.objective = spec.objective
        self.stop_in_words = stop_in_words(spec)
        self.trials = trials
        self.index = index
        self.tally = tally
        self.watcher = watcher
        self.events = events
        self.tails: dict[int, MeasurementTail] = {}
        self.last_read = 0.0
        self.stopping = 0
        self.index_lost = False

    def __call__(self, event: Event) -> None:
        """Take one event."""
        match event:
            case BackendReady():
                for message in event.messages:
                    self.say(message)
            case TrialStarted():
                self._started(event)
            case TrialRetried():
                if self.events is not None:
                    self.events.trial(event, self.trials[event.trial].setting)
                self.watcher.message(f"trial {event.trial} {event.reason}: {event.message}; it is run again")
                self._waits(event.trial)
            case TrialSetAside():
                self._waits(event.trial)
                if self.events is not None:
                    self.events.trial(event, self.trials[event.trial].setting)
            case TrialEnded():
                self._ended(event)
            case StoppedByFailures():
                self._say_common_failure(event)
            case Tick():
                self._say_stopping(event.stopping, is_asked=event.is_asked)
                self._read_measurements()
            case _:
                assert_never(event)

    def say(self, text: str) -> None:
        """Give the watcher a message, which is an event, too."""
        self.watcher.message(text)
        if self.events is not None:
            self.events.message(text)

    def _started(self, event: TrialStarted) -> None:
        trial = self.trials[event.trial]
        self.tails[event.trial] = MeasurementTail(self.folder.trial(event.trial))
        steps = self.tally.steps_by_trial[event.trial]
        self.tally.running[event.trial] = RunningTrial(
            event.trial, trial.setting, event.slot.index, steps=steps, where=event.where
        )
        self._indexed(lambda: self.index.set_running(event.trial, event.slot.index))
        if self.events is not None:
            self.events.trial(event, trial.setting)

    def _waits(self, trial: int) -> None:
        """Note that a trial does not run any more, and is to be launched again."""
        self.tails.pop(trial, None)
        self.tally.running.pop(trial, None)
        planned, report = self.trials[trial], self.watcher.message
        self._indexed(lambda: store_outcome(self.folder, planned, self.objective, self.index, report))

    def _ended(self, event: TrialEnded) -> None:
        self.tails.pop(event.trial, None)
        trial, report = self.trials[event.trial], self.say
        found = self._indexed(lambda: store_outcome(self.folder, trial, self.objective, self.index, report))
        if found is None:
            found, _, _ = read_outcome(self.folder, trial, self.objective)
        is_over = is_ended(event.state, event.reason)
        if found.state == "pending" and is_over:  # its end could not be written to its folder
            found = replace(found, state=event.state, reason=event.reason, message=event.message)
        if self.events is not None:
            self.events.trial_ended(event, found)
        if not is_over:
            self.tally.running.pop(event.trial, None)
            return
        self.tally.end(found)
        self.watcher.finished(found, self.tally.progress(time.monotonic()))

    def _say_common_failure(self, event: StoppedByFailures) -> None:
        failure = event.failure
        trials = ", ".join(map(str, failure.trials))
        at = f" at {failure.where}" if failure.where else ""
        noun = "trial is" if event.left == 1 else "trials are"
        self.say(
            # The message of each trial was printed when it ended.
            f"stopping: the first trials to end ({trials}) all failed alike: {failure.reason}{at}; {event.left} {noun} "
            "left. Correct the cause before going on"
        )
        self.stopping = 1

    def _say_stopping(self, stopping: int, *, is_asked: bool) -> None:
        if stopping > self.stopping:
            self.stopping = stopping
            more = "; press Ctrl-C again to end them at once" if is_asked else ""
            how = f"{self.stop_in_words}{more}" if stopping == 1 else "ending the running trials"
            self.say(f"stopping: {how}")

    def _read_measurements(self) -> None:
        now = time.monotonic()
        if now - self.last_read < _READ_SECONDS:
            return
        self.last_read = now
        for trial, tail in self.tails.items():
            measurements, again = tail.read()
            if measurements or again:
                self._indexed(partial(self.index.put_measurements, trial, measurements, replace=again))
            if measurements:
                self.tally.running[trial] = self._shown(self.tally.running[trial], measurements)
        progress = self.tally.progress(now)
        self.watcher.progress(progress)
        if self.events is not None:
            self.events.progress(progress, now)

    def _shown(self, running: RunningTrial, measurements: Sequence[Measurement]) -> RunningTrial:
        """How far a trial is after these further measurements."""
        # Whole splits are evaluated after the last step, at steps that the trial had before.
        last = next((item for item in reversed(measurements) if item.measurement_kind != WHOLE.name), None)
        if last is None:
            return running
        if not counts_updates(last.measurement_kind):
            return replace(running, iteration=last.step)
        return replace(running, step=last.step, value=last.metrics.get(self.objective.metric), iteration=None)

    def _indexed(self, write: Callable[[], _T]) -> _T | None:
        """Write to the index; after a failure it is not written until the run ends, when it is made anew."""
        if self.index_lost:
            return None
        try:
            return write()
        except FolderError as error:
            self.index_lost = True
            self.say(f"warning: {error}; the trials go on, and their folders are read again at the end")
            return None
