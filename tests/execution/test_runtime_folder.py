"""Tests runtime_folder.py. The paths are those of a machine under a folder of the test."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tunectl.execution.runtime_folder import VARIABLE, runtime_folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "tmp").mkdir()
    return tmp_path


def test_the_variable_of_tunectl_goes_first(root):
    environ = {VARIABLE: str(root / "mine"), "XDG_RUNTIME_DIR": str(root / "tmp")}
    assert runtime_folder(environ, root) == (root / "mine", "")
    assert stat.S_IMODE((root / "mine").stat().st_mode) == 0o700


def test_the_session_s_folder_goes_before_that_of_the_user_and_tmp(root):
    session, users = root / "session", root / "run" / "user" / str(os.getuid())
    session.mkdir(mode=0o700)
    users.mkdir(parents=True)
    assert runtime_folder({"XDG_RUNTIME_DIR": str(session)}, root) == (session / "tunectl", "")
    assert runtime_folder({}, root) == (users / "tunectl", ""), "cron and ssh have no variable: the same folder"


def test_without_a_session_it_is_in_tmp(root):
    expected = root / "tmp" / f"tunectl-{os.getuid()}"
    assert runtime_folder({}, root) == (expected, "")
    assert runtime_folder({}, root) == (expected, ""), "the second run finds it"
    assert runtime_folder({"XDG_RUNTIME_DIR": "relative"}, root) == (expected, ""), "by the specification it is ignored"


def test_a_session_s_folder_that_cannot_be_used_is_named_and_tmp_is_taken(root):
    gone = root / "gone"
    folder, why = runtime_folder({"XDG_RUNTIME_DIR": str(gone)}, root)
    assert folder == root / "tmp" / f"tunectl-{os.getuid()}"
    assert why == f"{gone}/tunectl: No such file or directory"


@pytest.mark.parametrize("found", ["link", "file", "open to others"])
def test_no_folder_that_others_could_change_is_used(root, found):
    place = root / "mine"
    if found == "link":
        (root / "elsewhere").mkdir(mode=0o700)
        place.symlink_to(root / "elsewhere")
    elif found == "file":
        place.touch()
    else:
        place.mkdir()
        place.chmod(0o770)
    folder, why = runtime_folder({VARIABLE: str(place)}, root)
    assert folder is None, "the user named this one: no other is taken in its place"
    assert why == f"{place}: " + (
        f"other users may enter it; run chmod 700 {place}"
        if found == "open to others"
        else "expected a folder, and no link"
    )


def test_a_folder_of_another_user_is_not_used(root, monkeypatch):
    other = os.getuid() + 1
    (root / "tmp" / f"tunectl-{other}").mkdir(mode=0o700)
    monkeypatch.setattr(os, "getuid", lambda: other)
    folder, why = runtime_folder({}, root)
    assert folder is None
    assert why.endswith(": belongs to another user")
