"""What a program sees of a run: every trial's start and end in order, the messages, and the end with its findings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunectl.analysis.findings.findings import Finding
from tunectl.core.folders import StudyFolder
from tunectl.core.records import PlannedTrial, TrialOutcome
from tunectl.execution.devices import CPU
from tunectl.execution.jobs import TrialEnded, TrialRetried, TrialStarted
from tunectl.execution.slots import make_slots
from tunectl.session.run_progress import RunningTrial, RunProgress
from tunectl.session.study_events import PROGRESS_SECONDS, StudyEvents, end_events
from tunectl.store.event_file import events_since

TRIAL = PlannedTrial(3, 1, 2, 0, (0.5,), {"learning_rate": 0.1}, 7)
SLOT = make_slots([CPU], count=1)[0]
PROGRESS = RunProgress(4, 1, 0, 0, (RunningTrial(3, 1, 0, 50, 100, 0.25),), None, 12.5)


@dataclass
class Heard:
    """A listener, and the messages."""

    events: list[dict[str, Any]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def take(self, event) -> None:
        self.events.append(dict(event))


def a_run(folder: StudyFolder, heard: Heard, *, keeps: bool = True) -> None:
    events = StudyEvents(folder, heard.messages.append, heard.take, keeps=keeps)
    events.training_started([TRIAL], 2)
    events.trial(TrialStarted(3, SLOT, 1, 99), 1)
    events.trial(TrialRetried(3, "crashed", "signal 9", 1), 1)
    events.progress(PROGRESS, 100.0)
    events.progress(PROGRESS, 100.0 + PROGRESS_SECONDS / 2)
    events.progress(PROGRESS, 100.0 + PROGRESS_SECONDS)
    found = TrialOutcome(TRIAL, "completed", best_value=float("inf"), best_step=50)
    events.trial_ended(TrialEnded(3, "completed", "", "", 1.0, 2), found)
    events.message("warning: something")
    events.run_ended("run", 0, [found], [Finding("search-boundary", "warning", "It crowds.", "widen it")])
    events.close()


def test_the_listener_gets_what_is_kept(tmp_path: Path) -> None:
    folder, heard = StudyFolder(tmp_path), Heard()
    a_run(folder, heard)
    assert [(item["number"], item["event"]) for item in heard.events] == [
        (1, "training_started"),
        (2, "trial_started"),
        (3, "trial_retried"),
        (4, "progress"),
        (5, "progress"),
        (6, "trial_ended"),
        (7, "message"),
        (8, "run_ended"),
    ]
    kept = list(events_since(folder, 0))
    assert kept[5]["best_value"] == "inf"
    kept[5]["best_value"] = float("inf")
    assert kept == heard.events
    assert heard.events[-1]["findings"] == [{"id": "search-boundary", "level": "warning", "sentence": "It crowds."}]
    assert heard.messages == []


def test_a_run_goes_on_without_the_file_and_says_so_once(tmp_path: Path) -> None:
    folder, heard = StudyFolder(tmp_path), Heard()
    folder.events.mkdir()
    a_run(folder, heard)
    assert [item["number"] for item in heard.events] == [None] * 8
    (message,) = heard.messages
    assert message.startswith(f"warning: {folder.events}: ")
    assert message.endswith("; the run goes on without it")


def test_nothing_is_written_where_there_was_nothing_to_train(tmp_path: Path) -> None:
    folder, heard = StudyFolder(tmp_path), Heard()
    a_run(folder, heard, keeps=False)
    assert len(heard.events) == 8
    assert list(tmp_path.iterdir()) == []


def test_the_end_of_a_command_is_kept_once_and_only_where_something_was_trained(tmp_path: Path) -> None:
    folder, heard = StudyFolder(tmp_path), Heard()

    def end(command: str) -> tuple[int | None, Any]:
        end_events(folder, heard.messages.append, heard.take, command=command, exit_code=0, outcomes=[])
        return heard.events[-1]["number"], heard.events[-1]["findings"]

    assert end("lr-sweep") == (None, None)
    assert list(tmp_path.iterdir()) == []
    events = StudyEvents(folder, heard.messages.append)
    events.training_started([TRIAL], 1)  # and its runner is killed
    events.close()
    assert end("retrain") == (2, None)
    assert end("retrain") == (None, None)
    assert [(item["event"], item.get("command")) for item in events_since(folder, 0)] == [
        ("training_started", None),
        ("run_ended", "retrain"),
    ]
