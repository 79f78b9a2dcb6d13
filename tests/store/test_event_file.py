"""The events of a study: numbered over all runs, also after a kill in the middle of a line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.store import event_file
from tunectl.store.event_file import EventFile, events_since

TIME = "2026-01-01T00:00:00.000+00:00"


def append(folder: StudyFolder, *events: str) -> None:
    with EventFile(folder) as file:
        for event in events:
            file.append(TIME, event, {"text": "a, b"})


def numbered(folder: StudyFolder, since: int = 0) -> list[tuple[int, str]]:
    return [(item["number"], item["event"]) for item in events_since(folder, since)]


def test_events_are_numbered_over_all_runs_and_read_from_a_number_on(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    assert numbered(folder) == []
    append(folder, "one", "two")
    append(folder, "three")
    assert numbered(folder) == [(1, "one"), (2, "two"), (3, "three")]
    assert numbered(folder, since=2) == [(3, "three")]
    assert next(events_since(folder, 0)) == {"format": 1, "number": 1, "time": TIME, "event": "one", "text": "a, b"}


@pytest.mark.parametrize("cut", range(1, 40, 6))
def test_a_torn_last_line_is_passed_over_and_its_number_given_again(tmp_path: Path, cut: int) -> None:
    folder = StudyFolder(tmp_path)
    append(folder, "one", "two")
    folder.events.write_bytes(folder.events.read_bytes()[:-cut])
    assert numbered(folder) == [(1, "one")]
    append(folder, "again")
    assert numbered(folder) == [(1, "one"), (2, "again")]


def test_a_damaged_line_is_passed_over_and_numbers_go_on_after_the_last_whole_one(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(event_file, "_BLOCK_BYTES", 64)  # of the last lines only parts are in a block
    folder = StudyFolder(tmp_path)
    append(folder, "one", "two", "three")
    folder.events.write_bytes(folder.events.read_bytes().replace(b"three", b"thr"))
    append(folder, "four")
    assert numbered(folder) == [(1, "one"), (2, "two"), (3, "four")]


def test_a_write_that_fails_leaves_whole_lines(tmp_path: Path, monkeypatch) -> None:
    folder = StudyFolder(tmp_path)
    with EventFile(folder) as file:
        file.append(TIME, "one", {})
        whole, written = os.pwrite, list[int]()

        def until_the_disk_is_full(descriptor: int, content: bytes, offset: int) -> int:
            if written:
                raise OSError(28, "No space left on device")
            written.append(whole(descriptor, content[:7], offset))
            return written[-1]

        monkeypatch.setattr(os, "pwrite", until_the_disk_is_full)
        with pytest.raises(OSError, match="No space"):
            file.append(TIME, "two", {})
        monkeypatch.setattr(os, "pwrite", whole)
        file.append(TIME, "three", {})
    assert numbered(folder) == [(1, "one"), (2, "three")]


def test_a_link_out_of_the_folder_is_not_written_through(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "study")
    folder.path.mkdir()
    folder.events.symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match=r"other|link"):
        EventFile(folder)
    assert not (tmp_path / "other").exists()


def test_a_file_that_cannot_be_read_is_an_error_with_its_name(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    folder.events.mkdir()
    with pytest.raises(FolderError, match=r"events\.jsonl"):
        list(events_since(folder, 0))
