"""The files that a program finds when it starts. Tests programs/program_start.py, with test_command_trial.py."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tunectl.core.folders import TrialFolder
from tunectl.core.objective import Objective
from tunectl.core.own_code_request import CommandRequest, Program
from tunectl.programs.program_start import checkpoint_to_resume


@pytest.mark.parametrize("name", ["files", "checkpoints"])
def test_files_of_an_earlier_attempt_that_cannot_be_removed_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = TrialFolder(tmp_path / "trials" / "00007")
    folder.path.mkdir(parents=True)
    for place in (folder.files, folder.checkpoints):
        place.mkdir()
        (place / "model-5.pt").write_text("of the attempt before")
    removed = shutil.rmtree

    def rmtree(path: str | Path, **options: Any) -> None:
        if Path(path).name != name:
            removed(path, **options)
        elif not options.get("ignore_errors"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    program = Program(("true",), str(tmp_path), ())
    request = CommandRequest("study", 7, 5, program, {}, Objective("loss", "minimize"), 20, 1)
    with pytest.raises(OSError, match="Input/output error"):
        checkpoint_to_resume(request, folder, lambda _point: True)
    monkeypatch.undo()
    assert checkpoint_to_resume(request, folder, lambda _point: True) is None
    assert not folder.checkpoints.exists()
    assert list(folder.files.iterdir()) == []
