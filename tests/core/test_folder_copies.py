"""Copies of folders that share nothing with processes that have the original open. Tests folder_copies.py."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tunectl.core.folder_copies import copy_folder
from tunectl.core.real_folders import NotRegularError


def none(_place: Sequence[str]) -> bool:
    return False


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "inner" / "deep").mkdir(parents=True)
    (folder / "log.txt").write_bytes(b"log")
    (folder / "inner" / "deep" / "own").write_bytes(b"own")
    (folder / "inner" / "program").write_bytes(b"#!/bin/sh")
    (folder / "inner" / "program").chmod(0o750)
    (folder / "link").symlink_to("../outside")
    os.mkfifo(folder / "pipe")
    os.utime(folder / "log.txt", ns=(10**18, 10**18))
    return folder


def test_a_copy_has_the_files_folders_and_links_with_their_modes_and_times(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    copy_folder(source, target, tmp_path, left_out=none, linked=none, first=none)
    assert sorted(str(path.relative_to(target)) for path in target.rglob("*")) == [
        *("inner", "inner/deep", "inner/deep/own", "inner/program", "link", "log.txt"),
    ]
    assert (target / "inner" / "deep" / "own").read_bytes() == b"own"
    assert os.readlink(target / "link") == "../outside"  # noqa: PTH115
    assert stat.S_IMODE((target / "inner" / "program").stat().st_mode) == 0o750
    assert (target / "log.txt").stat().st_mtime_ns == 10**18
    assert not (target / "log.txt").samefile(source / "log.txt")


def test_files_are_linked_and_left_out_by_their_place(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    copy_folder(
        source,
        target,
        tmp_path,
        left_out=lambda place: place == ("inner", "deep"),
        linked=lambda place: place[-1] == "program",
        first=none,
    )
    assert (target / "inner" / "program").samefile(source / "inner" / "program")
    assert not (target / "log.txt").samefile(source / "log.txt")
    assert not (target / "inner" / "deep").exists()


def test_where_there_are_no_links_a_file_is_copied(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_arguments: object, **_keywords: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", no_links)
    copy_folder(source, tmp_path / "target", tmp_path, left_out=none, linked=lambda _place: True, first=none)
    assert (tmp_path / "target" / "log.txt").read_bytes() == b"log"


def test_what_comes_first_is_copied_before_the_rest(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    real = os.stat

    def noting(path: Any, **keywords: Any) -> os.stat_result:
        if keywords.get("dir_fd") is not None:
            order.append(str(path))
        return real(path, **keywords)

    monkeypatch.setattr(os, "stat", noting)
    is_log = lambda place: place == ("log.txt",)  # noqa: E731
    copy_folder(source, tmp_path / "target", tmp_path, left_out=none, linked=none, first=is_log)
    assert order[0] == "log.txt"


def test_a_link_in_the_place_of_a_folder_is_not_followed(source: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").symlink_to(source)
    with pytest.raises(NotRegularError):
        copy_folder(tmp_path / "elsewhere", tmp_path / "target", tmp_path, left_out=none, linked=none, first=none)


def test_an_existing_folder_is_not_written_to(source: Path, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    with pytest.raises(FileExistsError):
        copy_folder(source, tmp_path / "target", tmp_path, left_out=none, linked=none, first=none)
    assert list((tmp_path / "target").iterdir()) == []


def test_a_file_that_shows_late_in_an_inner_folder_is_copied_when_it_does(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, real = [0], os.stat

    def late(path: Any, **keywords: Any) -> os.stat_result:
        calls[0] += path == "own"
        if path == "own" and calls[0] <= 4:  # it is listed, and yet not there; each folder is listed three times
            raise FileNotFoundError(2, "No such file or directory", "own")
        return real(path, **keywords)

    monkeypatch.setattr(os, "stat", late)
    copy_folder(source, tmp_path / "target", tmp_path, left_out=none, linked=none, first=none)
    assert (tmp_path / "target" / "inner" / "deep" / "own").read_bytes() == b"own"
    assert (tmp_path / "target" / "inner" / "program").read_bytes() == b"#!/bin/sh"
