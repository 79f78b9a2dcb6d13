"""What a machine is short of, and waiting for it. What each exception means is tested in execution/test_worker.py."""

from __future__ import annotations

import errno
import resource

import pytest

from tunectl.core.shortages import file_size_remedy, patiently, shared_memory_remedy, shortage


def test_a_call_is_made_again_while_the_machine_is_short_of_something():
    left, waited = [errno.EAGAIN, errno.ENOMEM, errno.EMFILE], []

    def call():
        if left:
            raise OSError(left.pop(), "short")
        return "made"

    assert patiently(call, waited.append) == "made"
    assert len(waited) == 3


@pytest.mark.parametrize(("number", "calls"), [(errno.EAGAIN, 5), (errno.ENOENT, 1)])
def test_the_last_error_is_raised_after_a_second_and_another_one_at_once(number, calls):
    made, waited = [], []

    def call():
        made.append(1)
        raise OSError(number, "no")

    with pytest.raises(OSError, match="no"):
        patiently(call, waited.append)
    assert len(made) == calls
    assert sum(waited) < 1


def test_memory_that_a_computation_asks_for_is_no_shortage_of_the_machine():
    assert shortage(MemoryError("a tensor of 1 TB")) == ""


def test_a_limit_of_the_session_is_named_in_bytes(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (512_000, 512_000))
    assert "512,000 bytes" in file_size_remedy()
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (resource.RLIM_INFINITY,) * 2)
    assert "ulimit" not in file_size_remedy()


def test_only_what_speaks_of_shared_memory_has_its_remedy():
    assert shared_memory_remedy("CUDA out of memory") == ""
    said = "It is possible that dataloader's workers are out of shared memory. Please try to raise it."
    assert "--shm-size" in shared_memory_remedy(said)
