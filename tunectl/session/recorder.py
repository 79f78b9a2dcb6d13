"""What a run leaves in the index and shows on the screen while its trials train."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar, assert_never

from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.core.records import Measurement, PlannedTrial
from tunectl.execution.backends.backend import BackendReady
from tunectl.execution.jobs import (
    Event,
    StoppedByFailures,
    Tick,
    TrialEnded,
    TrialRetried,
    TrialStarted,
)
from tunectl.language.study_spec import StudySpec
from tunectl.session.outcome_index import read_outcome, store_outcome
from tunectl.session.run_progress import RunningTrial, Tally, Watcher
from tunectl.store.index import Index
from tunectl.store.trial_files import MeasurementTail

_T = TypeVar("_T")
_SECONDS_BETWEEN_LOOKS = 0.5  # how often the files of running trials are read


def stop_in_words(spec: StudySpec) -> str:
    """What becomes of the running trials when a run stops."""
    if spec.kind == "function":
        return "the running trials may save; those that do not will start over"
    if spec.program is None or spec.program.goes_on:
        return "saving the running trials"
    return "ending the running trials; they will start over"


class Recorder:
    """Takes the events of a run: reads what trials measured, keeps the index, tells the watcher."""

    def __init__(
        self,
        folder: StudyFolder,
        spec: StudySpec,
        trials: Mapping[int, PlannedTrial],
        index: Index,
        tally: Tally,
        watcher: Watcher,
    ) -> None:
        self.folder = folder
        self.objective = spec.objective
        self.stop_in_words = stop_in_words(spec)
        self.trials = trials
        self.index = index
        self.tally = tally
        self.watcher = watcher
        self.tails: dict[int, MeasurementTail] = {}
        self.looked = 0.0
        self.stopping = 0
        self.index_lost = False

    def __call__(self, event: Event) -> None:
        """Take one event."""
        match event:
            case BackendReady():
                for message in event.messages:
                    self.watcher.message(message)
            case TrialStarted():
                self._started(event)
            case TrialRetried():
                self.watcher.message(f"trial {event.trial} {event.reason}: {event.message}; it is run again")
            case TrialEnded():
                self._ended(event)
            case StoppedByFailures():
                self._say_what_stops_it(event)
            case Tick():
                self._say_that_it_stops(event.stopping, is_asked=event.is_asked)
                self._look()
            case _:
                assert_never(event)

    def _started(self, event: TrialStarted) -> None:
        trial = self.trials[event.trial]
        self.tails[event.trial] = MeasurementTail(self.folder.trial(event.trial))
        steps = self.tally.steps_by_trial[event.trial]
        self.tally.running[event.trial] = RunningTrial(event.trial, trial.setting, event.slot.index, steps=steps)
        self._indexed(lambda: self.index.set_running(event.trial, event.slot.index))

    def _ended(self, event: TrialEnded) -> None:
        self.tails.pop(event.trial, None)
        trial, report = self.trials[event.trial], self.watcher.message
        found = self._indexed(lambda: store_outcome(self.folder, trial, self.objective, self.index, report))
        if found is None:
            found, _, _ = read_outcome(self.folder, trial, self.objective)
        if event.state == "cancelled":
            self.tally.running.pop(event.trial, None)
            return
        if found.state == "pending":  # its folder could not take it
            found = replace(found, state=event.state, reason=event.reason, message=event.message)
        self.tally.end(found)
        self.watcher.finished(found, self.tally.snapshot(time.monotonic()))

    def _say_what_stops_it(self, event: StoppedByFailures) -> None:
        failure = event.failure
        trials = ", ".join(map(str, failure.trials))
        at = f" at {failure.where}" if failure.where else ""
        noun = "trial is" if event.left == 1 else "trials are"
        self.watcher.message(
            # Each trial's message was said when it ended.
            f"stopping: the first trials to end ({trials}) all failed alike: {failure.reason}{at}; {event.left} {noun} "
            "left. Mend it and run again with --retry-failed"
        )
        self.stopping = 1

    def _say_that_it_stops(self, stopping: int, *, is_asked: bool) -> None:
        if stopping > self.stopping:
            self.stopping = stopping
            more = "; press Ctrl-C again to end them at once" if is_asked else ""
            how = f"{self.stop_in_words}{more}" if stopping == 1 else "ending the running trials"
            self.watcher.message(f"stopping: {how}")

    def _look(self) -> None:
        now = time.monotonic()
        if now - self.looked < _SECONDS_BETWEEN_LOOKS:
            return
        self.looked = now
        for trial, tail in self.tails.items():
            measurements, again = tail.read()
            if measurements or again:
                self._store(trial, measurements, again=again)
            if measurements:
                self.tally.running[trial] = self._moved(self.tally.running[trial], measurements[-1])
        self.watcher.progress(self.tally.snapshot(now))

    def _store(self, trial: int, measurements: Sequence[Measurement], *, again: bool) -> None:
        self._indexed(lambda: self.index.put_measurements(trial, measurements, replace=again))

    def _indexed(self, write: Callable[[], _T]) -> _T | None:
        """Write to the index, which the trial folders can make anew: one that fails is let be until the run's end."""
        if self.index_lost:
            return None
        try:
            return write()
        except FolderError as error:
            self.index_lost = True
            self.watcher.message(f"warning: {error}; the trials go on, and their folders are read again at the end")
            return None

    def _moved(self, running: RunningTrial, last: Measurement) -> RunningTrial:
        return replace(running, step=last.step, value=last.metrics.get(self.objective.metric))
