"""Heartbeats that are judged by their changes. Tests heartbeats.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from moved_clock import Clock

from tunectl.store import heartbeats
from tunectl.store.heartbeats import BeatWatch


def test_a_heartbeat_is_silent_from_its_last_change_that_was_seen() -> None:
    clock = Clock(1000.0)
    watch = BeatWatch(clock, longest_gap_seconds=5.0)
    silent = []
    for seconds, beat in ((0, b"1"), (4, b"1"), (4, b"1"), (4, b"2"), (4, b"2"), (4, None)):
        clock.now += seconds
        silent.append(watch.silent_seconds("a", beat))
    assert silent == [0, 4, 8, 0, 4, 0]


def test_a_reader_that_was_suspended_has_not_seen_that_nothing_changed() -> None:
    clock = Clock(1000.0)
    watch = BeatWatch(clock, longest_gap_seconds=2.0)
    watch.silent_seconds("a", b"1")
    clock.now += 3600
    assert watch.silent_seconds("a", b"1") == 2.0


def test_heartbeats_are_judged_each_by_itself_and_forgotten() -> None:
    clock = Clock(1000.0)
    watch = BeatWatch(clock, longest_gap_seconds=5.0)
    watch.silent_seconds("a", b"1")
    watch.silent_seconds("b", b"1")
    clock.now += 3
    assert watch.silent_seconds("a", b"1") == 3
    watch.keep(["a"])
    assert watch.silent_seconds("a", b"1") == 3
    assert watch.silent_seconds("b", b"1") == 0


def test_the_times_of_a_file_play_no_part(tmp_path: Path) -> None:
    heartbeats.write_beat(tmp_path / "beat", 1, within=tmp_path)
    first = heartbeats.read_beat(tmp_path / "beat", within=tmp_path)
    os.utime(tmp_path / "beat", (0, 2**31))
    assert heartbeats.read_beat(tmp_path / "beat", within=tmp_path) == first


def test_a_heartbeat_makes_no_folder_and_follows_no_link(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        heartbeats.write_beat(tmp_path / "gone" / "beat", 1, within=tmp_path)
    other = tmp_path / "other"
    (tmp_path / "beat").symlink_to(other)
    with pytest.raises(OSError, match="link"):
        heartbeats.write_beat(tmp_path / "beat", 1, within=tmp_path)
    assert not other.exists()
