"""What the commands say of a study folder of which a file is damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from builders import STUDY_FILE, study_text
from made_up_folders import made_up_folder

from tunectl.cli.main import app
from tunectl.commands.status import study_status
from tunectl.commands.study_list import tracked_studies
from tunectl.core.folders import StudyFolder
from tunectl.core.records import TrialResult
from tunectl.language.study_reader import parse_study
from tunectl.session.outcome_index import refresh
from tunectl.space.trial_plan import plan_trials
from tunectl.store.index import Index
from tunectl.store.plan_file import read_plan
from tunectl.store.trial_files import read_trial, write_result

TEXT = study_text({"learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}"}, search="{trials: 3, seed: 0}")
SPEC = parse_study(TEXT, STUDY_FILE)


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return made_up_folder(tmp_path / "runs" / "study", TEXT, lambda trial: 0.1 * (trial.trial + 1))


def said_of(folder: StudyFolder) -> list[str]:
    said: list[str] = []
    study_status(folder.path, said.append)
    return said


@pytest.mark.parametrize("is_gone", [True, False], ids=["missing", "emptied"])
def test_measurements_that_are_missing_beside_a_completed_result_are_said(folder: StudyFolder, is_gone: bool) -> None:
    folder.index.unlink()
    path = folder.trial(1).measurements
    path.unlink() if is_gone else path.write_bytes(b"")
    assert said_of(folder) == [
        "warning: trial 1: trials/00001/measurements.jsonl: is missing or empty, but the trial completed 100 steps"
    ]
    (row,) = tracked_studies(folder.path)
    assert "measurements.jsonl" in row.problem
    assert row.completed == 3


def test_the_last_measurements_that_were_cut_off_are_missed(folder: StudyFolder) -> None:
    folder.index.unlink()
    home = folder.trial(1)
    write_result(home, TrialResult(1, "completed", final_step=100))
    home.measurements.write_bytes(b"".join(home.measurements.read_bytes().splitlines(keepends=True)[:2]))
    assert said_of(folder) == [
        "warning: trial 1: trials/00001/measurements.jsonl: has 2 of the 3 lines that the trial wrote"
    ]


def test_measurements_that_the_index_has_are_written_again_by_the_next_run(folder: StudyFolder) -> None:
    before, said = read_trial(folder.trial(1)).measurements, []
    folder.trial(1).measurements.unlink()
    with Index.open_for_writing(folder.index) as index:
        outcomes = refresh(folder, read_plan(folder.plan), SPEC.objective, index, said.append)
    assert read_trial(folder.trial(1)).measurements == before
    assert [item.damage for item in outcomes] == ["", "", ""]
    assert said == [f"{folder.trial(1).measurements}: was damaged and is restored: the index has what is missing there"]
    assert said_of(folder) == []


def test_damage_that_stays_is_said_every_time(folder: StudyFolder) -> None:
    folder.index.unlink()
    folder.trial(1).measurements.unlink()
    for _ in range(2):
        said: list[str] = []
        with Index.open_for_writing(folder.index) as index:
            refresh(folder, read_plan(folder.plan), SPEC.objective, index, said.append)
        assert len(said) == 1
        assert said_of(folder) == said


PROVENANCE = {
    "no object": "[]",
    "runs that are no list": '{"runs": 3}',
    "a command that is a number": '{"runs": [{"command": 7}]}',
    "a file that is text": '{"runs": [{"study_file": "x"}]}',
    "a commit that is an object": '{"runs": [{"git": {"commit": {}}}]}',
    "a time that is a list": '{"runs": [{"time": [1]}]}',
    "nested": "[" * 50_000,
    "a number of 10,000 digits": '{"runs": ' + "9" * 10_000 + "}",
}


@pytest.mark.parametrize("content", PROVENANCE.values(), ids=PROVENANCE.keys())
def test_a_provenance_that_is_damaged_is_said_and_ends_ls_for_no_study(folder: StudyFolder, content: str) -> None:
    made_up_folder(folder.path.parent / "zz", TEXT, lambda _trial: 0.5)
    folder.provenance.write_text(content)
    damaged, sound = tracked_studies(folder.path.parent)
    assert "provenance.json: is damaged" in damaged.problem
    assert (damaged.completed, damaged.command) == (3, "")
    assert (sound.problem, sound.completed) == ("", 3)


def test_a_provenance_in_which_one_letter_was_changed_is_damaged(folder: StudyFolder) -> None:
    folder.provenance.write_text(folder.provenance.read_text().replace("/usr/bin/tunectl", "/usr/bin/tunecti"))
    assert said_of(folder) == [f"warning: {folder.provenance}: is damaged (its content does not match its checksum)"]


def test_a_study_file_that_was_changed_in_the_folder_is_said(folder: StudyFolder) -> None:
    with Index.open_for_writing(folder.index) as index:
        index.put_fingerprints({"study.yaml": "another one's"})
    (line,) = said_of(folder)
    assert line.startswith(f"warning: {folder.study}: has changed since the last run")


def test_a_folder_that_lost_its_plan_is_listed_with_what_is_wrong(folder: StudyFolder) -> None:
    folder.plan.unlink()
    (row,) = tracked_studies(folder.path.parent)
    assert "its plan.jsonl is missing" in row.problem


def test_a_result_of_an_earlier_version_is_read_without_a_word(folder: StudyFolder) -> None:
    content = json.loads(folder.trial(0).result.read_text())
    assert not {"crc32", "measurements"} & content.keys(), "the folder is as an earlier version left it"
    assert said_of(folder) == []


def test_every_command_that_reads_a_folder_says_its_damage(
    folder: StudyFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.path.parent)
    folder.index.unlink()
    folder.trial(1).measurements.unlink()
    place = str(folder.path)
    commands = [["status", place], ["next", place], ["export", place, "--to", "csv"], ["ls", "--long"]]
    for words in [*commands, ["report", place]]:
        app(words, standalone_mode=False)
        printed = capsys.readouterr()
        assert "trials/00001/measurements.jsonl: is missing or empty" in printed.out + printed.err, words


@pytest.mark.parametrize("content", [None, "{", '{"procedure": 3, "procedure": 4}', '{"procedure": "x", "crc32": 1}'])
def test_what_a_procedure_was_asked_is_missed_or_said_to_be_damaged(tmp_path: Path, content: str | None) -> None:
    sweep = replace(plan_trials(SPEC)[0], trial=3, point=9, kind="sweep")
    folder = made_up_folder(tmp_path / "runs" / "sweep", TEXT, lambda _trial: 0.5, more=(sweep,))
    if content is not None:
        folder.procedure.write_text(content)
    (line,) = said_of(folder)
    assert line.startswith(f"warning: {folder.procedure}: is {'missing' if content is None else 'damaged'}")
    assert tracked_studies(folder.path)[0].problem
