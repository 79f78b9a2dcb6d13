"""Requests to a study while it runs, and before. Tests commands/control.py, run_at_work.py and stopped_trials.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import study_text
from made_up_folders import made_up_folder
from study_calls import Called

from tunectl.commands import control
from tunectl.core.folders import StudyFolder
from tunectl.core.records import WorkloadReference
from tunectl.execution.runner_lock import Holder, own_mark
from tunectl.language.study_spec import ResourcesSection
from tunectl.session.run_requests import Asker
from tunectl.store import offered_trials, request_files, run_state
from tunectl.store.offered_trials import Offer
from tunectl.store.plan_file import read_plan
from tunectl.store.request_files import RunRequest
from tunectl.store.run_state import RunState, WorkerNeeds


@pytest.fixture
def folder(tmp_path: Path, write_study: Callable[..., Path]) -> StudyFolder:
    """A study of one trial, which has ended."""
    file = write_study(trials=1)
    return made_up_folder(tmp_path / "runs" / "small", file.read_text(), lambda _: 0.5, file=file)


def test_requests_that_a_run_finds_are_obeyed_refused_or_without_effect(
    folder: StudyFolder, tunectl: Callable[..., Called]
) -> None:
    added = tunectl("add", folder.path, "--trials", 3)
    assert added.out.startswith("3 more trials (search.trials: 1, now 4)\n`tunectl run small.yaml --dir ")
    assert tunectl("stop", folder.path / "3").code == 0
    here = own_mark()  # the command runs in this process
    asked = {
        "stale": RunRequest("stop", "elsewhere:1:2", number=1),
        "stop": RunRequest("stop trial", here, trial=2),
        "ended": RunRequest("stop trial", here, trial=0),
        "missing": RunRequest("stop trial", here, trial=99),
        "again": RunRequest("resume trial", here, trial=3),
        "add": RunRequest("add", here, number=6, before=4, token="one"),
        "late": RunRequest("add", here, number=6, before=4, token="other"),
        "resume": RunRequest("resume", here),
    }
    names = {key: request_files.send(folder, request) for key, request in asked.items()}
    called = tunectl("run", "small.yaml", "--slots", 1)
    found = {key: request_files.read_answer(folder, name) for key, name in names.items()}

    assert called.code == 0
    assert "`tunectl add` has raised search.trials from 1 to 4" in called.messages
    said = {key: (answer.done, answer.message) for key, answer in found.items() if answer is not None}
    assert said["stale"] == (False, "the request was for an earlier run, which has ended")
    assert said["stop"][0]
    assert "trial 2 is cancelled, before its first step" in said["stop"][1]
    assert said["ended"] == (False, "trial 0 has ended already: it is completed")
    assert said["missing"] == (False, "--trial 99: expected a trial from 0 to 3")
    assert said["again"] == (True, "trial 3 is run again")
    assert said["add"] == (True, "2 more trials (search.trials: 4, now 6)")
    assert said["late"] == (False, "search.trials was 4 and is 6 now; nothing was added")
    assert found["late"] is not None
    assert found["late"].again
    assert said["resume"] == (True, "the run is at work and was not paused")

    events = [json.loads(line) for line in tunectl("status", folder.path, "--events").out.splitlines()]
    texts = [event["text"] for event in events if event["event"] == "message"]
    assert "asked by `tunectl add`: 2 more trials (search.trials: 4, now 6)" in texts
    assert "asked by `tunectl stop`: trial 2 is stopped for good" in texts
    assert all(text in called.messages for text in texts)

    status = tunectl("status", folder.path, "--json").json()
    assert status["states"] | {"completed": 5, "cancelled": 1} == status["states"]
    assert status["interrupted"] == 0
    assert "5 completed, 1 cancelled; no runner is at work" in tunectl("status", folder.path).out
    assert status["damage"] == []
    assert len(read_plan(folder.plan)) == 6
    rows = (folder.tables / "trials.csv").read_text().splitlines()
    assert [row.split(",")[2] for row in rows[1:]] == ["completed"] * 2 + ["cancelled"] + ["completed"] * 3


def test_a_procedure_needs_each_of_its_trials(tmp_path: Path, tunectl: Callable[..., Called]) -> None:
    folder = made_up_folder(tmp_path / "a", study_text(), lambda _: 0.5)
    folder.procedure.write_text("{}")
    stopped = tunectl("stop", folder.path / "0")
    assert stopped.code == 2
    assert "it belongs to a procedure, which needs the result of each of its trials" in stopped.err
    assert tunectl("add", folder.path, "--trials", 1).code == 2


def leave_to_workers(folder: StudyFolder) -> None:
    """What a run leaves behind that was detached: its trial is offered."""
    offered_trials.make_places(folder)
    offered_trials.offer_trial(folder, Offer(0, 2))
    needs = WorkerNeeds(WorkloadReference("toy:loads", "loads", module="toy"))
    run_state.write_run_state(folder, RunState("token", "left", needs, ResourcesSection(backend="external")))


def test_a_pause_does_not_reach_the_workers_of_a_run_that_was_left(
    folder: StudyFolder, tunectl: Callable[..., Called]
) -> None:
    assert "there is nothing to pause" in tunectl("pause", folder.path).messages
    leave_to_workers(folder)
    paused = tunectl("pause", folder.path)
    assert paused.code == 2
    assert "no run is at work, and a pause does not reach the workers that a run has left" in paused.messages
    assert f"and `tunectl stop {folder.path}` stops its trials" in paused.messages
    assert offered_trials.offered_trials(folder) == [0]


def test_a_run_that_is_stopped_while_it_leaves_its_trials_leaves_none(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    runners = [Holder(4711, "node-1"), None]

    class Leaving(Asker):
        """The run is asked, and leaves its trials all the same: it was about to."""

        def ask(self, *_request: object) -> str:
            leave_to_workers(folder)
            return "it stops"

        def wait_for_end(self, *_run: object) -> None: ...

    monkeypatch.setattr(control, "Asker", Leaving)
    monkeypatch.setattr(control, "_runner", lambda _folder: runners.pop(0))
    answered = control.stop_run(folder.path, print)
    assert answered.lines[1] == "0 trials of workers stopped, and what was offered is taken back"
    assert offered_trials.offered_trials(folder) == []
    assert not folder.run_state.exists()
