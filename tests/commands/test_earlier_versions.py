"""Study folders that an earlier version of tunectl left half run: they are gone on with, reported and exported.

half_run_studies.tar.gz holds two folders that were written before the packages were rearranged: one of a built-in
workload, interrupted in its third trial of six, and one of a command, killed in its second trial of three. ended.json
in it has what the same code measured when it trained the rest.
"""

from __future__ import annotations

import csv
import json
import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tunectl.cli.main import app

ARCHIVE = Path(__file__).with_name("half_run_studies.tar.gz")
pytestmark = pytest.mark.usefixtures("each_plot_drawn_once")
STUDIES = {"half-run": "study.yaml", "half-run-command": "own.yaml"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def called(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def measured(trial: Path) -> dict[int, dict[str, float]]:
    """The metrics by step; a step whose checkpoint is known later has a second line."""
    lines = [json.loads(line) for line in (trial / "measurements.jsonl").read_text().splitlines()]
    return {line["step"]: line["metrics"] for line in lines}


@pytest.mark.parametrize("study", STUDIES)
def test_the_trials_that_are_left_are_trained_and_those_that_ended_stay_as_they_are(home: Path, study: str) -> None:
    folder = home / "runs" / study
    plan = (folder / "plan.jsonl").read_bytes()
    ended = [path.parent for path in sorted(folder.glob("trials/*/result.json"))]
    files = {
        path: path.read_bytes() for trial in ended for path in (trial / "result.json", trial / "measurements.jsonl")
    }
    called("run", STUDIES[study])
    assert (folder / "plan.jsonl").read_bytes() == plan
    assert {path: path.read_bytes() for path in files} == files
    expected = json.loads((home / "ended.json").read_text())[study]
    for name, evaluations in expected["measurements"].items():
        found = measured(folder / "trials" / name)
        assert found.keys() == {step for step, _ in evaluations}
        for step, metrics in evaluations:
            # Other processors round otherwise, and training makes it grow.
            assert found[step] == pytest.approx(metrics, rel=0.05, abs=0.02)
    table = rows(folder / "tables" / "trials.csv")
    same = ("trial", "setting", "state", "final_step")
    assert [[row[name] for name in same] for row in table] == [
        [row[name] for name in same] for row in expected["trials"]
    ]


@pytest.mark.parametrize("study", STUDIES)
def test_they_are_reported_and_exported_half_run(home: Path, study: str) -> None:
    folder = home / "runs" / study
    called("report", str(folder))
    assert (folder / "report.html").stat().st_size > 100_000
    called("export", str(folder), "--to", "csv")
    (exported,) = (folder / "exports").rglob("trials.csv")
    ended = [int(path.parent.name) for path in sorted(folder.glob("trials/*/result.json"))]
    assert [int(row["trial"]) for row in rows(exported) if row["state"] == "completed"] == ended
    status = json.loads(called("status", str(folder), "--json"))
    assert "damage" not in status or not status["damage"]
