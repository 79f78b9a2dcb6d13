"""Tests execution/folder_errors.py: which errors stop a study, and what the message about a full folder says."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.execution.folder_errors import is_of_one_trial, unwritten_message


def raised(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        *((number, True) for number in (errno.ENOTDIR, errno.EACCES, errno.ELOOP, errno.EEXIST)),
        *((number, False) for number in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE)),
    ],
    ids=lambda value: errno.errorcode.get(value, "") if type(value) is int else "",
)
def test_others_go_on_where_the_folder_of_a_trial_is_in_the_way_and_not_where_the_disk_is_full(number, expected):
    assert is_of_one_trial(raised(number)) is expected
    told = FolderError("it cannot be written")
    told.__cause__ = raised(number)
    assert is_of_one_trial(told) is expected


def test_an_error_without_a_cause_is_not_that_of_one_trial():
    assert not is_of_one_trial(FolderError("in use"))


def test_the_message_has_what_the_trial_said_last_the_free_room_and_what_to_do(tmp_path: Path):
    folder = StudyFolder(tmp_path).trial(7)
    folder.path.mkdir(parents=True)
    said = unwritten_message(folder, "No space\nleft on device")
    assert said.startswith(f"{folder.path}: the trial could not write its files (No space left on device; ")
    assert " MB are free, see log.txt)" in said
    assert said.endswith("run the same command again: it goes on from there")


def test_where_the_folder_is_gone_the_message_says_why_its_room_is_not_known(tmp_path: Path):
    said = unwritten_message(StudyFolder(tmp_path).trial(7), "")
    assert "No such file or directory" in said
