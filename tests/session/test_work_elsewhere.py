"""What a stop request means for trials at workers. Tests work_elsewhere.py; commands: test_studies_with_workers.py."""

from __future__ import annotations

import hashlib
import importlib.util
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import cast

import pytest
from fake_slurm import FakeSlurm

from tunectl.core.errors import TunectlError, UsageError
from tunectl.core.folders import StudyFolder
from tunectl.execution.backends.local import LocalBackend
from tunectl.execution.backends.offering import OfferingBackend
from tunectl.execution.run_control import RunControl
from tunectl.execution.stop_signals import StopRequests
from tunectl.language.study_spec import RaySection, ResourcesSection
from tunectl.session.open_study import OpenStudy
from tunectl.session.work_elsewhere import StopOrLeave, check_backend, code_files


@dataclass
class Study:
    """As much of an open study as is looked at."""

    folder: StudyFolder = field(default_factory=lambda: StudyFolder(Path("runs/x")))
    control: RunControl = field(default_factory=RunControl)


@dataclass
class Case:
    """A run on a backend, its stop requests, and the answers to its questions."""

    name: str = "slurm"
    answers: list[bool] | None = None
    study: Study = field(default_factory=Study)
    stops: StopRequests = field(default_factory=StopRequests)
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        backend = LocalBackend() if self.name == "local" else OfferingBackend(self.name)
        ask = None if self.answers is None else self.ask
        self.requested: Callable[[], int] = StopOrLeave(
            cast("OpenStudy", self.study), backend, self.stops, ask, self.said.append
        )

    def ask(self, question: str) -> bool:
        self.asked.append(question)
        assert self.answers is not None
        return self.answers.pop(0)

    def press(self, number: int = signal.SIGINT) -> int:
        self.stops.take_signal(number)
        return self.requested()

    @property
    def is_left(self) -> bool:
        return self.study.control.leaves


def test_trials_on_this_machine_are_stopped_by_each_request() -> None:
    case = Case("local", answers=[])
    assert [case.press(), case.press(signal.SIGTERM)] == [1, 2]
    assert not case.is_left


def test_the_first_ctrl_c_on_a_terminal_only_says_that_the_workers_go_on() -> None:
    case = Case(answers=[])
    assert [case.press(), case.requested()] == [0, 0]
    assert case.said == ["the workers go on without this command; press Ctrl-C again to leave it, or to end them"]
    assert not case.is_left
    assert case.stops() == 0, "the run goes on, also with what it plans when these trials have ended"


@pytest.mark.parametrize(
    ("name", "question"), [("slurm", "cancel the jobs"), ("ray", "cancel the jobs"), ("external", "end the trials")]
)
def test_the_second_one_asks_and_no_leaves_the_trials_at_work(name: str, question: str) -> None:
    case = Case(name, answers=[False])
    assert [case.press(), case.press()] == [0, 0]
    assert case.asked == [f"{question}? The trials save first; otherwise they go on without this command"]
    assert case.is_left
    assert case.said[-1] == "leaving the trials to their workers; `tunectl stop runs/x` ends them"


def test_yes_stops_the_trials_and_a_further_ctrl_c_kills_them() -> None:
    case = Case(answers=[True])
    assert [case.press(), case.press(), case.requested(), case.press()] == [0, 1, 1, 2]
    assert not case.is_left


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_has_to_end_leaves_the_trials_at_work(number: int) -> None:
    case = Case(answers=[])
    assert case.press(number) == 0
    assert case.is_left


def test_without_a_terminal_ctrl_c_leaves_the_trials_at_work() -> None:
    case = Case(answers=None)
    assert case.press() == 0
    assert case.is_left


def test_tunectl_stop_stops_the_trials_as_on_this_machine() -> None:
    case = Case(answers=[])
    case.stops.ask(1)
    assert case.requested() == 1
    case.stops.ask(2)
    assert case.requested() == 2
    assert not case.is_left


def test_only_trials_of_workers_can_be_left() -> None:
    check_backend(OfferingBackend("external"), ResourcesSection(), detach=True)
    check_backend(LocalBackend(), ResourcesSection(), detach=False)
    with pytest.raises(UsageError, match=r"add --backend external \(or slurm, ray\)"):
        check_backend(LocalBackend(), ResourcesSection(), detach=True)


@pytest.mark.parametrize("name", ["slurm", "ray"])
def test_an_engine_whose_library_is_missing_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(UsageError, match="not installed"):
        check_backend(OfferingBackend(name), ResourcesSection(backend=name))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("slurm", r"^backend slurm: Slurm does not answer .+: Unable to contact slurm controller.*; its controller"),
        ("ray", r"^backend ray: no Ray cluster answers at 127\.0\.0\.1:1: Connection refused; start one"),
    ],
)
def test_an_engine_that_does_not_answer_is_refused_before_a_folder_is_made(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    fake = FakeSlurm(tmp_path / "slurm", monkeypatch)
    resources = ResourcesSection(backend=name, ray=RaySection(address="127.0.0.1:1"))
    fake.fail("squeue", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    with pytest.raises(TunectlError, match=said):
        check_backend(OfferingBackend(name), resources, place=tmp_path / "x")
    check_backend(OfferingBackend(name), resources)  # what is in a folder goes on where it can
    fake.answer("squeue")
    if name == "slurm":
        check_backend(OfferingBackend(name), resources, place=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_workers_of_a_local_ray_cannot_be_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    resources = ResourcesSection(backend="ray", ray=RaySection(address="local"))
    check_backend(OfferingBackend("ray"), resources)
    with pytest.raises(UsageError, match="a local Ray ends with it"):
        check_backend(OfferingBackend("ray"), resources, detach=True)


def test_the_files_of_the_code_are_known_by_their_content(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("a = 1\n")
    assert code_files(str(file), ()) == {str(file): hashlib.sha256(b"a = 1\n").hexdigest()}
    assert code_files(None, ()) == {}
