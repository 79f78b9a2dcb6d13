"""Tests cli/ls.py and status.py: damage, and retrains beside the trials of the search."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from builders import study_text
from made_up_folders import made_up_folder

from tunectl.cli.main import app
from tunectl.core.folders import StudyFolder
from tunectl.language.study_reader import parse_study
from tunectl.space.trial_plan import plan_trials

GOAL = "how good can it get with little effort?"
RATE = {"learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}"}


def made(place: Path, retrains: int = 0, **sections: str) -> StudyFolder:
    text = study_text(RATE, goal=GOAL, search="{trials: 3}", **sections)
    search = plan_trials(parse_study(text, place.parent / "a_study.yaml"))
    more = tuple(replace(search[0], trial=3 + n, repeat=1 + n, trial_kind="retrain") for n in range(retrains))
    return made_up_folder(place, text, lambda trial: 0.1 * (1 + trial.trial), more=more)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return Path("runs")


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    app(list(words), standalone_mode=False)
    return capsys.readouterr().out


def cells(line: str) -> list[str]:
    return [cell for cell in line.split("  ") if cell.strip()]


def test_damage_is_said_below_the_table_and_the_goal_stays(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made(here / "one")
    made(here / "two")
    folder.index.unlink()
    for trial in range(3):
        folder.trial(trial).measurements.unlink()
    folder.provenance.write_text("{")
    lines = printed(capsys, "ls").splitlines()
    assert [line.count(GOAL) for line in lines] == [0, 0, 1, 1, 0, 0], "a heading, a line, and two studies"
    assert lines[4] == ""
    said = [f"trial {n}: trials/0000{n}/measurements.jsonl: is missing or empty" for n in range(3)]
    assert lines[5].startswith(f"runs/one: {said[0]}")
    assert [words in lines[5] for words in said] == [True] * 3
    assert lines[5].endswith("; and 1 more")


def test_a_problem_that_names_its_file_is_not_said_with_the_folder_twice(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(here / "one").study.write_text("nonsense: [")
    last = printed(capsys, "ls").splitlines()[-1]
    assert last.startswith("runs/one/study.yaml: cannot be read as a study by this version: ")
    assert last.count("runs/one/study.yaml") == 2, "the second is the place in the file"


def test_a_table_of_sound_studies_ends_with_its_last_study(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(here / "one")
    assert printed(capsys, "ls").splitlines()[-1].startswith("runs/one")


@pytest.mark.parametrize(
    ("retrains", "lost", "run", "status"),
    [
        (0, [], "3 of 3", "3 trials: 3 completed"),
        (1, [], "3 of 3 + 1 retrain", "3 trials + 1 retrain: 4 completed"),
        (4, [], "3 of 3 + 4 retrains", "3 trials + 4 retrains: 7 completed"),
        (4, [1, 5, 6], "2 of 3 + 2 of 4 retrains", "3 trials + 4 retrains: 3 pending, 4 completed"),
    ],
)
def test_retrains_are_counted_beside_the_trials_of_the_search(
    here: Path, capsys: pytest.CaptureFixture[str], retrains: int, lost: list[int], run: str, status: str
) -> None:
    folder = made(here / "one", retrains)
    for trial in lost:
        folder.trial(trial).result.unlink()
    assert cells(printed(capsys, "ls").splitlines()[2])[1].strip() == run
    assert f"  trials           {run} run, 0 infeasible" in printed(capsys, "ls", "--long")
    assert printed(capsys, "status", "runs/one").startswith(f"study_file: {status};")
    (study,) = json.loads(printed(capsys, "ls", "--json"))["studies"]
    ended = 3 + retrains - len(lost)
    assert (study["planned"], study["run"], study["retrains"]) == (3 + retrains, ended, retrains)
    assert study["retrains_run"] == sum(trial not in lost for trial in range(3, 3 + retrains))
    found = json.loads(printed(capsys, "status", "runs/one", "--json"))
    assert (found["trials"], found["retrains"]) == (3 + retrains, retrains)
