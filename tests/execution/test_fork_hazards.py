"""What makes forking unsafe is found before the first trial."""

from __future__ import annotations

import os
import sys
import threading
import types

import pytest

from tunectl.execution import fork_hazards, processes


@pytest.fixture(autouse=True)
def without_the_thread_of_earlier_tests():
    """torch.fx starts tqdm, whose monitor stays in the process."""
    tqdm = getattr(sys.modules.get("tqdm"), "tqdm", None)
    if tqdm is not None and tqdm.monitor is not None:
        tqdm.monitor.exit()
        tqdm.monitor = None


@pytest.fixture
def no_threads(monkeypatch):
    monkeypatch.setattr(processes, "other_threads", list)


def fake_torch(monkeypatch, *, initialized=False, cuda="12.4", bad_fork=lambda: False):
    torch = types.SimpleNamespace(
        cuda=types.SimpleNamespace(is_initialized=lambda: initialized, _is_in_bad_fork=bad_fork),
        version=types.SimpleNamespace(cuda=cuda),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)


def test_a_process_of_one_thread_without_cuda_may_fork(monkeypatch, no_threads):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert fork_hazards.fork_hazard() == ""
    fake_torch(monkeypatch)
    assert fork_hazards.fork_hazard() == ""
    fake_torch(monkeypatch, cuda=None, bad_fork=lambda: True)
    assert fork_hazards.fork_hazard() == "", "a CPU build has no CUDA to lose"


def test_other_systems_spawn():
    assert "darwin" in fork_hazards.platform_hazard("darwin")
    assert fork_hazards.platform_hazard("linux") == ""


def test_a_second_thread_is_a_hazard_with_its_name():
    leave = threading.Event()
    thread = threading.Thread(target=leave.wait, name="prefetcher")
    thread.start()
    try:
        assert "(prefetcher" in fork_hazards.fork_hazard()
    finally:
        leave.set()
        thread.join()


def test_threads_of_c_libraries_count_by_the_kernel_s_names(monkeypatch):
    monkeypatch.setattr(processes, "other_threads", lambda: ["openblas", "openblas"])
    assert fork_hazards.fork_hazard() == "loading the workload left 2 other threads running (openblas, openblas)"


def test_pyarrow_s_allocator_thread_is_no_hazard(monkeypatch):
    monkeypatch.setattr(processes, "other_threads", lambda: ["jemalloc_bg_thd"])
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert fork_hazards.fork_hazard() == ""


def test_a_cuda_that_was_started_is_a_hazard(monkeypatch, no_threads):
    fake_torch(monkeypatch, initialized=True)
    assert fork_hazards.fork_hazard() == "loading the workload started CUDA"


def test_a_cuda_that_only_a_fork_would_find_spoilt_is_a_hazard(monkeypatch, no_threads):
    # torch.cuda.is_available() at import, without the NVML check: torch says so in the fork alone.
    server = os.getpid()
    fake_torch(monkeypatch, bad_fork=lambda: os.getpid() != server)
    assert fork_hazards.fork_hazard() == "loading the workload started CUDA"


def test_a_check_that_itself_fails_counts_as_a_hazard(monkeypatch, no_threads):
    def broken():
        raise AttributeError("another torch")

    fake_torch(monkeypatch, bad_fork=broken)
    assert fork_hazards.fork_hazard() == "loading the workload started CUDA"


def test_cuda_started_by_another_library_than_torch_is_a_hazard(monkeypatch, no_threads, tmp_path):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    (tmp_path / "9").symlink_to("/dev/nvidia0")
    monkeypatch.setattr(fork_hazards, "_OPEN_FILES", tmp_path)
    assert fork_hazards.fork_hazard() == "", "NVML opens this one too"
    (tmp_path / "10").symlink_to("/dev/nvidia-uvm")
    assert fork_hazards.fork_hazard() == "loading the workload started CUDA"
