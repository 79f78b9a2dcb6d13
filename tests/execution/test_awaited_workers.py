"""What a run that starts no workers says about them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunectl.core.folders import StudyFolder
from tunectl.execution.awaited_workers import AGAIN_SECONDS, AwaitedWorkers


class Case:
    def __init__(self, folder: Path) -> None:
        self.now, self.said = 0.0, list[str]()
        self.workers = AwaitedWorkers(StudyFolder(folder), self.said.append, lambda: self.now)

    def look(self, offered: int, at_work: int) -> list[str]:
        self.said.clear()
        self.workers.look(offered=offered, at_work=at_work)
        return list(self.said)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path / "my study")


def test_the_command_of_a_worker_is_said_at_once_and_with_its_whole_path(case: Case, tmp_path: Path) -> None:
    assert case.said == [
        "trials wait for workers: start some, on any host that sees this folder, by "
        f"`tunectl worker '{tmp_path}/my study'`"
    ]


def test_where_workers_have_trials_already_none_is_asked_for(tmp_path: Path) -> None:
    said: list[str] = []
    AwaitedWorkers(StudyFolder(tmp_path), said.append, lambda: 0.0, at_work=1)
    assert said == [f"workers have 1 trial already; `tunectl worker {tmp_path}` starts another worker"]


def test_it_is_said_once_more_where_no_worker_has_come(case: Case, tmp_path: Path) -> None:
    assert case.look(3, 0) == []
    case.now = AGAIN_SECONDS
    assert case.look(0, 0) == [], "nothing is offered yet"
    assert case.look(3, 0) == [
        "no worker has taken a trial for 30 s; run "
        f"`tunectl worker '{tmp_path}/my study'` on a host that sees this folder"
    ]
    case.now = 10 * AGAIN_SECONDS
    assert case.look(3, 0) == []


def test_it_is_not_said_again_where_one_has_come(case: Case) -> None:
    assert case.look(2, 1) == []
    case.now = 10 * AGAIN_SECONDS
    assert case.look(3, 0) == []
