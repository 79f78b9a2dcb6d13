"""The command by which a study goes on: with the backend of its last run, where that was given on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import study

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.core.folders import StudyFolder
from tunectl.session.continuing_command import continuing_command
from tunectl.store.provenance import RunBackend, RunDescription, append_provenance, backend_option, last_backend


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.yaml").touch()
    found = StudyFolder(Path("runs/toy"))
    found.path.mkdir(parents=True)
    return found


def ran(folder: StudyFolder, backend: RunBackend | None, name: str = "run") -> None:
    file = {"path": str(Path.cwd() / "toy.yaml"), "sha256": None}
    entry: dict[str, Any] = {"time": "2026-01-01T00:00:00+00:00", "command": ["tunectl", name], "study_file": file}
    if backend is not None:
        entry |= {"backend": backend.name, "backend_given": backend.is_given, "runner": backend.runner}
    append_provenance(folder, RunDescription(entry))


def test_a_backend_of_the_command_line_is_in_the_command_that_goes_on(folder: StudyFolder) -> None:
    ran(folder, RunBackend("local"))
    ran(folder, RunBackend("external", is_given=True))
    assert continuing_command(folder) == "tunectl run toy.yaml --dir runs/toy --backend external"
    assert last_backend(folder) == "external"


@pytest.mark.parametrize("backend", [RunBackend("slurm"), None])
def test_a_backend_of_the_study_file_or_one_that_is_not_known_is_not(
    folder: StudyFolder, backend: RunBackend | None
) -> None:
    ran(folder, RunBackend("external", is_given=True))
    ran(folder, backend)
    assert continuing_command(folder) == "tunectl run toy.yaml --dir runs/toy"


def test_the_backend_of_a_retrain_is_not_that_of_the_study(folder: StudyFolder) -> None:
    ran(folder, RunBackend("external", is_given=True))
    ran(folder, RunBackend("local", is_given=True), "retrain")
    assert backend_option(folder) == ("--backend", "external")


def test_a_folder_without_a_run_has_no_backend(folder: StudyFolder) -> None:
    assert (backend_option(folder), last_backend(folder)) == ((), "")
    assert continuing_command(folder) == "tunectl run runs/toy/study.yaml --dir runs/toy"


def test_what_findings_propose_trains_on_the_backend_of_the_last_run() -> None:
    spec = study()
    evidence = StudyEvidence(spec, spec.objective, (), folder="runs/toy", backend_option=("--backend", "external"))
    command = evidence.study_command("lr-sweep", "--at", "x=1")
    assert command == f"tunectl lr-sweep {spec.label} --at x=1 --backend external"
    assert evidence.retrain_command("--repeats", 5) == "tunectl retrain runs/toy --repeats 5 --backend external"
