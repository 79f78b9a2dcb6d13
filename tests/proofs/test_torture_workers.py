"""scripts/torture_workers.py: it counts what it looks for, and finds the processes that it is to disturb."""

from __future__ import annotations

import importlib
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module


def test_faults_that_came_most_seldom_come_first_and_those_that_came_often_enough_no_more(
    script: Callable[[str], ModuleType],
) -> None:
    rounds = script("worker_rounds")
    course = rounds.Course(2, random.Random(0), 0.0)
    course.ledger.sent.update(dict.fromkeys(rounds.KINDS, 2))
    assert course.wanted() == []
    course.ledger.sent[rounds.KILL_TREE] = 0
    course.ledger.sent[rounds.FULL] = 1
    assert course.wanted() == [rounds.KILL_TREE, rounds.FULL]


@pytest.mark.parametrize("count", ["hung", "failed", "survivors", "lost", "bytes", "remnants", "tracebacks"])
def test_whatever_goes_wrong_once_keeps_the_folders(
    script: Callable[[str], ModuleType], count: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workers = script("disturbed_workers")
    place, ledger = tmp_path / "kept", workers.Ledger()
    place.mkdir()
    with workers.kept_if_wrong(place, ledger):
        setattr(ledger, count, 1)
    assert place.exists()
    assert str(place) in capsys.readouterr().out
    with workers.kept_if_wrong(place, workers.Ledger()):
        pass
    assert not place.exists()


def test_what_offers_and_claims_have_left_is_found(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    workers = script("disturbed_workers")
    trial = tmp_path / "trials" / "00003"
    trial.mkdir(parents=True)
    for name in ("request.json", "result.json", "attempts.jsonl"):
        (trial / name).touch()
    assert workers.remnants(tmp_path) == []
    (tmp_path / "claimed" / "00004.host-12-ab").mkdir(parents=True)
    for name in ("claim.json", ".resume.pt.0123abcd.tmp"):
        (trial / name).touch()
    (tmp_path / "run.beat").touch()
    assert workers.remnants(tmp_path) == [
        *("claimed", "run.beat", "trials/00003/claim.json", "trials/00003/.resume.pt.0123abcd.tmp")
    ]
    assert workers.claims_of(tmp_path, 12) == ["00004.host-12-ab"]
    assert workers.claims_of(tmp_path, 1) == []


def test_the_process_of_a_trial_is_the_one_that_writes_its_log(
    script: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    workers = script("disturbed_workers")
    folder = tmp_path / "claimed" / "00004.host-12-ab"
    folder.mkdir(parents=True)
    with (
        open(folder / "log.txt", "w") as log,
        subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=log) as trial,
        subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as other,
    ):
        found = workers.trials_of(os.getpid())
        family = workers.descendants(os.getpid())
        for process in (trial, other):
            assert process.stdin is not None
            process.stdin.close()
    assert [process.pid for process in found] == [trial.pid]
    assert {trial.pid, other.pid} <= {process.pid for process in family}
