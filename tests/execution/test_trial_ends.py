"""How a trial ends whose words cannot be printed. Other ends: training/test_resume.py and test_rank_processes.py."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from dataclasses import replace
from pathlib import Path

import pytest
from full_disks import fill_disk_under

from tunectl.core.folders import TrialFolder
from tunectl.core.measurements import TrialSeconds
from tunectl.core.own_code_request import CommandRequest
from tunectl.core.records import TrialResult
from tunectl.execution.protocol import EXIT_UNWRITTEN, Assignment
from tunectl.execution.trial_ends import TrialEnd, conclude, end_by_exception
from tunectl.store.trial_files import read_result, write_result

COMPLETED = TrialResult(trial=3, state="completed")


class FullLog(io.StringIO):
    """A log on a disk that is full."""

    def write(self, _text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def end_of(error: BaseException, folder: TrialFolder) -> TrialEnd:
    with contextlib.redirect_stderr(FullLog()):
        return end_by_exception(error, 3, folder, lambda: False, TrialSeconds())


def test_a_full_disk_that_takes_not_even_the_traceback_is_not_a_fault_of_the_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = TrialFolder(tmp_path)
    fill_disk_under(monkeypatch, folder.result.name)
    with pytest.raises(OSError, match="No space left") as raised:
        write_result(folder, COMPLETED)
    end = end_of(raised.value, folder)
    assert end.code == EXIT_UNWRITTEN
    assert "No space left" in end.message


def test_a_failure_whose_traceback_cannot_be_printed_is_a_result_all_the_same(tmp_path: Path) -> None:
    end = end_of(ValueError("odd"), TrialFolder(tmp_path))
    assert end.code == 0
    assert end.result is not None
    assert "odd" in end.result.message


def test_a_result_that_a_full_disk_does_not_take_ends_the_trial_as_unwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = TrialFolder(tmp_path)
    folder.request.touch()
    fill_disk_under(monkeypatch, folder.result.name)
    request = CommandRequest.__new__(CommandRequest)  # nothing of it is asked for
    with contextlib.redirect_stderr(FullLog()):
        assert conclude(TrialEnd(0, COMPLETED), request, folder, Assignment("trial", 3, "cpu")) == EXIT_UNWRITTEN


def test_a_result_names_files_of_its_trial_where_they_are_when_no_worker_has_it_any_more(tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path / "claimed" / "00003.vm-5-0a1b")
    folder.path.mkdir(parents=True)
    folder.request.touch()
    where = f"no file {folder.files}/best.pt"
    failed = replace(COMPLETED, state="failed", message=where, traceback=where, notes={"no checkpoint": where})
    request = CommandRequest.__new__(CommandRequest)
    assert conclude(TrialEnd(0, failed), request, folder, Assignment("trial", 3, "cpu")) == 0
    found = read_result(folder)
    assert found is not None
    assert {found.message, found.traceback, *found.notes.values()} == {f"no file {tmp_path}/trials/00003/files/best.pt"}
