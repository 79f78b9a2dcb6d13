"""A run and a report of one folder at the same time: each waits for the other, and reads what it writes after that."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from forked_programs import ForkedProgram, forked_program, wait_until
from warm_server import WarmServers

from tunectl.commands.report import report_study
from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.session.study_evidence import ObjectiveChoice
from tunectl.store.writing_lock import writing_lock

STUDY = """\
workload:
  command: [python, -c, "print('{{', chr(34), 'loss', chr(34), ': ', {learning_rate}, '}}', sep='')"]
  metrics: [{json_lines: stdout}]
objective: {metric: loss, direction: minimize}
training: {max_train_steps: 1}
hyperparameters:
  learning_rate: {role: nuisance, range: [0.1, 1], scale: log}
search: {trials: 6}
resources: {devices: cpu}
"""


Started = Callable[[], AbstractContextManager[ForkedProgram]]


@pytest.fixture
def started(tmp_path: Path, fast_machine: WarmServers, environment: Mapping[str, str]) -> Started:
    def start() -> AbstractContextManager[ForkedProgram]:
        (tmp_path / "small.yaml").write_text(STUDY)
        words: list[str | Path] = ["run", tmp_path / "small.yaml", "--dir", tmp_path / "small", "--quiet"]
        return forked_program(fast_machine, words, environment)

    return start


def contents(folder: StudyFolder) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_reports_beside_a_run_end_neither_it_nor_leave_anything_but_its_last_results(tmp_path: Path, started: Started):
    folder = StudyFolder(tmp_path / "small")
    reports = 0
    with started() as process:
        while process.poll() is None:
            # Before there is a study the error is right.
            with contextlib.suppress(FolderError) if reports == 0 else contextlib.nullcontext():
                report_study(folder.path, ObjectiveChoice(), draw=False)
                reports += 1
        _, errors = process.communicate()
    assert (process.returncode, errors.count("cannot be written")) == (0, 0), errors
    assert reports > 3
    written = contents(folder)
    report_study(folder.path, ObjectiveChoice(), draw=False)
    assert contents(folder) == written
    assert not [path for path in written if path.suffix == ".tmp"]


def test_a_run_writes_its_tables_and_its_page_when_a_report_at_work_has_ended(tmp_path: Path, started: Started):
    folder = StudyFolder(tmp_path / "small")
    folder.trials.mkdir(parents=True)
    with started() as process:
        with writing_lock(folder):
            wait_until(lambda: process.poll() is not None or len(list(folder.trials.glob("*/result.json"))) == 6)
            assert process.poll() is None, process.communicate()
            deadline = time.monotonic() + 0.5
            wait_until(lambda: folder.tables.exists() or time.monotonic() > deadline)
            assert not folder.tables.exists()
        _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert (folder.tables / "trials.csv").read_text().count("completed") == 6
    assert (folder.path / "report.html").exists()
