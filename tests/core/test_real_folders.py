"""No link inside a folder of other people is followed, and only regular files are opened.

Tests core/real_folders.py and core/regular_files.py.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from tunectl.core import files, real_folders, regular_files
from tunectl.core.real_folders import NotRegularError


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    folder.mkdir()
    return folder


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of the user with a file that must not change."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "bashrc").write_bytes(b"export A=1\n")
    return folder


def socket_at(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        here = Path.cwd()
        os.chdir(path.parent)  # its name may be too long for the address otherwise
        try:
            end.bind(path.name)
        finally:
            os.chdir(here)


STRANGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "a link": (lambda path: path.symlink_to("../own/bashrc"), "a link"),
    "a link to an endless device": (lambda path: path.symlink_to("/dev/zero"), "a link"),
    "a named pipe": (os.mkfifo, "a named pipe"),
    "a socket": (socket_at, "a socket"),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_what_is_not_a_file_is_neither_read_nor_written_without_waiting(study: Path, own: Path, kind: str) -> None:
    make, words = STRANGE[kind]
    path = study / "lock"
    make(path)
    for work in (
        lambda: regular_files.content(path),
        lambda: regular_files.open_descriptor(path, os.O_RDWR | os.O_CREAT),
        lambda: regular_files.open_to_append(path),
        lambda: files.write_bytes(path, b"ours"),
        lambda: files.write_if_changed(path, b"ours"),
    ):
        with pytest.raises(NotRegularError) as raised:
            work()
        assert words in (raised.value.strerror or "")
    assert (own / "bashrc").read_bytes() == b"export A=1\n"
    assert [entry.name for entry in study.iterdir()] == ["lock"]


@pytest.mark.parametrize("kind", [kind for kind in STRANGE if "link" not in kind])
def test_a_file_that_the_user_names_may_be_a_link_but_only_to_a_file(tmp_path: Path, kind: str) -> None:
    make, words = STRANGE[kind]
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert regular_files.content(tmp_path / "link", follows=True) == b"content"
    make(tmp_path / "strange")
    (tmp_path / "other").symlink_to("strange")
    with pytest.raises(NotRegularError, match=words):
        regular_files.content(tmp_path / "other", follows=True)
    with pytest.raises(NotRegularError, match="a device"):
        regular_files.content(Path("/dev/zero"), follows=True)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(OSError, match="1,099,511,627,776 bytes"):
        regular_files.content(tmp_path / "sparse")


@pytest.mark.parametrize("link", ["trials", "trials/00001", "trials/00001/checkpoints"])
def test_no_part_of_a_path_below_the_study_folder_may_be_a_link(study: Path, own: Path, link: str) -> None:
    place = study / link
    place.parent.mkdir(parents=True, exist_ok=True)
    deep = study / "trials" / "00001" / "checkpoints" / "bashrc"
    target = own.joinpath(*deep.relative_to(place).parts[:-1])
    target.mkdir(parents=True, exist_ok=True)
    (target / "bashrc").write_bytes(b"export A=1\n")
    place.symlink_to(own)
    for work in (
        lambda: files.write_bytes(deep, b"ours", within=study),
        lambda: files.write_if_changed(deep, b"ours", within=study),
        lambda: regular_files.content(deep, within=study),
        lambda: real_folders.remove(deep, study),
        lambda: real_folders.remove_all(deep, study),
        lambda: real_folders.move(deep, study / "mine", study),
        lambda: real_folders.made(deep.parent, study),
        lambda: real_folders.made(deep.parent / "more", study),
    ):
        with pytest.raises(NotRegularError) as raised:
            work()
        assert str(place) in (raised.value.strerror or ""), "the link is named"
    assert (target / "bashrc").read_bytes() == b"export A=1\n"
    assert [entry.name for entry in target.iterdir() if entry.name != "trials"] == ["bashrc"]


def test_the_study_folder_itself_may_be_reached_through_a_link(study: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").symlink_to("study")
    home = tmp_path / "runs"
    real_folders.made(home / "trials" / "00000", home)
    files.write_bytes(home / "trials" / "00000" / "result.json", b"{}", within=home)
    assert (study / "trials" / "00000" / "result.json").read_bytes() == b"{}"


def test_a_link_is_removed_without_its_target(study: Path, own: Path) -> None:
    for remove in (real_folders.remove, real_folders.remove_all):
        (study / "link").symlink_to(own)
        remove(study / "link", study)
        assert not os.path.lexists(study / "link")
    (study / "folder").mkdir()
    (study / "folder" / "link").symlink_to(own)
    real_folders.remove_all(study / "folder", study)
    assert (own / "bashrc").read_bytes() == b"export A=1\n"


@pytest.mark.parametrize("name", [".table.csv.tmp", ".table.csv.0123abcd.tmp"])
def test_a_link_with_a_temporary_name_does_not_lead_to_another_file(study: Path, own: Path, name: str) -> None:
    (study / name).symlink_to(own / "bashrc")
    files.write_bytes(study / "table.csv", b"=rm -rf")
    assert (own / "bashrc").read_bytes() == b"export A=1\n"
    assert [entry.name for entry in study.iterdir()] == ["table.csv"]


def test_the_remains_of_killed_writers_are_removed_and_files_being_written_stay(study: Path) -> None:
    (study / ".a.0123abcd.tmp").write_bytes(b"left")
    (study / ".b.0123abcd.tmp").write_bytes(b"of another file")
    begun, go_on = threading.Event(), threading.Event()

    def slowly(file: BinaryIO) -> None:
        file.write(b"slow")
        begun.set()
        assert go_on.wait(30)

    writer = threading.Thread(target=lambda: files.write_atomically(study / "a", slowly))
    writer.start()
    assert begun.wait(30)
    files.write_bytes(study / "a", b"fast")
    assert (study / "a").read_bytes() == b"fast"
    go_on.set()
    writer.join()
    assert (study / "a").read_bytes() == b"slow", "it was not disturbed"
    assert sorted(entry.name for entry in study.iterdir()) == [".b.0123abcd.tmp", "a"]


def test_a_temporary_file_is_recognised_by_its_name() -> None:
    assert files.target_of(".resume.pt.tmp") == "resume.pt"
    assert files.target_of(".resume.pt.0123abcd.tmp") == "resume.pt"
    assert files.target_of("resume.pt.tmp") is None
    assert files.target_of(".resume.pt") is None
