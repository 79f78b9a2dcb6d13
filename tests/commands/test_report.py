"""`report`: findings, page and tables from the same trials, under the study's question or another one.

Tests commands/report.py, session/study_evidence.py, session/written_report.py and session/written_tables.py.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from builders import study_text
from made_up_folders import made_up_folder

from tunectl.commands.report import report_study
from tunectl.core.errors import FolderError, UsageError
from tunectl.core.folders import StudyFolder
from tunectl.session.snapshot import study_snapshot
from tunectl.session.study_evidence import ObjectiveChoice, evidence_of
from tunectl.store.index import Index

TEXT = study_text(
    {
        "optimizer": "{role: scientific, values: [sgd, adam]}",
        "learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}",
    },
    goal="<b>which</b> one?",
    search="{trials: 4}",
)


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """Eight trials: the later, the better; trial 7 is infeasible."""
    return made_up_folder(tmp_path / "study", TEXT, lambda plan: None if plan.trial == 7 else 0.5 - plan.trial / 20)


def contents(folder: StudyFolder) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}


def trials_in(path: Path) -> dict[str, dict[str, str]]:
    return {row["trial"]: row for row in csv.DictReader(path.read_text().splitlines())}


def test_the_report_is_findings_a_page_and_tables_and_writes_nothing_twice(folder):
    report = report_study(folder.path, ObjectiveChoice(), draw=False)
    assert [item.best_trial for item in report.settings] == [6, 5]
    assert report.page == folder.path / "report.html"
    page = report.page.read_text()
    assert "&lt;b&gt;which&lt;/b&gt;" in page
    assert "<b>which</b>" not in page
    listed = json.loads((folder.path / "findings.json").read_text())
    assert listed["objective"] == {"metric": "valid/error_rate", "direction": "minimize", "checkpoint": "best"}
    assert [item["id"] for item in listed["findings"]] == [item.id for item in report.findings]
    before = contents(folder)
    assert report_study(folder.path, ObjectiveChoice(), draw=False) == report
    assert contents(folder) == before


def test_another_objective_ranks_the_same_trials_again_beside_the_studys_own_files(folder):
    own = report_study(folder.path, ObjectiveChoice(), draw=False)
    before = contents(folder)
    other = report_study(folder.path, ObjectiveChoice("train/loss", "maximize"), draw=False)
    # At step 0 train/loss is 0.5 in every trial and does not count; later it is highest in the worst trial, which is
    # trial 0, at its last evaluation.
    assert [item.best_trial for item in other.settings] == [0, 1]
    assert other.settings[0].best_value == pytest.approx(0.5 * 1.1 / 2)
    assert other.settings[0].best_step == 100
    assert other.page.name == "report.train-loss.maximize.html"
    assert {path.name for path in other.paths} & {path.name for path in own.paths} == set()
    assert {path: content for path, content in contents(folder).items() if path in before} == before
    rows = trials_in(folder.tables / "trials.train-loss.maximize.csv")
    assert rows["3"]["best_checkpoint"] == "trials/00003/checkpoints/step-00000100.pt"
    assert float(rows["3"]["valid/error_rate"]) == pytest.approx(0.35 * 1.1)


def test_by_the_last_evaluation_the_values_are_those_of_the_last_step(folder):
    report = report_study(folder.path, ObjectiveChoice(checkpoint="final"), draw=False)
    assert report.settings[0].best_value == pytest.approx(0.2 * 1.1)
    assert report.page.name == "report.valid-error_rate.final.html"


def test_an_objective_needs_a_direction_and_one_that_was_measured(folder):
    with pytest.raises(UsageError, match="--direction"):
        report_study(folder.path, ObjectiveChoice("train/loss"))
    with pytest.raises(
        UsageError, match=r"no trial measured it; the measured metrics are: train/loss, valid/error_rate"
    ):
        report_study(folder.path, ObjectiveChoice("train/los", "minimize"))
    with pytest.raises(FolderError):
        report_study(folder.path / "trials", ObjectiveChoice())


@pytest.mark.parametrize("damage", ["missing", "damaged", "stale"])
def test_without_a_sound_index_the_trial_folders_are_read(folder, damage):
    with study_snapshot(folder.path) as study:
        wanted, _ = evidence_of(study, ObjectiveChoice("train/loss", "minimize"))
    if damage == "missing":
        folder.index.unlink()
    elif damage == "damaged":
        folder.index.write_bytes(b"no database at all")
    else:
        with Index.open_for_writing(folder.index) as index:
            index.put_plan([])
    with study_snapshot(folder.path) as study:
        found, _ = evidence_of(study, ObjectiveChoice("train/loss", "minimize"))
    for left, right in zip(wanted.runs, found.runs, strict=True):
        assert (left.best_value, left.best_step, left.state) == (right.best_value, right.best_step, right.state)
        assert left.curves.keys() == right.curves.keys()


def test_a_study_in_which_nothing_was_run_yet_has_a_page(tmp_path):
    folder = made_up_folder(tmp_path / "study", TEXT, lambda _: 0.5)
    for trial in folder.trials.iterdir():
        (trial / "result.json").unlink()
        (trial / "measurements.jsonl").unlink()
    report = report_study(folder.path, ObjectiveChoice(), draw=False)
    assert [item.best_trial for item in report.settings] == [None, None]
    assert report.page.read_text().startswith("<!DOCTYPE html>")


def test_a_page_that_cannot_be_written_is_named(folder):
    (folder.path / "report.html").mkdir()
    with pytest.raises(FolderError, match=r"report\.html: cannot be written"):
        report_study(folder.path, ObjectiveChoice(), draw=False)
