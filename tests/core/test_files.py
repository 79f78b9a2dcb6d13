"""Files are written completely or not at all. Tests core/files.py and, by test_real_folders.py, core/file_locks.py."""

from __future__ import annotations

import os
import stat

import pytest

from tunectl.core.files import write_atomically, write_bytes, write_if_changed


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_written_file_has_its_content_and_no_other_file_is_left(tmp_path):
    write_bytes(tmp_path / "result.json", b"{}\n")
    assert (tmp_path / "result.json").read_bytes() == b"{}\n"
    assert names(tmp_path) == ["result.json"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("torn")])
def test_a_writer_that_fails_half_way_leaves_the_old_file_and_no_temporary_one(tmp_path, error):
    path = tmp_path / "resume.pt"
    path.write_bytes(b"old")

    def write(file):
        file.write(b"half of the new")
        file.flush()
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, write)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["resume.pt"]


def test_the_remains_of_a_killed_writer_are_removed(tmp_path):
    (tmp_path / ".resume.pt.tmp").write_bytes(b"a long leftover of a killed writer")
    write_bytes(tmp_path / "resume.pt", b"new")
    assert (tmp_path / "resume.pt").read_bytes() == b"new"
    assert names(tmp_path) == ["resume.pt"]


def test_the_content_is_on_the_disk_before_the_name_is_changed(tmp_path, monkeypatch):
    events = []

    def noted(name):
        real = getattr(os, name)

        def call(*words, **folders):
            events.append(name)
            return real(*words, **folders)

        monkeypatch.setattr(os, name, call)

    noted("fsync")
    noted("rename")
    write_bytes(tmp_path / "a", b"content")
    assert events == ["fsync", "rename"]


def test_a_failed_fsync_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fail(file):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_bytes(tmp_path / "none" / "a", b"")


def test_a_file_gets_the_permissions_of_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a", b"")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_an_unchanged_file_is_not_touched(tmp_path):
    path = tmp_path / "trials.csv"
    assert write_if_changed(path, b"a") is True
    before = path.stat()
    assert write_if_changed(path, b"a") is False
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert write_if_changed(path, b"b") is True
    assert path.read_bytes() == b"b"
