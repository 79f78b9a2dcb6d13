"""The events of a run, as programs follow them: kept in the study folder and passed to a listener."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, assert_never

from tunectl.core.folders import StudyFolder
from tunectl.core.path_errors import path_error
from tunectl.core.records import PlannedTrial, TrialOutcome
from tunectl.execution.jobs import TrialEnded, TrialRetried, TrialSetAside, TrialStarted
from tunectl.session.run_progress import RunProgress
from tunectl.store.event_file import FORMAT, EventFile

if TYPE_CHECKING:
    from tunectl.analysis.findings.findings import Finding

PROGRESS_SECONDS = 10.0
"""The time between two events of progress."""

EventListener = Callable[[Mapping[str, Any]], None]


class StudyEvents:
    """Keeps the events of a run in `events.jsonl`, and calls the listener with each.

    Without `keeps` only the listener gets them, without a number: nothing is written where there is nothing to train.
    Where the file cannot be written, the run goes on: `report` is called once, and the listener gets the events that
    follow without a number.
    """

    def __init__(
        self,
        folder: StudyFolder,
        report: Callable[[str], None],
        listener: EventListener | None = None,
        *,
        keeps: bool = True,
    ) -> None:
        self._folder, self._report, self._listener = folder, report, listener
        self._last_progress = -PROGRESS_SECONDS
        self._file: EventFile | None = None
        try:
            self._file = EventFile(folder) if keeps else None
        except OSError as error:
            self._lost(error)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.__exit__(None, None, None)
            self._file = None

    def training_started(self, left: Sequence[PlannedTrial], slots: int) -> None:
        """Training begins: these trials are left, and this number of slots is free."""
        self._put("training_started", trials=[trial.trial for trial in left], slots=slots)

    def trial(self, event: TrialStarted | TrialRetried | TrialSetAside, setting: int) -> None:
        """An attempt of a trial has begun, or ended without a result: another one follows, now or after a pause."""
        match event:
            case TrialStarted():
                self._put(
                    "trial_started",
                    trial=event.trial,
                    setting=setting,
                    attempt=event.attempt,
                    slot=event.slot.index,
                    device=event.device,
                    **({"where": event.where} if event.where else {}),
                )
            case TrialRetried():
                self._put(
                    "trial_retried",
                    trial=event.trial,
                    setting=setting,
                    attempt=event.attempt,
                    reason=event.reason,
                    message=event.message,
                )
            case TrialSetAside():
                self._put("trial_paused", trial=event.trial, setting=setting, attempt=event.attempt)
            case _:
                assert_never(event)

    def trial_ended(self, event: TrialEnded, found: TrialOutcome) -> None:
        """A trial has ended, or was stopped (`cancelled`: the next run continues it)."""
        self._put(
            "trial_ended",
            trial=event.trial,
            setting=found.plan.setting,
            kind=found.plan.trial_kind,
            state=event.state if event.state == "cancelled" else found.state,
            reason=found.reason,
            message=found.message,
            best_value=found.best_value,
            best_step=found.best_step,
            final_step=found.final_step,
            infeasible_step=found.infeasible_step,
            hyperparameters=dict(found.plan.hyperparameters),
        )

    def progress(self, progress: RunProgress, now: float) -> None:
        """How far the run is, at most every PROGRESS_SECONDS; `now` is a time of any clock in seconds."""
        if now - self._last_progress < PROGRESS_SECONDS:
            return
        self._last_progress = now
        best = progress.best
        self._put(
            "progress",
            trials=progress.total,
            ended=progress.done,
            infeasible=progress.infeasible,
            failed=progress.failed,
            seconds_left=progress.seconds_left,
            best=None if best is None else {"trial": best.plan.trial, "value": best.best_value, "step": best.best_step},
            running=[asdict(trial) for trial in progress.running],
        )

    def message(self, text: str) -> None:
        """A message to the user."""
        self._put("message", text=text)

    def run_ended(self, exit_code: int, outcomes: Sequence[TrialOutcome], findings: Sequence[Finding]) -> None:
        """The command has ended, with what it found."""
        states = Counter(item.state for item in outcomes)
        said = [{"id": item.id, "level": item.level, "sentence": item.sentence} for item in findings]
        self._put("run_ended", exit_code=exit_code, states=dict(sorted(states.items())), findings=said)

    def _put(self, event: str, **content: Any) -> None:
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"format": FORMAT, "number": None, "time": time, "event": event, **content}
        if self._file is not None:
            try:
                line = self._file.append(time, event, content)
            except OSError as error:
                self._lost(error)
        if self._listener is not None:
            self._listener(line)

    def _lost(self, error: OSError) -> None:
        self.close()
        self._report(f"warning: {path_error(self._folder.events, 'written', error)}; the run goes on without it")
