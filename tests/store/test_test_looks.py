from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.store.test_looks import TestLook as Look  # pytest would take it for a test
from tunectl.store.test_looks import append_look, looks_beside, read_looks

LOOK = Look("2026-03-01T12:00:00+00:00", 7, "/runs/a.final", "token", "digest")


def test_looks_are_read_as_they_were_written_and_one_training_is_one_look(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    assert read_looks(folder) == []
    other = replace(LOOK, token="other")
    for look in (LOOK, other, replace(LOOK, time="later")):
        append_look(folder, look)
    assert read_looks(folder) == [LOOK, other]
    assert LOOK.words == "at 2026-03-01T12:00:00+00:00 for trial 7, in /runs/a.final"


def test_a_damaged_line_is_a_look_and_a_torn_one_is_none(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    append_look(folder, LOOK)
    with folder.looks.open("ab") as file:
        file.write(b'garbage\n{"time": 3}\n{"time": "x"')
    looks = read_looks(folder)
    assert looks == [LOOK, Look(), Look()]
    assert "not known" in looks[1].words


def test_a_file_that_cannot_be_read_is_an_error_and_not_no_looks(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    folder.looks.mkdir()
    with pytest.raises(FolderError, match="cannot be read"):
        read_looks(folder)


def test_looks_of_other_studies_at_the_same_examples_are_found_beside_it(tmp_path: Path) -> None:
    here, same, other = (StudyFolder(tmp_path / name) for name in ("here", "same", "other"))
    for folder in (here, same, other):
        folder.path.mkdir()
        append_look(folder, replace(LOOK, digest="another" if folder == other else "digest"))
    (tmp_path / "broken" / "test_looks.jsonl").mkdir(parents=True)
    assert looks_beside(here, "digest") == [(same.path, LOOK)]
    assert looks_beside(here, "") == []
