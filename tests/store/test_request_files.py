"""The files of requests to a run, and of their answers. Tests request_files.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.store import request_files
from tunectl.store.request_files import RequestAnswer, RunRequest

REQUEST = RunRequest("stop trial", "host:1:2", trial=3)


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path)


def test_a_request_is_taken_once_and_answered(folder: StudyFolder) -> None:
    name = request_files.send(folder, REQUEST)
    assert request_files.waiting(folder) == [name]
    assert request_files.take(folder, name) == REQUEST
    assert request_files.waiting(folder) == []
    assert request_files.read_answer(folder, name) is None
    answer = RequestAnswer(True, "done")
    request_files.answer(folder, name, answer)
    assert request_files.read_answer(folder, name) == answer
    request_files.forget(folder, name)
    assert not folder.requests.exists()


def test_requests_are_read_in_the_order_in_which_they_were_sent(folder: StudyFolder) -> None:
    names = [request_files.send(folder, REQUEST) for _ in range(5)]
    assert request_files.waiting(folder) == names


def test_a_request_that_was_withdrawn_cannot_be_taken_and_one_that_was_taken_cannot_be_withdrawn(
    folder: StudyFolder,
) -> None:
    first, second = (request_files.send(folder, REQUEST) for _ in range(2))
    assert request_files.withdraw(folder, first)
    with pytest.raises(FileNotFoundError):
        request_files.take(folder, first)
    request_files.take(folder, second)
    assert not request_files.withdraw(folder, second)


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"action": "dance", "to": "x"}', b'{"action": "stop", "to": 3}', b"[1]", b"\x00" * 100_000]
)
def test_a_damaged_request_is_taken_as_none(folder: StudyFolder, content: bytes) -> None:
    name = request_files.send(folder, REQUEST)
    (folder.requests / f"{name}.json").write_bytes(content)
    assert request_files.take(folder, name) is None


def test_other_files_and_links_are_no_requests(folder: StudyFolder, tmp_path: Path) -> None:
    name = request_files.send(folder, REQUEST)
    kept = tmp_path / "elsewhere"
    (folder.requests / f"{name}.json").rename(kept)
    (folder.requests / "notes.json").write_text("{}")
    assert request_files.waiting(folder) == []
    (folder.requests / f"{name}.json").symlink_to(kept)
    with pytest.raises(OSError, match="is a link"):
        request_files.take(folder, name)
    assert kept.exists()


def test_what_a_killed_command_left_is_removed_after_ten_minutes(folder: StudyFolder) -> None:
    name = request_files.send(folder, REQUEST)
    sent = int(name.partition("-")[0]) / 1e9
    request_files.clear_old(folder, clock=lambda: sent + 599)
    assert request_files.waiting(folder) == [name]
    request_files.clear_old(folder, clock=lambda: sent + 601)
    assert not folder.requests.exists()


def test_a_folder_that_cannot_be_written_is_an_error_with_its_place(folder: StudyFolder) -> None:
    folder.requests.write_text("a file")
    with pytest.raises(FolderError, match="requests"):
        request_files.send(folder, REQUEST)
