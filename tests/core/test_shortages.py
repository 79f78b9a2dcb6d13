"""What a machine is short of, and waiting for it. The exceptions are tested in tests/execution/test_worker.py, too."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import resource

import pytest

from tunectl.core.errors import FolderError
from tunectl.core.shortages import (
    file_size_remedy,
    patiently,
    shared_memory_remedy,
    shortage,
    shortage_said,
    with_advice,
)


def test_a_call_is_repeated_while_the_machine_is_short_of_something():
    left, waited = [errno.EAGAIN, errno.ENOMEM, errno.EMFILE], list[float]()

    def call():
        if left:
            raise OSError(left.pop(), "short")
        return "made"

    assert patiently(call, waited.append) == "made"
    assert len(waited) == 3


@pytest.mark.parametrize(("number", "calls"), [(errno.EAGAIN, 5), (errno.ENOENT, 1)])
def test_the_last_error_is_raised_after_a_second_and_another_one_at_once(number, calls):
    made, waited = [], list[float]()

    def call():
        made.append(1)
        raise OSError(number, "no")

    with pytest.raises(OSError, match="no"):
        patiently(call, waited.append)
    assert len(made) == calls
    assert sum(waited) < 1


def test_memory_that_a_computation_asks_for_is_not_a_shortage_of_the_machine():
    assert shortage(MemoryError("a tensor of 1 TB")) == ""


def test_a_limit_of_the_session_is_named_in_bytes(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (512_000, 512_000))
    assert "512,000 bytes" in file_size_remedy()
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (resource.RLIM_INFINITY,) * 2)
    assert "ulimit" not in file_size_remedy()


def test_only_messages_about_shared_memory_have_its_remedy():
    assert shared_memory_remedy("CUDA out of memory") == ""
    said = "It is possible that dataloader's workers are out of shared memory. Please try to raise it."
    assert "--shm-size" in shared_memory_remedy(said)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("OSError: [Errno 24] Too many open files: 'a.txt'", "ulimit -n"),
        ("BlockingIOError: [Errno 11] Resource temporarily unavailable", "ulimit -u"),
        ("RuntimeError: can't start new thread", "ulimit -u"),
        ("RuntimeError: unable to allocate shared memory(shm) for file </torch_1_2_0>: No space", "--shm-size"),
        ("MyError: [Errno 24] Too many open files", None),
        ("RuntimeError: shapes do not match", None),
        ("loss: OSError: [Errno 24]", None),
    ],
)
def test_the_last_line_of_a_program_shows_what_the_machine_was_short_of(line, said):
    assert said in shortage_said(line) if said else shortage_said(line) == ""


def test_an_error_for_the_user_ends_with_what_to_do_about_its_cause(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (1_024, 1_024))

    def error_of(cause):
        error = FolderError("runs/a: cannot be written.")
        error.__cause__ = cause
        return with_advice(error)

    assert "written; a process may have at most 1,024 open files" in error_of(OSError(errno.EMFILE, "too many"))
    assert "written; files may have at most 1,024 bytes" in error_of(OSError(errno.EFBIG, "too large"))
    assert error_of(OSError(errno.EACCES, "no permission")) == error_of(None) == "runs/a: cannot be written."


def test_a_lock_of_another_process_is_not_a_shortage(tmp_path):
    path = tmp_path / "lock"
    path.touch()
    with open(path) as one, open(path) as other:
        fcntl.flock(one, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError) as caught:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert shortage(caught.value) == ""


def test_a_write_that_the_machine_refuses_temporarily_is_a_shortage(tmp_path):
    class Busy(io.RawIOBase):
        def writable(self):
            return True

        def write(self, _content):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    with pytest.raises(BlockingIOError) as caught:
        Busy().write(b"a checkpoint")
    assert shortage(caught.value)
