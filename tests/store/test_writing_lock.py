from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from narrowing import present

from tunectl.core.folders import StudyFolder
from tunectl.execution.runner_lock import acquire
from tunectl.store.writing_lock import writing_lock


@pytest.fixture
def folder(tmp_path):
    folder = StudyFolder(tmp_path / "study")
    folder.trials.mkdir(parents=True)
    return folder


def is_locked(folder: StudyFolder) -> bool:
    descriptor = os.open(folder.path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def test_the_folder_is_locked_within_the_block_alone_and_nothing_is_written_for_it(folder):
    with writing_lock(folder):
        assert is_locked(folder)
    assert not is_locked(folder)
    with pytest.raises(ZeroDivisionError), writing_lock(folder):
        raise ZeroDivisionError
    assert not is_locked(folder)
    assert [*folder.path.rglob("*")] == [folder.trials]  # nothing is written for it


def test_a_second_writer_waits_for_the_first(folder):
    first = writing_lock(folder)
    first.__enter__()
    looks = []

    def sleep(_seconds: float) -> None:
        looks.append(is_locked(folder))
        if len(looks) == 3:
            first.__exit__(None, None, None)

    with writing_lock(folder, sleep=sleep):
        assert looks == [True, True, True]
        assert is_locked(folder)


def test_a_writer_that_does_not_end_is_waited_for_a_while_only(folder):
    now, said = [0.0], list[str]()

    def sleep(seconds: float) -> None:
        now[0] += seconds

    with writing_lock(folder), writing_lock(folder, said.append, clock=lambda: now[0], sleep=sleep):
        assert 60.0 <= now[0] < 61.0
    (line,) = said
    assert line.startswith(f"{folder.path}: waiting for ")
    assert line.endswith(" to write the study's tables and page; going on without it after 60 s")


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="the system does not list its locks")
def test_after_two_seconds_it_is_said_on_which_process_it_waits_and_whether_that_one_is_stopped(folder):
    holding = (
        "import fcntl, os, sys, time; fcntl.flock(os.open(sys.argv[1], 0), 2); print(1, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", holding, str(folder.path)]
    now, said, times = [0.0], list[str](), list[tuple[float, int]]()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        present(process.stdout).readline()
        os.kill(process.pid, signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)

        def sleep(seconds: float) -> None:
            now[0] += seconds
            times.append((now[0], len(said)))
            if now[0] > 10.0:
                process.kill()
                process.wait()

        with writing_lock(folder, said.append, clock=lambda: now[0], sleep=sleep):
            assert is_locked(folder)
    (line,) = said
    assert f"waiting for process {process.pid} (import fcntl" in line
    assert "), which is stopped, to write" in line
    assert [count for at, count in times if at <= 2.0] == [0] * len([at for at, _ in times if at <= 2.0])


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EBADF, errno.EOPNOTSUPP])
def test_where_there_are_no_locks_the_block_is_entered_at_once(folder, monkeypatch, number):
    def flock(_descriptor: int, _operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    entered = False
    with writing_lock(folder, sleep=lambda _: pytest.fail("it waited")):
        entered = True
    assert entered


def test_a_folder_that_is_not_there_is_not_made(tmp_path):
    with writing_lock(StudyFolder(tmp_path / "none")):
        pass
    assert not (tmp_path / "none").exists()


def test_a_folder_that_is_moved_meanwhile_is_not_the_one_that_is_locked(folder):
    first = writing_lock(folder)
    first.__enter__()
    moved = folder.path.with_name("moved")

    def sleep(_seconds: float) -> None:
        if not moved.exists():
            folder.path.rename(moved)
            folder.trials.mkdir(parents=True)
            first.__exit__(None, None, None)

    with writing_lock(folder, sleep=sleep):
        assert moved.exists()
        assert is_locked(folder)


def test_a_runner_that_holds_the_folder_may_write(folder):
    with acquired(folder.lock), writing_lock(folder, sleep=lambda _: pytest.fail("it waited")):
        assert is_locked(folder)


@contextlib.contextmanager
def acquired(path: Path) -> Iterator[None]:
    held = acquire(path)
    try:
        yield
    finally:
        held.release()
