"""One runner per study folder where the file system has no locks."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys

import pytest
from test_runner_lock import GONE_PID, FakeClock, acquire
from toy_trials import wait_until

from tunectl.core import parent_death
from tunectl.core.errors import FolderError
from tunectl.execution import claim_file, processes, runner_lock


@pytest.fixture(params=[errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP], autouse=True)
def no_locks(request, monkeypatch):
    def flock(fd, operation):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lock"


@pytest.fixture
def left(path):
    """Write the claim of a runner that was killed; `changes` are of its place or its process."""

    def write(**changes):
        held = claim_file.make(path.with_name("lock.claim"))
        assert held is not None
        holder = json.loads(held.content) | changes
        held.path.write_text(json.dumps(holder))
        return held.path

    return write


def test_a_second_runner_is_refused_at_once(path):
    held = acquire(path)
    assert runner_lock.is_held(path)
    clock = FakeClock()
    with pytest.raises(FolderError, match=f"in use by process {os.getpid()} on "):
        acquire(path, clock)
    assert clock.now == 0
    held.release()
    assert not runner_lock.is_held(path)
    acquire(path).release()


def test_nothing_is_left_of_a_claim_that_was_given_up(path):
    acquire(path).release()
    assert [item.name for item in path.parent.iterdir()] == ["lock"]


def test_the_claim_of_a_runner_that_was_killed_on_this_machine_is_taken_over(path, left):
    file = left(pid=GONE_PID)
    assert not runner_lock.is_held(path)
    held = acquire(path)
    assert json.loads(file.read_bytes())["pid"] == os.getpid()
    held.release()


def test_a_pid_that_another_process_has_by_now_is_no_runner(path, left):
    file = left(started=1)
    held = acquire(path)
    assert json.loads(file.read_bytes())["started"] == processes.start_time(os.getpid())
    held.release()


@pytest.mark.parametrize("place", ["host", "machine", "namespace"])
def test_the_claim_of_another_machine_or_container_is_named_and_never_judged(path, left, place):
    file = left(**{place: "another", "pid": GONE_PID})
    before = file.read_bytes()
    assert runner_lock.is_held(path)
    clock = FakeClock()
    with pytest.raises(FolderError, match=f"cannot be known on this machine.* delete {file}"):
        acquire(path, clock)
    assert file.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"[]", b'{"pid": 1', b"\xff"])
def test_a_torn_claim_is_never_judged(path, content):
    path.with_name("lock.claim").write_bytes(content)
    with pytest.raises(FolderError, match="delete "):
        acquire(path)


def test_a_claim_is_named_also_where_the_lock_is_that_of_a_runner_that_is_gone(path):
    path.write_text(json.dumps({"pid": GONE_PID, "host": claim_file._machine_fields()["host"], "started": 1}))
    path.with_name("lock.claim").write_bytes(b"[]")
    with pytest.raises(FolderError, match="delete "):
        acquire(path)


def test_what_is_left_of_a_killed_runner_is_waited_for_and_ended(path, left):
    ours = processes.start_time(os.getpid())
    assert ours is not None
    started = ours - 1  # any that is no other process's
    mark = processes.mark_of(GONE_PID, started) + "1"
    command = [sys.executable, "-c", "import signal; signal.pause()"]
    with subprocess.Popen(command, env={**os.environ, parent_death.MARK: mark}) as child:
        try:
            wait_until(lambda: processes.with_mark(mark), "the environment of the new program is there")
            left(pid=GONE_PID, started=started)
            path.write_text(
                json.dumps({"pid": GONE_PID, "host": claim_file._machine_fields()["host"], "started": started})
            )
            clock = FakeClock()

            def sleep(seconds):
                clock.sleep(seconds)
                if clock.now > 5.15:  # it was killed at the last look
                    child.wait()

            runner_lock.acquire(path, 10, clock, sleep).release()
            assert 5 <= clock.now < 6
            assert child.returncode == -signal.SIGKILL
        finally:
            child.kill()


def test_of_two_runners_that_found_the_same_one_gone_only_one_removes_its_claim(path, left):
    file = left(pid=GONE_PID)
    with claim_file._alone(path.parent) as alone:
        assert alone
        assert claim_file.make(file) is None, "the other one is about to"
    assert claim_file.make(file) is not None


def test_a_runner_that_has_a_lock_where_this_one_gets_none_is_seen(path, left):
    # The same file system, mounted otherwise.
    parent = os.getppid()
    holder = {"pid": parent, "host": claim_file._machine_fields()["host"], "started": processes.start_time(parent)}
    path.write_text(json.dumps(holder))
    with pytest.raises(FolderError, match=f"in use by process {parent}"):
        acquire(path)


def test_a_claim_counts_also_for_a_runner_that_can_lock(path, left, monkeypatch):
    left(host="another")
    monkeypatch.undo()
    with pytest.raises(FolderError, match="delete "):
        acquire(path)


def test_a_claim_that_another_process_has_made_since_is_not_given_up(path):
    held = acquire(path)
    path.with_name("lock.claim").write_text("{}")
    held.release()
    assert path.with_name("lock.claim").exists()
