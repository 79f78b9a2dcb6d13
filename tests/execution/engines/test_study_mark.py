"""The mark by which an engine finds the workers of a study again. Tests execution/engines/study_mark.py."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tunectl.core.errors import FolderError
from tunectl.execution.engines.study_mark import new_job, study_mark


def mark(study: Path) -> str:
    return study_mark(study / "workers", study)


def test_it_is_the_same_for_all_runs_on_a_folder_and_another_for_other_folders(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    assert mark(one) == mark(one)
    assert mark(one) != mark(other)
    shutil.copytree(one, tmp_path / "copy")
    assert mark(tmp_path / "copy") != mark(one), "a copy of a folder has workers of its own"


def test_a_torn_file_is_written_again(tmp_path: Path) -> None:
    mark(tmp_path)
    (tmp_path / "workers" / "mark").write_text("12")
    assert mark(tmp_path) == mark(tmp_path)


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    study = tmp_path / "study"
    (study / "workers").mkdir(parents=True)
    (tmp_path / "precious").write_text("mine")
    (study / "workers" / "mark").symlink_to(tmp_path / "precious")
    with pytest.raises(FolderError, match="is a link"):
        mark(study)
    assert (tmp_path / "precious").read_text() == "mine"


def test_no_two_jobs_have_the_same_name(tmp_path: Path) -> None:
    beginning = mark(tmp_path)
    jobs = {new_job(beginning) for _ in range(100)}
    assert len(jobs) == 100
    assert all(job.startswith(beginning) for job in jobs)
