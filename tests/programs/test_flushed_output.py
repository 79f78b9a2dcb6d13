"""What is flushed to the disk while a program runs, and what is noted of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tunectl.core.folders import TrialFolder
from tunectl.programs import flushed_output
from tunectl.programs.flushed_output import (
    FLUSH_COST,
    LEAST_SECONDS,
    Flushed,
    Flusher,
    SavedPoint,
    note_flushed,
    read_flushed,
)
from tunectl.programs.unread_output import Beginning, beginnings, note_beginning


@pytest.fixture(autouse=True)
def _no_boot_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flushed_output, "boot_id", lambda: "")


@pytest.fixture
def folder(tmp_path: Path) -> TrialFolder:
    made = TrialFolder(tmp_path / "00007")
    made.files.mkdir(parents=True)
    made.log.write_text("step 1 loss 2\n")
    made.measurements.write_text("{}\n")
    (made.files / "model-1.pt").write_text("1")
    return made


def point(folder: TrialFolder, number: int | None = 1) -> SavedPoint:
    return SavedPoint.of(number, folder.files / "model-1.pt")


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is flushed, in this order."""
    names: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda opened: names.append(Path(f"/proc/self/fd/{opened}").readlink().name))
    return names


def test_the_note_comes_behind_what_it_says(folder: TrialFolder, flushed: list[str]) -> None:
    flusher = Flusher(folder, None)
    assert flusher.wants(point(folder))
    flusher.begin(point(folder))
    flusher.end()
    first = flushed[: flushed.index(next(name for name in flushed if "flushed.json" in name))]
    assert first[0] == "model-1.pt", "earlier checkpoints may be removed for it"
    assert {"log.txt", "measurements.jsonl"} <= {*first}
    assert flusher.covered == point(folder)
    noted = read_flushed(folder)
    assert noted == Flushed(14, 3, 1, point(folder).mark, is_all=True)


def test_what_cannot_be_flushed_is_not_noted(folder: TrialFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    flusher = Flusher(folder, None)
    monkeypatch.setattr(os, "fsync", broken)
    flusher.begin(point(folder))
    flusher.end()
    assert flusher.covered is None
    assert read_flushed(folder) is None
    assert not flusher.is_ready, "a disk that has errors is not asked at every look"


def test_flushing_takes_a_small_part_of_the_time(folder: TrialFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]

    def slow(_descriptor: int) -> None:
        now[0] += 1.0

    monkeypatch.setattr(os, "fsync", slow)
    flusher = Flusher(folder, None, clock=lambda: now[0])
    flusher.begin(point(folder))
    flusher.end()
    took = now[0] - 100.0
    assert not flusher.is_ready
    now[0] = 100.0 + 1 / FLUSH_COST
    assert not flusher.is_ready, "log, measurements and note took more than one second"
    now[0] = 100.0 + took + max(LEAST_SECONDS, took / FLUSH_COST)
    assert flusher.is_ready


def test_a_large_checkpoint_takes_no_more_of_the_time(folder: TrialFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    now, flush = [100.0], os.fsync

    def slow(descriptor: int) -> None:
        flush(descriptor)
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == "model-1.pt":
            now[0] += 3.0

    monkeypatch.setattr(os, "fsync", slow)
    flusher = Flusher(folder, None, clock=lambda: now[0])
    flusher.begin(point(folder))
    flusher.end()
    now[0] = 103.0 + 3.0 / FLUSH_COST - 1.0
    assert not flusher.is_ready
    now[0] += 2.0
    assert flusher.is_ready


def test_each_checkpoint_is_flushed_for_once(folder: TrialFolder) -> None:
    flusher = Flusher(folder, point(folder), clock=lambda: 0.0)
    assert not flusher.wants(None)
    assert not flusher.wants(point(folder))
    assert flusher.wants(point(folder, 2))
    one = Flusher(folder, point(folder, None), clock=lambda: 0.0)
    assert not one.wants(point(folder, None))
    (folder.files / "model-1.pt").write_text("written again")
    assert one.wants(point(folder, None))


def test_a_note_covers_what_was_there_before_and_holds_while_the_files_do(folder: TrialFolder) -> None:
    note_flushed(folder, point(folder, 5))
    noted = read_flushed(folder)
    assert noted is not None
    assert [noted.covers(point(folder, number)) for number in (4, 5, 6)] == [True, True, False]
    assert noted.holds(folder)
    folder.measurements.write_text("")
    assert not noted.holds(folder)
    note_flushed(folder, None)
    assert read_flushed(folder) == Flushed(14, 0)
    assert not Flushed(14, 0).covers(point(folder))
    assert Flushed(14, 0, is_all=True).covers(point(folder))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b'{"log_bytes": "1", "measured_bytes": 2}', b"\xff"])
def test_a_damaged_note_covers_nothing(folder: TrialFolder, content: bytes) -> None:
    (folder.path / "flushed.json").write_bytes(content)
    assert read_flushed(folder) == Flushed(0, 0)


def test_a_pipe_or_a_link_in_place_of_the_note_covers_nothing_and_is_not_waited_for(folder: TrialFolder) -> None:
    note = folder.path / "flushed.json"
    os.mkfifo(note)
    assert read_flushed(folder) == Flushed(0, 0)
    note.unlink()
    (folder.path / "other.json").write_text('{"log_bytes": 1, "measured_bytes": 1, "is_all": true}')
    note.symlink_to("other.json")
    assert read_flushed(folder) == Flushed(0, 0)


def test_how_an_attempt_began_is_appended_durably_and_a_torn_line_is_of_an_attempt_that_started_nothing(
    folder: TrialFolder, flushed: list[str]
) -> None:
    note_beginning(folder, Beginning(None, 0))
    assert "began" in flushed
    note_beginning(folder, Beginning(3, 500, failures=1))
    began = folder.path / "began"
    content = began.read_bytes()
    for length in range(content.index(b"\n") + 1, len(content)):
        began.write_bytes(content[:length])
        assert beginnings(folder) == [Beginning(None, 0)]
        note_beginning(folder, Beginning(2, 400))
        assert beginnings(folder) == [Beginning(None, 0), Beginning(2, 400)]
    began.write_bytes(b"\0" * 9 + content)
    assert beginnings(folder) == [], "where a line is damaged it is not known which attempt is the last"


def test_of_attempts_whose_output_a_power_cut_removed_nothing_is_left(folder: TrialFolder) -> None:
    for log_bytes in (0, 100, 200, 100):
        note_beginning(folder, Beginning(log_bytes // 50, log_bytes, failures=log_bytes // 100))
    assert beginnings(folder) == [Beginning(0, 0), Beginning(2, 100, failures=1)]
