"""The lock on a study folder."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import stat
import subprocess
import sys

import pytest
from toy_trials import wait_until

from tunectl.core.errors import FolderError
from tunectl.execution import processes, runner_lock

GONE_PID = 2**22 + 1  # above the largest pid of Linux


class FakeClock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def acquire(path, clock=None, wait_seconds=10):
    clock = clock or FakeClock()
    return runner_lock.acquire(path, wait_seconds, clock, clock.sleep)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lock"


def test_the_lock_names_its_holder(path):
    held = acquire(path)
    assert json.loads(path.read_text()) == {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": processes.start_time(os.getpid()),
    }
    held.release()


def test_a_lock_that_was_let_go_is_had_again(path):
    acquire(path).release()
    held = acquire(path)
    assert runner_lock.is_held(path)
    held.release()
    assert not runner_lock.is_held(path)


def test_a_second_runner_is_refused_at_once_with_exit_code_3(path):
    held = acquire(path)
    clock = FakeClock()
    with pytest.raises(FolderError, match=f"in use by process {os.getpid()} on ") as caught:
        acquire(path, clock)
    assert caught.value.exit_code == 3
    assert clock.now == 0
    held.release()


def test_the_last_writers_of_a_killed_runner_are_waited_for(path):
    # The pid in the file is gone, its workers still hold the lock; they end while the new runner waits.
    held = acquire(path)
    path.write_text(json.dumps({"pid": GONE_PID, "host": socket.gethostname(), "started": 1}))
    clock = FakeClock()

    def sleep(seconds):
        clock.sleep(seconds)
        if clock.now > 3:
            for fd in held.fds:
                fcntl.flock(fd, fcntl.LOCK_UN)

    runner_lock.acquire(path, 10, clock, sleep).release()
    assert 3 < clock.now < 4
    for fd in held.fds:
        os.close(fd)


@pytest.mark.parametrize(
    ("holder", "said"),
    [
        ({"pid": GONE_PID, "host": socket.gethostname()}, "trials of a runner that was killed"),
        (
            {"pid": os.getpid(), "host": socket.gethostname(), "started": 1},
            "trials of a runner that was killed",
        ),
        ({"pid": os.getpid(), "host": "another-machine"}, f"in use by process {os.getpid()} on another-machine"),
        ({}, "in use by another process"),
        ([], "in use by another process"),
    ],
    ids=["a runner that is gone", "a pid used again", "another machine", "an empty holder", "an odd holder"],
)
def test_waiting_ends_after_ten_seconds(path, holder, said):
    # A reused pid (another start time), another machine's, an empty or odd file.
    held = acquire(path)
    path.write_text(json.dumps(holder))
    clock = FakeClock()
    with pytest.raises(FolderError, match=said):
        acquire(path, clock)
    assert 10 <= clock.now < 11
    held.release()


def test_a_torn_lock_file_is_no_trouble(path):
    path.write_bytes(b'{"pid": 12\xff')
    held = acquire(path)
    assert json.loads(path.read_text())["pid"] == os.getpid()
    held.release()


def test_a_copy_in_another_process_holds_the_lock_after_its_taker_died(path):
    script = (
        "import os, subprocess, sys\n"
        "from pathlib import Path\n"
        "from tunectl.execution import runner_lock as lock\n"
        "held = lock.acquire(Path(sys.argv[1]))\n"
        "os.set_inheritable(held.fd, True)\n"
        "sleep = [sys.executable, '-c', 'import signal; signal.pause()']\n"
        "child = subprocess.Popen(sleep, close_fds=False, stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True, check=True)
    child = int(done.stdout)
    try:
        with pytest.raises(FolderError, match="trials of a runner that was killed"):
            acquire(path)
    finally:
        os.kill(child, signal.SIGKILL)
    runner_lock.acquire(path).release()


def test_a_stopped_server_of_a_killed_runner_is_ended_for_the_next_one(path):
    # SIGSTOP keeps it from seeing that its runner is gone.
    script = (
        "import os, subprocess, sys\n"
        "from pathlib import Path\n"
        "from tunectl.core import parent_death as lifetime\n"
        "from tunectl.execution import processes, runner_lock as lock\n"
        "held = lock.acquire(Path(sys.argv[1]))\n"
        "os.set_inheritable(held.fd, True)\n"
        "mark = processes.mark_of(os.getpid(), processes.start_time(os.getpid())) + '1'\n"
        "stopped = [sys.executable, '-c', 'import os, signal; os.kill(os.getpid(), signal.SIGSTOP)']\n"
        "environment = {**os.environ, lifetime.MARK: mark}\n"
        "child = subprocess.Popen(stopped, close_fds=False, stdout=subprocess.DEVNULL, env=environment)\n"
        "print(child.pid, flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True, check=True)
    clock = FakeClock()

    def sleep(seconds):
        clock.sleep(seconds)
        if clock.now > 5.15:  # it was killed at the last look
            wait_until(lambda: not processes.is_alive(int(done.stdout)), "what was left is killed")

    runner_lock.acquire(path, 10, clock, sleep).release()
    assert 5 <= clock.now < 6, "it had time to end by itself"


def test_release_frees_the_lock_also_from_copies(path):
    held = acquire(path)
    copy = os.dup(held.fd)
    assert runner_lock.is_held(path)
    held.release()
    assert not runner_lock.is_held(path)
    acquire(path).release()
    os.close(copy)


def test_the_lock_file_is_not_inherited_by_programs_that_are_started(path):
    held = acquire(path)
    assert not os.get_inheritable(held.fd)
    held.release()


def test_a_folder_made_anew_in_the_meantime_is_locked_itself(path, monkeypatch):
    # Between opening and locking, the folder is deleted and made again.
    real = fcntl.flock
    done: list[bool] = []

    def flock(fd, operation):
        if not done:
            done.append(True)
            path.unlink()
            path.touch()
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    held = acquire(path)
    assert os.fstat(held.fd).st_ino == path.stat().st_ino
    held.release()


def test_a_folder_that_is_not_there_is_an_error(path):
    with pytest.raises(FolderError, match=r"none/lock: cannot be opened: No such file or directory"):
        acquire(path.parent / "none" / "lock")


@pytest.fixture
def trials(path):
    folder = path.with_name("trials")
    folder.mkdir()
    return folder


@pytest.mark.parametrize("is_new", [False, True])
def test_a_lock_file_that_is_deleted_under_a_runner_lets_no_second_one_in(path, is_new):
    if not is_new:
        path.with_name("trials").mkdir()
    held = acquire(path)
    if is_new:
        path.with_name("trials").mkdir()
        held = held.with_trials()
    path.unlink()
    assert runner_lock.is_held(path)
    with pytest.raises(FolderError, match="in use by another process"):
        acquire(path)
    path.unlink()
    held.release()
    assert not runner_lock.is_held(path)
    acquire(path).release()


def test_the_folder_of_trials_that_begin_anew_is_locked_in_place_of_the_one_that_was_moved(path, trials):
    held = acquire(path)
    trials.rename(path.with_name("moved"))
    trials.mkdir()
    held = held.with_trials()
    assert os.fstat(held.fds[1]).st_ino == trials.stat().st_ino
    assert held.with_trials() == held
    held.release()
    acquire(path).release()


def test_trials_that_another_process_has_by_now_are_not_taken(path):
    held = acquire(path)
    path.with_name("trials").mkdir()
    path.unlink()
    other = acquire(path)
    with pytest.raises(FolderError, match="in use by another process"):
        held.with_trials()
    other.release()
    held.release()


def test_a_copy_of_the_folder_s_lock_holds_it_like_one_of_the_file_s(path, trials):
    held = acquire(path)
    copy = os.dup(held.fds[1])
    os.close(held.fds[0])
    os.close(held.fds[1])
    path.unlink()
    with pytest.raises(FolderError, match="in use"):
        acquire(path)
    os.close(copy)
    acquire(path).release()


@pytest.mark.parametrize("number", [errno.EBADF, errno.EISDIR, errno.ENOLCK])
def test_where_folders_cannot_be_locked_the_file_s_lock_is_enough(path, trials, monkeypatch, number):
    real = fcntl.flock

    def flock(fd, operation):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(number, os.strerror(number))
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    held = acquire(path)
    with pytest.raises(FolderError, match="in use"):
        acquire(path)
    held.release()
    acquire(path).release()


def test_a_file_system_that_fails_is_an_error(path, monkeypatch):
    def flock(fd, operation):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(FolderError, match="cannot be locked: Input/output error"):
        acquire(path)


def test_one_can_look_whether_a_lock_is_held_without_touching_it(path):
    assert not runner_lock.is_held(path)
    held = acquire(path)
    content = path.read_bytes()
    assert runner_lock.is_held(path)
    assert path.read_bytes() == content
    held.release()
    assert not runner_lock.is_held(path)


def holder(path):
    found = runner_lock.holder(path)
    assert found is not None
    return found


def test_the_holder_is_known_with_its_pause_and_whether_it_has_ended(path):
    assert runner_lock.holder(path) is None
    held = acquire(path)
    found = holder(path)
    assert (found.pid, found.host, found.is_paused, found.is_gone) == (os.getpid(), socket.gethostname(), False, False)
    assert found.mark == runner_lock.own_mark()
    assert runner_lock.try_acquire(path) is None
    held.note_pause(is_paused=True)
    assert holder(path).is_paused
    assert holder(path).mark == found.mark
    held.note_pause(is_paused=False)
    assert not holder(path).is_paused
    held.release()
    path.write_text(json.dumps({"pid": GONE_PID, "host": socket.gethostname(), "started": 1, "paused": True}))
    assert holder(path).is_gone
    path.write_text(json.dumps({"pid": GONE_PID, "host": "elsewhere"}))
    assert not holder(path).is_gone, "what runs on another machine is not known"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"pid": true, "host": "x"}', '{"pid": 0, "host": "x"}', '{"pid": 4}']
)
def test_a_lock_file_that_names_no_one_has_no_holder(path, content):
    path.write_text(content)
    assert runner_lock.holder(path) is None
