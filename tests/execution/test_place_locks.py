"""Tests place_locks.py: several runs are several objects, since a lock belongs to an open file, not to a process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from moved_clock import Clock

from tunectl.execution.place_locks import LOST_AFTER_SECONDS, PlaceLocks


@pytest.fixture
def clock() -> Clock:
    return Clock(1e9)


@pytest.fixture
def runs(tmp_path: Path, clock: Clock) -> Iterator[list[PlaceLocks]]:
    made = [PlaceLocks(tmp_path, now=clock) for _ in range(3)]
    yield made
    for run in made:
        run.close()


def test_a_place_has_one_holder_until_it_is_unlocked(runs):
    first, second, _ = runs
    assert first.lock("core-0")
    assert first.lock("core-0"), "it has it already"
    assert not second.lock("core-0")
    assert second.lock("core-1")
    assert second.is_taken("core-0")
    assert not first.is_taken("core-0"), "its own"
    first.unlock("core-0")
    assert not second.is_taken("core-0")
    assert second.lock("core-0")


def test_several_can_share_a_place_and_then_none_has_it_alone(runs):
    first, second, third = runs
    assert first.lock("GPU-a", shared=True)
    assert second.lock("GPU-a", shared=True)
    assert not third.lock("GPU-a")
    first.unlock("GPU-a")
    assert not third.lock("GPU-a")
    second.unlock("GPU-a")
    assert third.lock("GPU-a")
    assert not first.lock("GPU-a", shared=True)


def test_names_of_devices_are_file_names(runs, tmp_path):
    assert runs[0].lock("MIG-GPU-a/1/0")
    assert [path.name for path in tmp_path.iterdir()] == ["MIG-GPU-a_1_0.lock"]


def test_who_waits_longer_goes_first_and_a_new_wait_is_a_new_turn(runs, clock):
    first, second, third = runs
    for run in (first, second):
        clock.now += 1
        run.wait_for({"core-0", "core-1"})
    assert third.wanted_before() == second.wanted_before() == {"core-0", "core-1"}
    assert first.wanted_before() == frozenset()
    clock.now += 1
    first.leave_queue()
    first.wait_for({"core-0"})
    assert second.wanted_before() == frozenset()
    assert first.wanted_before() == {"core-0", "core-1"}


def test_a_turn_is_for_the_places_that_are_named_last(runs):
    first, second, _ = runs
    first.wait_for({"GPU-a", "GPU-b"})
    first.wait_for({"GPU-b"})
    assert second.wanted_before() == {"GPU-b"}
    first.wait_for(())
    assert second.wanted_before() == frozenset()


def test_a_run_that_is_stopped_loses_its_turn_until_it_goes_on(runs, clock):
    first, second, _ = runs
    first.wait_for({"core-0"})
    clock.now += LOST_AFTER_SECONDS + 1
    assert second.wanted_before() == frozenset()
    first.wait_for({"core-0"})
    assert second.wanted_before() == {"core-0"}


def test_the_turn_and_the_locks_of_a_killed_run_are_gone_with_it(tmp_path, runs):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        killed = PlaceLocks(tmp_path)
        killed.lock("core-0")
        killed.wait_for({"core-1"})
        os.write(writing, b"x")
        signal.pause()
    os.read(reading, 1)
    os.close(reading)
    os.close(writing)
    assert not runs[0].lock("core-0")
    assert runs[0].wanted_before() == {"core-1"}
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert runs[0].lock("core-0")
    assert runs[0].wanted_before() == frozenset()
    assert list((tmp_path / "queue").iterdir()) == [], "its file is removed"


def test_a_lock_outlives_its_run_while_another_process_has_a_copy(tmp_path, runs):
    copies: list[int] = []
    run = PlaceLocks(tmp_path, on_open=lambda fd: copies.append(os.dup(fd)))
    run.lock("core-0")
    run.lock("core-1")
    run.unlock("core-1")
    run.close()
    assert not runs[0].lock("core-0"), "a trial of it still runs"
    assert runs[0].lock("core-1"), "given back while copies were open"
    os.close(copies[0])
    assert runs[0].lock("core-0")
    os.close(copies[1])


def test_removed_files_are_made_again(tmp_path, runs):
    first, second, _ = runs
    first.lock("core-0")
    first.unlock("core-0")
    first.wait_for({"core-1"})
    (tmp_path / "core-0.lock").unlink()
    next((tmp_path / "queue").iterdir()).unlink()
    assert second.lock("core-0")
    assert not first.lock("core-0"), "not the file that was removed"
    first.wait_for({"core-1"})
    assert second.wanted_before() == {"core-1"}


def test_what_is_no_list_of_places_in_the_queue_is_passed_over(tmp_path, runs):
    runs[0].wait_for({"core-0"})
    path = next((tmp_path / "queue").iterdir())
    path.write_bytes(b'{"torn')
    assert runs[1].wanted_before() == frozenset()
