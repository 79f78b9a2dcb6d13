"""Training the trials of an open study: what happens to them when something else goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import study
from made_up_folders import made_up_folder
from watchers import Silent

from tunectl.core.errors import FolderError
from tunectl.core.records import FactorySignature
from tunectl.execution.backends.local import LocalBackend
from tunectl.execution.devices import CPU
from tunectl.execution.runner_lock import own_mark
from tunectl.execution.shared_places import SharedPlaces
from tunectl.execution.slots import make_slots
from tunectl.execution.stop_signals import StopRequests
from tunectl.session import training_trials
from tunectl.session.checked_study import check_study
from tunectl.session.open_study import open_study
from tunectl.session.probed_study import ProbedWorkload
from tunectl.session.training_trials import RunOptions, train_trials
from tunectl.store import request_files
from tunectl.store.request_files import RunRequest

RATE = "{role: nuisance, range: [1e-3, 1], scale: log}"


class Noted(LocalBackend):
    """A backend that notes that it was closed."""

    def __init__(self, happened: list[str]) -> None:
        super().__init__()
        self.happened = happened

    def close(self) -> None:
        self.happened.append("the trials are gone")


def test_when_the_index_cannot_be_written_the_trials_end_before_the_folder_is_let_go(tmp_path: Path, monkeypatch):
    spec = study({"learning_rate": RATE}, search="{trials: 2}")
    file = tmp_path / "a.yaml"
    folder = made_up_folder(tmp_path / "out", spec.text, lambda _: 0.5, file=file)
    happened: list[str] = []

    def fails(*_words: Any, **_named: Any) -> None:
        raise FolderError("study.db: database is locked")

    monkeypatch.setattr(training_trials, "run_trials", fails)
    checked = check_study(file, tmp_path)
    probed = ProbedWorkload(Noted(happened), FactorySignature(open=True))

    with open_study(checked.spec, folder.path, Silent()) as at_work:
        with pytest.raises(FolderError, match="database is locked"):
            train_trials(
                at_work,
                at_work.trials,
                checked,
                probed,
                make_slots([CPU], count=1),
                RunOptions(),
                Silent(),
                StopRequests(),
            )
        assert happened == ["the trials are gone"]


def test_trials_share_the_machine_and_are_stopped_early_as_the_study_and_the_options_say(tmp_path: Path, monkeypatch):
    spec = study({"learning_rate": RATE}, search="{trials: 2, stop_early: {rule: median}}")
    file = tmp_path / "a.yaml"
    folder = made_up_folder(tmp_path / "out", spec.text, lambda _: 0.5, file=file)
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(training_trials, "run_trials", lambda *_words, **named: given.append(named))
    checked = check_study(file, tmp_path)
    probed = ProbedWorkload(LocalBackend(), FactorySignature(open=True))
    slots = make_slots([CPU], count=1)

    with open_study(checked.spec, folder.path, Silent()) as at_work:
        for _ in range(2):
            options, stops = RunOptions(waits=False), StopRequests()
            train_trials(at_work, at_work.trials, checked, probed, slots, options, Silent(), stops)
    places = given[0]["places"]
    assert isinstance(places, SharedPlaces)
    assert not places.rules.waits
    assert given[1]["places"] is places, "a later stage has the same"
    assert given[0]["hopeless"]() == {}
    probed.backend.close()


def test_a_stop_request_is_heard_before_a_trial_is_launched_and_none_is_then(tmp_path: Path, monkeypatch):
    spec = study({"learning_rate": RATE}, search="{trials: 2}")
    file = tmp_path / "a.yaml"
    folder = made_up_folder(tmp_path / "out", spec.text, lambda _: 0.5, file=file)
    name, stops = request_files.send(folder, RunRequest("stop", own_mark(), number=1)), StopRequests()

    def waits(*_words: Any, stop_requested: Callable[[], int], **_named: Any) -> None:
        assert stop_requested() == 1

    monkeypatch.setattr(training_trials, "begin_work", waits)
    monkeypatch.setattr(training_trials, "run_trials", lambda *_words, **_named: pytest.fail("a trial may run"))
    probed = ProbedWorkload(LocalBackend(), FactorySignature(open=True))
    checked, slots = check_study(file, tmp_path), make_slots([CPU], count=1)
    with open_study(checked.spec, folder.path, Silent()) as at_work:
        train_trials(at_work, at_work.trials, checked, probed, slots, RunOptions(), Silent(), stops)
    answer = request_files.read_answer(folder, name)
    assert answer is not None
    assert (answer.done, answer.message) == (True, "it stops")
