"""What the commands say of a study folder of which a file is damaged.

Tests session/damage.py, session/snapshot.py and store/checked_records.py through the commands.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from builders import STUDY_FILE, study_text
from made_up_folders import made_up_folder
from study_calls import Called

from tunectl.cli.main import app
from tunectl.commands.ls import tracked_studies
from tunectl.commands.report import report_study
from tunectl.commands.status import study_status
from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.core.records import TrialResult
from tunectl.language.study_reader import parse_study
from tunectl.session.open_study import open_study
from tunectl.session.outcome_index import refresh_index
from tunectl.session.study_evidence import ObjectiveChoice
from tunectl.space.trial_plan import plan_trials
from tunectl.store import json_lines
from tunectl.store.index import Index
from tunectl.store.plan_file import read_plan
from tunectl.store.trial_files import read_trial, write_result

TEXT = study_text({"learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}"}, search="{trials: 3, seed: 0}")
SPEC = parse_study(TEXT, STUDY_FILE)
RESTORED = "was damaged and has been restored from study.db"


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
    before, said = read_trial(folder.trial(1)).measurements, list[str]()
    folder.trial(1).measurements.unlink()
    with Index.open_for_writing(folder.index) as index:
        outcomes = refresh_index(folder, read_plan(folder.plan), SPEC.objective, index, said.append)
    assert read_trial(folder.trial(1)).measurements == before
    assert [item.damage for item in outcomes] == ["", "", ""]
    assert said == [f"warning: {folder.trial(1).measurements}: {RESTORED}"]
    assert said_of(folder) == []


def test_damage_that_stays_is_said_every_time(folder: StudyFolder) -> None:
    folder.index.unlink()
    folder.trial(1).measurements.unlink()
    for _ in range(2):
        said: list[str] = []
        with Index.open_for_writing(folder.index) as index:
            refresh_index(folder, read_plan(folder.plan), SPEC.objective, index, said.append)
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
    assert line.startswith(f"warning: {folder.study}: has been changed since the last run")


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
        assert "trials/00001/measurements.jsonl: is missing or empty" in printed.out + " ".join(printed.err.split()), (
            words
        )


@pytest.mark.parametrize("content", [None, "{", '{"procedure": 3, "procedure": 4}', '{"procedure": "x", "crc32": 1}'])
def test_what_a_procedure_was_asked_is_missed_or_said_to_be_damaged(tmp_path: Path, content: str | None) -> None:
    sweep = replace(plan_trials(SPEC)[0], trial=3, point=9, trial_kind="sweep")
    folder = made_up_folder(tmp_path / "runs" / "sweep", TEXT, lambda _trial: 0.5, more=(sweep,))
    if content is not None:
        folder.procedure.write_text(content)
    (line,) = said_of(folder)
    assert line.startswith(f"warning: {folder.procedure}: is {'missing' if content is None else 'damaged'}")
    assert tracked_studies(folder.path)[0].problem


OWN = replace(SPEC, name="study_file")
"""The study as the folder has it, called by its file."""


class Watching:
    """Keeps what a run says."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def message(self, text: str) -> None:
        self.said.append(text)

    def finished(self, *_: object) -> None: ...

    def progress(self, *_: object) -> None: ...


def test_damaged_updates_are_said_like_other_damage_and_remembered_by_the_index(folder: StudyFolder) -> None:
    sound = {"first": 0, "loss": [1.0], "gradient_norm": [1.0], "clipped": [False], "learning_rate": [0.1]}
    json_lines.append(folder.trial(1).steps, [sound, {**sound, "first": 1}])
    assert said_of(folder) == []
    content = folder.trial(1).steps.read_bytes()
    folder.trial(1).steps.write_bytes(content.replace(b'"first": 1', b'"first": 7'))
    line = "trial 1: trials/00001/steps.jsonl: 1 damaged line left out (line 2); of its updates the first 1 are used"
    for _ in range(2):
        assert said_of(folder) == [f"warning: {line}"]
        assert study_status(folder.path).to_json()["damage"] == [line]
        assert tracked_studies(folder.path)[0].problem == line
        with Index.open_for_writing(folder.index) as index:
            assert refresh_index(folder, read_plan(folder.plan), SPEC.objective, index, lambda _line: None)[1].damage


@pytest.mark.parametrize("lost", [[0, 1, 2], [1]], ids=["all", "one"])
def test_folders_that_are_gone_of_trials_that_the_index_knows_are_said_until_they_are_trained_again(
    folder: StudyFolder, lost: list[int]
) -> None:
    shutil.rmtree(folder.trials) if len(lost) == 3 else shutil.rmtree(folder.trial(1).path)
    whose = "trials 0 to 2, each" if len(lost) == 3 else "trial 1"
    line = f"{whose}: its folder is missing, and study.db says that it had completed; the next run trains it again"
    assert said_of(folder) == [f"warning: {line}"]
    watching = Watching()
    with open_study(OWN, folder.path, watching) as study:  # the index is brought up to date, and nothing is trained
        assert [trial.trial for trial in study.left()] == lost
        assert study.damage.lines == (line,)
    assert watching.said == [f"warning: {line}"]
    status = study_status(folder.path)
    assert (status.damage, status.counts["pending"]) == ((line,), len(lost))


def test_a_result_that_is_gone_of_a_trial_that_the_index_knows_is_said(folder: StudyFolder) -> None:
    folder.trial(1).result.unlink()
    line = "its result.json is missing, and study.db says that it had completed; the next run trains it again"
    assert said_of(folder) == [f"warning: trial 1: {line}"]
    folder.trial(1).result.write_text("{")
    (line,) = said_of(folder)
    assert "result.json: is damaged and counts as missing" in line
    assert "study.db says" not in line


def test_trials_that_were_never_launched_have_no_folder_to_miss(tmp_path: Path) -> None:
    folder = made_up_folder(tmp_path / "study", TEXT, lambda _trial: 0.5)
    shutil.rmtree(folder.trials)
    folder.index.unlink()
    with open_study(OWN, folder.path, Watching()):
        assert said_of(folder) == []
    assert said_of(folder) == []


@pytest.mark.parametrize("name", ["99999", "7", "00012345678901234567890"])
def test_a_folder_that_holds_nothing_is_no_trial(folder: StudyFolder, name: str) -> None:
    (folder.trials / name).mkdir()
    assert said_of(folder) == []
    assert study_status(folder.path).total == 3


def test_the_folder_of_a_trial_that_nothing_knows_is_named(folder: StudyFolder) -> None:
    folder.trial(99999).path.mkdir()
    folder.trial(99999).result.touch()
    with pytest.raises(FolderError, match=r"plan.jsonl: trial 99999 has a folder \(.*/trials/99999\) but no plan"):
        study_status(folder.path)


def rows(folder: StudyFolder, table: str = "trials") -> list[dict[str, str]]:
    return list(csv.DictReader((folder.tables / f"{table}.csv").read_text().splitlines()))


def cut_measurements(folder: StudyFolder) -> None:
    path = folder.trial(0).measurements
    path.write_bytes(path.read_bytes().replace(b"0.1,", b"0.1;"))


def lose_a_trial(folder: StudyFolder) -> None:
    shutil.rmtree(folder.trial(0).path)


@pytest.mark.parametrize("harm", [cut_measurements, lose_a_trial])
def test_a_report_writes_the_tables_so_that_they_agree_with_what_it_says(
    folder: StudyFolder, harm: Callable[[StudyFolder], None]
) -> None:
    report_study(folder.path, ObjectiveChoice(), draw=False)
    assert rows(folder, "settings")[0]["best_value"] == "0.1"
    written = {path: path.stat().st_mtime_ns for path in folder.tables.iterdir()}
    harm(folder)
    said: list[str] = []
    found = report_study(folder.path, ObjectiveChoice(), draw=False, say=said.append)
    (line,) = said
    assert found.to_json()["damage"] == [line.removeprefix("warning: ")]
    assert rows(folder)[0]["message"] in line
    assert rows(folder)[0]["message"]
    (setting,) = rows(folder, "settings")
    assert float(setting["best_value"]) == found.settings[0].best_value != 0.1
    assert (folder.tables / "measurements.parquet").stat().st_mtime_ns != written[
        folder.tables / "measurements.parquet"
    ]
    assert {*written} <= {*found.paths}


def test_a_report_of_a_sound_study_leaves_its_tables_as_they_are(folder: StudyFolder) -> None:
    report_study(folder.path, ObjectiveChoice(), draw=False)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.tables.iterdir()}
    report_study(folder.path, ObjectiveChoice(), draw=False)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.tables.iterdir()} == before
    folder.index.unlink()
    report_study(folder.path, ObjectiveChoice(), draw=False)
    assert {path: path.read_bytes() for path in folder.tables.iterdir()} == {
        path: content for path, (content, _) in before.items()
    }


def test_a_folder_called_as_the_mark_of_a_rereading_is_said_by_its_own_name(folder: StudyFolder) -> None:
    folder.rereading.mkdir()
    assert said_of(folder) == [f"warning: {folder.rereading}: is a folder, not a file"]
    assert not study_status(folder.path).half_read
    with pytest.raises(FolderError, match=f"{re.escape(str(folder.rereading))}: is a folder, not a file"):
        open_study(OWN, folder.path, Watching()).__enter__()


@pytest.mark.slow
def test_a_real_run_says_each_damage_once_and_in_its_json(
    write_study: Callable[..., Path], tunectl: Callable[..., Called], tmp_path: Path
) -> None:
    study = write_study()
    assert tunectl("run", study, "--quiet").code == 0
    folder = StudyFolder(tmp_path / "runs" / "small")
    lines = folder.trial(0).steps.read_bytes().splitlines(keepends=True)
    folder.trial(0).steps.write_bytes(b"".join([*lines[:2], b"{}\n", *lines[3:]]))
    folder.trial(1).measurements.write_bytes(b"junk\n" + folder.trial(1).measurements.read_bytes())
    folder.index.unlink()
    damage = [
        "trial 0: trials/00000/steps.jsonl: 1 damaged line left out (line 3); of its 40 updates the first 20 are used",
        "trial 1: trials/00001/measurements.jsonl: 1 damaged line left out (line 1)",
    ]
    again = tunectl("run", study, "--quiet", "--json")
    assert again.code == 1, "files are damaged"
    assert again.messages.splitlines() == [f"warning: {line}" for line in damage]
    assert again.json()["damage"] == damage
    for words in (["status"], ["report"], ["next"], ["export", "--to", "csv"]):
        called = tunectl(words[0], folder.path, *words[1:], "--json")
        assert called.json()["damage"] == damage, words
        assert called.messages.splitlines()[:2] == [f"warning: {line}" for line in damage]
    shutil.rmtree(folder.trial(1).path)
    trained = tunectl("run", study, "--quiet", "--json")
    assert trained.json()["damage"][1:] == [
        "trial 1: its folder is missing, and study.db says that it had completed; the next run trains it again"
    ]
    assert trained.json()["states"] == {"completed": 2}
