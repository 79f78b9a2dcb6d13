"""Processes and their groups, as the kernel shows them. Also tests core/parent_death.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from toy_trials import wait_until

from tunectl.core import parent_death
from tunectl.execution import processes

SLEEP = [sys.executable, "-S", "-c", "import signal; signal.pause()"]


@pytest.fixture
def child():
    process = subprocess.Popen(SLEEP, process_group=0)
    yield process
    process.kill()
    process.wait()


def test_a_process_is_known_by_pid_and_start_time(child):
    started = processes.start_time(child.pid)
    assert started is not None
    assert processes.is_alive(child.pid)
    assert processes.is_alive(child.pid, started)
    assert not processes.is_alive(child.pid, started + 1), "another process under a pid that was used again"


def test_a_process_whose_name_looks_like_its_status_is_read_right(tmp_path):
    # The name in /proc/<pid>/stat may hold blanks and brackets.
    odd = tmp_path / ") Z 1 (x y"
    odd.symlink_to(sys.executable)
    process = subprocess.Popen(
        [str(odd), "-S", "-c", "import signal; print(1, flush=True); signal.pause()"], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.read(1)
    try:
        assert processes.is_alive(process.pid)
        assert process.pid in processes.children()
        assert process.pid in processes._children_by_search()
        started, ours = processes.start_time(process.pid), processes.start_time(os.getpid())
        assert started is not None
        assert ours is not None
        assert abs(started - ours) < 10**7
    finally:
        process.kill()
        process.communicate()


def test_a_zombie_is_not_alive_and_its_group_does_not_run_but_can_be_signalled(child):
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not processes.is_alive(child.pid)
    assert not processes.group_is_running(child.pid)
    assert processes.signal_group(child.pid, 0)
    child.wait()
    assert not processes.signal_group(child.pid, 0)
    assert processes.start_time(child.pid) is None
    assert not processes.is_alive(child.pid)


def test_a_group_runs_until_its_last_member_is_gone(child):
    second = subprocess.Popen(SLEEP, process_group=child.pid)
    child.kill()
    child.wait()
    assert processes.group_is_running(child.pid)
    assert processes.signal_group(child.pid, signal.SIGKILL)
    second.wait()
    assert not processes.group_is_running(child.pid)


def test_children_are_listed_by_both_ways(child):
    assert child.pid in processes.children()
    assert processes._children_by_search() >= {child.pid}


def test_processes_are_found_by_the_mark_that_they_were_started_with():
    # The grandchild is in a session of its own, under another parent, and has changed its own environment since.
    script = (
        "import os, signal\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        os.environ['TUNECTL_SERVER'] = 'other'\n"
        "        print(os.getpid(), flush=True)\n"
        "        signal.pause()\n"
        "    os._exit(0)\n"
    )
    beginning = processes.mark_of(os.getpid(), 17)
    done = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, parent_death.MARK: beginning + "8.1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.stdout is not None
    pid = int(done.stdout.readline())
    done.wait()
    done.stdout.close()
    wait_until(lambda: processes.with_mark(beginning) == {pid}, "the daemon alone is left")
    assert processes.with_mark(processes.mark_of(os.getpid(), 1)) == set()
    processes.kill(pid)
    wait_until(lambda: processes.with_mark(beginning) == set(), "it is gone")


def test_the_lineage_of_a_process_is_itself_and_all_above_it():
    found = processes.lineage()
    assert {os.getpid(), os.getppid()} <= found
    assert 1 in found


def test_killing_what_is_gone_is_no_error(child):
    processes.kill(child.pid)
    child.wait()
    processes.kill(child.pid)
    assert not processes.is_alive(child.pid)


def test_other_threads_are_named():
    before = processes.other_threads()
    leave = threading.Event()
    thread = threading.Thread(target=leave.wait)
    thread.start()
    try:
        assert len(processes.other_threads()) == len(before) + 1
    finally:
        leave.set()
        thread.join()


def test_a_kernel_without_proc_is_lived_with(monkeypatch, child):
    monkeypatch.setattr(processes, "PROC", Path("/nowhere"))
    assert processes.start_time(child.pid) is None
    assert processes.is_alive(child.pid)
    assert processes.group_is_running(child.pid)
    assert processes.children() == set()
    assert processes.other_threads() == []
    child.kill()
    child.wait()
    assert not processes.is_alive(child.pid)


def test_a_process_dies_with_its_parent():
    # The grandchild asks the kernel for it; its parent is killed, and the pipe that it holds closes.
    script = (
        "import os, signal, sys\n"
        "from tunectl.core import parent_death as lifetime\n"
        "parent = os.getpid()\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    lifetime.die_with_parent(parent)\n"
        "    print(os.getpid(), flush=True)\n"
        "signal.pause()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    wait_until(lambda: not processes.is_alive(pid), "the kernel killed it")
    parent.stdout.close()


def test_a_process_whose_parent_is_gone_already_ends_at_once():
    script = "from tunectl.core import parent_death; parent_death.die_with_parent(1); print('lives')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize(
    ("code", "number", "text"),
    [(3, None, "ended with exit code 3"), (None, 11, "was killed by SIGSEGV"), (None, 40, "was killed by signal 40")],
)
def test_an_end_is_described_in_words(code, number, text):
    assert processes.describe_exit(code, number) == text
