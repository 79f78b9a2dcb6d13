"""Requests that a run cannot take or answer. Tests request_desk.py, beside tests/commands/test_control.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from builders import study_text
from made_up_folders import made_up_folder
from watchers import Silent

from tunectl.core.records import PlannedTrial
from tunectl.execution.jobs import Tick
from tunectl.execution.runner_lock import holder, own_mark
from tunectl.execution.stop_signals import StopRequests
from tunectl.language.study_reader import load_study
from tunectl.session.open_study import OpenStudy, open_study
from tunectl.session.request_desk import RequestDesk
from tunectl.session.run_at_work import RunAtWork
from tunectl.session.run_progress import Tally
from tunectl.store import request_files
from tunectl.store.request_files import RequestAnswer, RunRequest


@pytest.fixture
def study(tmp_path: Path) -> Iterator[OpenStudy]:
    folder = made_up_folder(tmp_path / "runs" / "s", study_text(), lambda _: 0.5, file=tmp_path / "s.yaml")
    with open_study(load_study(tmp_path / "s.yaml"), folder.path, Silent()) as opened:
        yield opened


class Desk:
    """A desk of a run that trains chosen trials, with what it said."""

    def __init__(self, study: OpenStudy) -> None:
        self.said: list[str] = []
        self.now = 0.0
        trials: dict[int, PlannedTrial] = {trial.trial: trial for trial in study.trials}
        run = RunAtWork(study, trials, set(), Tally(study.spec.objective, {}, 0.0))
        self.study, self.stops = study, StopRequests()
        self.desk = RequestDesk(run, self.stops, self.said.append, lambda: self.now)

    def ask(self, *requests: RunRequest, running: int = 1) -> list[RequestAnswer | None]:
        names = [request_files.send(self.study.folder, request) for request in requests]
        self.tick(running)
        return [request_files.read_answer(self.study.folder, name) for name in names]

    def tick(self, running: int) -> None:
        self.now += 1
        self.desk(Tick(running, 0))


def test_a_pause_is_answered_when_no_trial_runs_any_more(study: OpenStudy) -> None:
    desk = Desk(study)
    name = request_files.send(study.folder, RunRequest("pause", own_mark()))
    desk.tick(running=2)
    assert request_files.read_answer(study.folder, name) is None
    assert study.control.sets_aside
    found = holder(study.folder.lock)
    assert found is not None
    assert found.is_paused
    desk.tick(running=0)
    assert request_files.read_answer(study.folder, name) == RequestAnswer(True, "paused: no trial is running")
    assert desk.ask(RunRequest("resume", own_mark())) == [RequestAnswer(True, "the run goes on")]
    assert not study.control.is_paused


def test_a_second_pause_is_answered_and_the_run_says_it_once(study: OpenStudy) -> None:
    desk, pause = Desk(study), RunRequest("pause", own_mark())
    assert desk.ask(pause, pause, running=0) == [RequestAnswer(True, "paused: no trial is running")] * 2
    assert desk.ask(pause, running=0) == [RequestAnswer(True, "paused: no trial is running")]
    assert [line.split(":")[0] for line in desk.said] == ["paused by `tunectl pause`"]
    desk.ask(replace(pause, number=1), running=0)  # --let-run
    assert desk.said[1].startswith("paused by `tunectl pause`: no further trial is started until")


@pytest.mark.parametrize(("lets_run", "said"), [(0, "no trial is running"), (1, "1 trial still runs to the end")])
def test_a_pause_is_answered_when_no_worker_can_take_an_offered_trial_any_more(
    study: OpenStudy, lets_run: int, said: str
) -> None:
    desk = Desk(study)
    name = request_files.send(study.folder, RunRequest("pause", own_mark(), number=lets_run))
    desk.now += 1
    desk.desk(Tick(lets_run, 0, offered=3))
    assert request_files.read_answer(study.folder, name) is None
    desk.desk(Tick(lets_run, 3))
    answer = request_files.read_answer(study.folder, name)
    assert answer is not None
    assert answer.message.startswith(f"paused: {said}")


def test_what_is_open_when_the_run_ends_is_answered(study: OpenStudy) -> None:
    desk = Desk(study)
    name = request_files.send(study.folder, RunRequest("pause", own_mark()))
    desk.tick(running=2)
    desk.desk.close()
    assert request_files.read_answer(study.folder, name) == RequestAnswer(False, "the run has ended")


def test_a_command_that_trains_chosen_trials_gets_no_others(study: OpenStudy) -> None:
    (answer,) = Desk(study).ask(RunRequest("add", own_mark(), number=3, before=1))
    assert answer is not None
    assert (answer.done, answer.message) == (
        False,
        "the command at work trains chosen trials alone; add trials when it has ended",
    )


def test_a_request_to_stop_counts_once_however_often_it_is_made(study: OpenStudy) -> None:
    desk = Desk(study)
    stop = RunRequest("stop", own_mark(), number=1)
    assert (
        desk.ask(stop, stop, RunRequest("stop", "elsewhere:1:2", number=2))[:2] == [RequestAnswer(True, "it stops")] * 2
    )
    assert desk.stops() == 1


def test_what_cannot_be_read_or_taken_is_refused_or_said_once(study: OpenStudy, tmp_path: Path) -> None:
    desk = Desk(study)
    names = [request_files.send(study.folder, RunRequest("stop", own_mark(), number=1)) for _ in range(2)]
    damaged, linked = (study.folder.requests / f"{name}.json" for name in names)
    damaged.write_text('{"action": "dance"}')
    linked.rename(tmp_path / "elsewhere")
    linked.symlink_to(tmp_path / "elsewhere")
    for _ in range(3):
        desk.tick(running=1)
    assert request_files.read_answer(study.folder, names[0]) == RequestAnswer(
        False, "the request cannot be read by this version of tunectl"
    )
    assert len(desk.said) == 1
    assert "is a link" in desk.said[0]
    assert desk.stops() == 0
