"""The shell completes study folders and, behind them, their trials."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tunectl.cli.main import app
from tunectl.cli.shell_completion import complete_place


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for trial in (0, 1, 10, 11):
        (tmp_path / "runs/first/trials" / f"{trial:05d}").mkdir(parents=True)
    (tmp_path / "runs/first/plan.jsonl").touch()
    (tmp_path / "runs/second").mkdir()
    (tmp_path / "runs/.hidden").mkdir()
    (tmp_path / "runs/file").touch()


@pytest.mark.parametrize(
    ("begun", "found"),
    [
        ("", ["runs/"]),
        ("runs/", ["runs/first/", "runs/second/"]),
        ("runs/s", ["runs/second/"]),
        ("runs/first/", ["runs/first/0", "runs/first/1", "runs/first/10", "runs/first/11"]),
        ("runs/first/1", ["runs/first/1", "runs/first/10", "runs/first/11"]),
        ("no/such/", []),
    ],
)
def test_folders_are_completed_and_behind_a_study_its_trials(begun: str, found: list[str]) -> None:
    assert complete_place(begun) == found


def test_absolute_folders_are_completed_from_the_root(tmp_path: Path) -> None:
    assert complete_place(f"{tmp_path}/runs/s") == [f"{tmp_path}/runs/second/"]


def test_the_shell_gets_the_trials_of_the_folder_that_was_typed_before(monkeypatch: pytest.MonkeyPatch) -> None:
    words = {"COMP_WORDS": "tunectl logs runs/first 1", "COMP_CWORD": "3", "_TUNECTL_COMPLETE": "complete_bash"}
    found = CliRunner().invoke(app, [], prog_name="tunectl", env=words)
    assert found.stdout.split() == ["1", "10", "11"]
