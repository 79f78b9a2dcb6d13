"""The names by which measurements know checkpoints."""

from __future__ import annotations

import pytest
from store_samples import make_trial

from tunectl.core.folders import TrialFolder
from tunectl.store.checkpoint_names import ExistingCheckpoints


@pytest.fixture
def folder(tmp_path):
    return TrialFolder(tmp_path / "00007")


def test_checkpoints_are_there_only_as_files_of_the_folder(folder):
    make_trial(folder)
    (folder.checkpoints / "step-00000010.pt").write_bytes(b"x")
    (folder.checkpoints / ".step-00000020.pt.tmp").write_bytes(b"x")
    existing = ExistingCheckpoints(folder)
    assert "step-00000010.pt" in existing
    for name in (".step-00000020.pt.tmp", "step-00000030.pt", "../measurements.jsonl", "", ".", "..", None):
        assert name not in existing


def test_the_path_of_a_program_s_own_file_is_the_name_of_a_checkpoint_that_has_no_link(folder):
    make_trial(folder)
    folder.files.mkdir()
    (folder.files / "model-10.pt").touch()
    existing = ExistingCheckpoints(folder)
    assert "../files/model-10.pt" in existing
    for name in ("../files/model-20.pt", "../files/../measurements.jsonl", "../../00007/files/model-10.pt", "../files"):
        assert name not in existing
