"""`train-final`, from a finished study to a model: what it writes, and that `test` is looked at once, whatever happens.

Trials run in this process, so that it can be stopped at any place; one test calls the command itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up_folders import made_up_folder
from misbehaving import regression
from study_calls import Called
from watchers import Silent

from tunectl.commands.train_final import FinalOptions, FinalResult, train_final
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.own_code_request import Request, request_in
from tunectl.core.records import Scalar, TrialRequest, TrialSeconds, WorkloadReference
from tunectl.execution.backends.backend import BackendEvent, BackendReady, ProcessEnded, ProcessStarted
from tunectl.execution.devices import CPU
from tunectl.execution.slots import Slot, make_slots
from tunectl.language.study_spec import ResourcesSection
from tunectl.session.checked_study import check_study
from tunectl.session.training_trials import RunOptions
from tunectl.session.trial_requests import trial_request
from tunectl.store.plan_file import read_plan
from tunectl.store.trial_files import write_request, write_result
from tunectl.training.final_model import load_final
from tunectl.training.final_trial import run_final
from tunectl.workloads.workload import Workload

NOW = "2026-03-01T12:00:00+00:00"


class Killed(BaseException):
    """The process ends here."""


class SameProcess:
    """A backend that runs each trial at once in this process, as the worker would."""

    name = "local"

    def __init__(self, factory: Callable[..., Workload] = regression) -> None:
        self.factory = factory
        self.events: list[BackendEvent] = []

    def slots(self, resources: ResourcesSection, count: int | None = None) -> tuple[Slot, ...]:
        return make_slots([CPU], 1, resources.threads_per_trial, count, cores=1)

    def start(self, *, own_code: bool = False) -> None: ...

    def load(self, workload: WorkloadReference, arguments: Mapping[str, Scalar]) -> None: ...

    def wait_ready(self, stop_requested: Callable[[], int] = lambda: 0) -> BackendReady | None:
        return BackendReady(0.0)

    def probe(self, request: Request, slot: Slot, stop_requested: Callable[[], int] = lambda: 0) -> int | None:
        return 100

    def hold(self, fd: int) -> None: ...

    def launch(self, trial: int, folder: Path, slot: Slot, attempt: int) -> None:
        home = TrialFolder(folder)
        request = request_in(home.request.read_bytes())
        assert isinstance(request, TrialRequest)
        result = run_final(request, home, self.factory, device="cpu", stop=lambda: False, seconds=TrialSeconds())
        assert result is not None
        write_result(home, replace(result, attempt=attempt))
        self.events += [ProcessStarted(trial, os.getpid()), ProcessEnded(trial, 0, None, 0.0)]

    def poll(self, timeout_seconds: float) -> Sequence[BackendEvent]:
        events, self.events = self.events, []
        return events

    def stop(self, trial: int) -> None: ...

    def kill(self, trial: int) -> None: ...

    def close(self) -> None: ...


def finished(place: Path, study: Path) -> StudyFolder:
    """A study that was run: trial 1 is its best, at step 50 of 100."""
    folder = made_up_folder(place, study.read_text(), lambda plan: 0.5 - plan.trial / 10, file=study)
    checked = check_study(study, study.parent)
    for trial in read_plan(folder.plan):
        write_request(
            folder.trial(trial.trial), trial_request(checked.spec, checked.reference, checked.signature, trial)
        )
    return folder


@pytest.fixture
def study(write_study: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    monkeypatch.chdir(tmp_path)
    return finished(tmp_path / "runs" / "small", write_study(steps=100))


def train(
    folder: StudyFolder, to: Path | None = None, factory: Callable[..., Workload] = regression, **options: Any
) -> FinalResult:
    asked = FinalOptions(**{"place": folder.path, "trial": None, "now": NOW, "token": os.urandom(4).hex(), **options})
    found = train_final(asked, RunOptions(folder=to), Silent(), SameProcess(factory))
    assert isinstance(found, FinalResult)
    return found


def test_the_command_writes_a_model_and_is_refused_a_second_time(
    study: StudyFolder, tunectl: Callable[..., Called]
) -> None:
    called = tunectl("train-final", study.path, "--json")
    assert called.code == 0, called.err
    answer, folder = called.json(), StudyFolder(study.path.with_name("small.final"))
    assert (answer["trial"], answer["updates"], answer["trained_examples"], answer["test_looks"]) == (1, 50, 192, 1)
    assert load_final(folder.path).evaluate("test") == answer["test"]
    refused = tunectl("train-final", study.path)
    assert (refused.code, refused.out) == (2, "")
    assert "its split test was evaluated before" in refused.err
    assert f"test/distance {answer['test']['test/distance']:.4g}" in refused.err
