"""The outcomes of a study from its index and its trial folders, and measurements restored from the index.

Tests session/outcome_index.py and commands/status.py.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from builders import study_text
from full_disks import fill_disk_under

from tunectl.commands.status import StudyStatus, study_status
from tunectl.core import jsontext
from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.measurements import Measurement
from tunectl.core.records import TrialResult
from tunectl.language.study_reader import parse_study
from tunectl.session import outcome_index
from tunectl.session.outcome_index import refresh_index, refresh_index_at_end
from tunectl.space.trial_plan import plan_trials
from tunectl.store.index import Index
from tunectl.store.plan_file import append_plan, read_plan
from tunectl.store.trial_files import folder_stamp, read_trial, write_result

TEXT = study_text({"learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}"}, search="{trials: 3}")
SPEC = parse_study(TEXT, Path("study.yaml"))


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """Three trials: two completed, one not begun; study.db says so too."""
    made = StudyFolder(tmp_path / "study")
    made.path.mkdir()
    made.study.write_text(TEXT)
    made.lock.touch()
    append_plan(made.plan, plan_trials(SPEC))
    for trial, value in ((0, 0.5), (1, 0.25)):
        write_trial(made, trial, value)
    fill_index(made)
    return made


def write_trial(folder: StudyFolder, trial: int, value: float) -> None:
    home = folder.trial(trial)
    home.path.mkdir(parents=True, exist_ok=True)
    lines = [Measurement(step, {"valid/error_rate": value}) for step in (0, 100)]
    home.measurements.write_text("".join(jsontext.encode(item.to_json()) + "\n" for item in lines))
    home.result.write_text(jsontext.encode(TrialResult(trial, "completed").to_json()))


def fill_index(folder: StudyFolder) -> None:
    with Index.open_for_writing(folder.index) as index:
        refresh_index(folder, read_plan(folder.plan), SPEC.objective, index, lambda _line: None)


def contents(folder: StudyFolder) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}


def best(report: StudyStatus) -> tuple[int, float | None]:
    assert report.best is not None
    return report.best.plan.trial, report.best.best_value


def test_status_believes_the_index_of_folders_that_did_not_change_and_reads_the_others(folder: StudyFolder) -> None:
    with Index.open_for_writing(folder.index) as index:
        first = next(index.outcomes())
        index.put_outcome(replace(first, best_value=0.125), folder_stamp(folder.trial(0)))
    assert best(study_status(folder.path)) == (0, 0.125)
    write_trial(folder, 0, 0.4375)
    assert best(study_status(folder.path)) == (1, 0.25)
    write_trial(folder, 2, 0.0625)
    assert best(study_status(folder.path)) == (2, 0.0625)


def test_status_writes_nothing_whether_study_db_is_there_or_not(folder: StudyFolder) -> None:
    before, status = contents(folder), study_status(folder.path)
    assert contents(folder) == before
    folder.index.unlink()
    before = contents(folder)
    assert study_status(folder.path) == status
    assert contents(folder) == before
    none = dict.fromkeys(("running", "infeasible", "failed", "cancelled", "stopped"), 0)
    assert status.counts == {"pending": 1, "completed": 2, **none}


def test_a_trial_that_a_killed_runner_left_running_does_not_run(folder: StudyFolder) -> None:
    with Index.open_for_writing(folder.index) as index:
        index.set_running(1, slot=0)
    report = study_status(folder.path)
    assert (report.counts["running"], report.counts["completed"], report.running) == (0, 2, ())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def damage_a_row(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE trials SET hyperparameters = '{' WHERE trial = 0")
    connection.close()


def plan_something_else(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE trials SET seed = seed + 1, best_value = 0.0")
    connection.close()


def leave_a_journal(path: Path) -> None:
    """What a killed runner leaves: a file in WAL mode and its journal."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("UPDATE trials SET best_value = 0.0")
    for file in (path, path.with_name("study.db-wal")):
        shutil.copy(file, path.with_name(f"{file.name}.kept"))
    connection.close()
    for file in (path, path.with_name("study.db-wal")):
        path.with_name(f"{file.name}.kept").rename(file)


@pytest.mark.parametrize("harm", [cut, damage_a_row, plan_something_else, leave_a_journal])
def test_status_does_without_an_index_that_cannot_be_used(folder: StudyFolder, harm: Callable[[Path], None]) -> None:
    status = study_status(folder.path)
    harm(folder.index)
    before = contents(folder)
    assert study_status(folder.path) == status
    assert contents(folder) == before


def damage_line(path: Path, number: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number] = lines[number].replace(b'"step"', b'"st\xff')
    path.write_bytes(b"".join(lines))


def test_a_damaged_measurement_is_restored_from_the_index(folder: StudyFolder) -> None:
    path = folder.trial(1).measurements
    before, said = read_trial(folder.trial(1)).measurements, list[str]()
    damage_line(path, 1)
    with Index.open_for_writing(folder.index) as index:
        standing = refresh_index(folder, read_plan(folder.plan), SPEC.objective, index, said.append)
    assert read_trial(folder.trial(1)).measurements == before
    assert (standing[1].final_step, standing[1].message) == (100, "")
    assert said == [f"warning: {path}: was damaged and has been restored from study.db"]


@pytest.mark.parametrize("index", ["is gone", "says otherwise"])
def test_a_damaged_measurement_without_a_copy_stays_in_the_table_as_damage(folder: StudyFolder, index: str) -> None:
    path = folder.trial(1).measurements
    if index == "is gone":
        folder.index.unlink()
    else:
        path.write_bytes(path.read_bytes().replace(b"0.25", b"0.26"))
    damage_line(path, 1)
    damaged = path.read_bytes()
    fill_index(folder)
    assert path.read_bytes() == damaged
    with Index.open_for_writing(folder.index) as opened:
        standing = refresh_index(folder, read_plan(folder.plan), SPEC.objective, opened, lambda _line: None)
    assert standing[1].message == "trials/00001/measurements.jsonl: 1 damaged line left out (line 2)"
    assert standing[0].message == ""


def test_a_repair_that_cannot_be_written_is_made_later_from_the_same_copy(folder: StudyFolder) -> None:
    path, messages = folder.trial(1).measurements, list[str]()
    before = read_trial(folder.trial(1)).measurements
    damage_line(path, 1)
    with pytest.MonkeyPatch.context() as full, Index.open_for_writing(folder.index) as index:
        fill_disk_under(full, path.name)
        outcomes = refresh_index(folder, read_plan(folder.plan), SPEC.objective, index, messages.append)
    assert outcomes[1].message == "trials/00001/measurements.jsonl: 1 damaged line left out (line 2)"
    assert "No space left" in messages[0]
    fill_index(folder)
    assert read_trial(folder.trial(1)).measurements == before


def test_an_index_that_was_damaged_while_trials_ran_is_made_anew_at_the_end(folder: StudyFolder) -> None:
    trials, said = read_plan(folder.plan), list[str]()
    with Index.open_for_writing(folder.index) as index:
        before = refresh_index(folder, trials, SPEC.objective, index, said.append)
        with open(folder.index, "r+b") as file:
            file.write(b"scribble" * 2000)
        write_trial(folder, 2, 0.125)
        after = refresh_index_at_end(folder, trials, SPEC.objective, index, said.append)
        assert [item.best_value for item in index.outcomes()] == [0.5, 0.25, 0.125]
    assert after[:2] == before[:2]
    assert len(said) == 1
    assert "made anew" in said[0]


def test_an_error_of_reading_is_said_once_and_the_file_is_read_again_by_the_next_command(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(home: TrialFolder, _updates: int | None) -> str:
        if not home.path.is_dir():
            return ""
        raise FolderError("steps.jsonl: cannot be read: Input/output error")

    def damage() -> list[str]:
        with Index.open_for_writing(folder.index) as index:
            refresh_index(folder, read_plan(folder.plan), SPEC.objective, index, lambda _line: None)
            return [found.damage for found in index.outcomes()]

    folder.index.unlink()
    with monkeypatch.context() as broken:
        broken.setattr(outcome_index, "updates_damage", refuse)
        assert ["cannot be read" in line for line in damage()] == [True, True, False]
    assert damage() == ["", "", ""]


@pytest.mark.parametrize("shown", [1, 3])
def test_measurements_that_are_not_as_many_as_the_result_counts_are_read_again_though_no_stamp_differs(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch, shown: int
) -> None:
    def last_step() -> int | None:
        with Index.open_for_writing(folder.index) as index:
            return refresh_index(folder, read_plan(folder.plan), SPEC.objective, index, lambda _line: None)[
                1
            ].final_step

    folder.index.unlink()
    home = folder.trial(1)
    write_result(home, TrialResult(1, "completed"))
    content = home.measurements.read_text().splitlines(keepends=True)
    monkeypatch.setattr(outcome_index, "folder_stamp", lambda home: f"{home.path.name}, whose size and time show first")
    home.measurements.write_text("".join((content[:1] * 3)[:shown]))  # a part, or what an earlier attempt left
    assert last_step() == 0
    home.measurements.write_text("".join(content))
    assert last_step() == 100
