"""Which exceptions a user is shown in words. Tests core/user_errors.py."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tunectl.core.errors import EXIT_BAD_STUDY, EXIT_FOLDER, FolderError, UsageError
from tunectl.core.user_errors import user_error


def test_our_own_errors_are_shown_as_they_are() -> None:
    assert user_error(UsageError("no")) == ("no", EXIT_BAD_STUDY)
    assert user_error(FolderError("in use")) == ("in use", EXIT_FOLDER)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_an_error_of_the_system_is_shown_with_its_file(number: int) -> None:
    shown = user_error(OSError(number, os.strerror(number), "a.txt"))
    assert shown == (f"a.txt: {os.strerror(number)}", EXIT_FOLDER)


def test_what_the_machine_was_short_of_is_shown_with_what_to_do() -> None:
    shown = user_error(OSError(errno.EMFILE, "Too many open files", "a.txt"))
    assert shown is not None
    assert shown.text.startswith("a.txt: Too many open files; a process may have at most")


def test_a_current_folder_that_is_gone_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = FileNotFoundError(errno.ENOENT, "No such file or directory")
    assert user_error(gone) is None
    monkeypatch.setattr(os, "getcwd", lambda: (_ for _ in ()).throw(gone))
    assert user_error(gone) == ("the current folder no longer exists; change to another one (cd)", EXIT_BAD_STUDY)


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), OSError(errno.EBADF, "bad"), KeyboardInterrupt()])
def test_anything_else_is_a_bug(error: BaseException) -> None:
    assert user_error(error) is None
