"""A fault in the page of a procedure costs no conclusion. Tests session/written_procedure.py.

The page itself is tested by tests/report/test_procedure_page.py and tests/commands/test_sweep.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import NUISANCE_RATE, study_text
from made_up_folders import made_up_folder
from watchers import Silent

from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.core.table_columns import Column
from tunectl.language.study_reader import load_study
from tunectl.procedures.procedure import Conclusion
from tunectl.report.table import Table
from tunectl.session import written_procedure
from tunectl.session.internal_errors import RAISE
from tunectl.session.open_study import open_study
from tunectl.session.written_procedure import write_procedure_page

CONCLUSION = Conclusion("The best rate is 0.1.", {}, ("rate",), [[0.1]])
TABLE = Table((Column("rate", "real"),), [(0.1,)])


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    text = study_text({"learning_rate": NUISANCE_RATE}, search="{trials: 2}")
    return made_up_folder(tmp_path / "runs" / "s", text, lambda _: 0.5, file=tmp_path / "s.yaml")


def written(folder: StudyFolder, file: Path, messages: list[str]) -> list[Path]:
    with open_study(load_study(file), folder.path, Silent()) as study:
        return write_procedure_page("lr-sweep", study, CONCLUSION, TABLE, messages.append)


def test_the_page_has_the_verdict(folder: StudyFolder, tmp_path: Path) -> None:
    messages: list[str] = []
    assert written(folder, tmp_path / "s.yaml", messages) == [folder.path / "report.html"]
    assert "The best rate is 0.1." in (folder.path / "report.html").read_text()
    assert (messages, folder.faults.exists()) == ([], False)


def test_a_fault_leaves_a_message_with_a_file_for_a_bug_report_and_the_next_page_removes_it(
    folder: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages: list[str] = []
    monkeypatch.delenv(RAISE)
    with monkeypatch.context() as here:
        here.setattr(written_procedure, "procedure_page", lambda *_: 1 / 0)
        assert written(folder, tmp_path / "s.yaml", messages) == []
    (message,) = messages
    assert f"this is a fault in tunectl: send {folder.faults} with a bug report" in message
    assert "ZeroDivisionError" in folder.faults.read_text()
    written(folder, tmp_path / "s.yaml", messages)
    assert (len(messages), folder.faults.exists()) == (1, False)


def test_a_page_that_cannot_be_written_is_an_error_of_the_folder(folder: StudyFolder, tmp_path: Path) -> None:
    (folder.path / "report.html").mkdir()
    with pytest.raises(FolderError, match=r"report\.html"):
        written(folder, tmp_path / "s.yaml", [])
