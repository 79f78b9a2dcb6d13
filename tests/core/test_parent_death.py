"""Processes that are asked to stop when the one that started them dies. Tests core/parent_death.py."""

from __future__ import annotations

import subprocess
import sys

import pytest

CHILD = """
import os, signal, sys
from tunectl.core.parent_death import stop_with_parent
def stop(*_):
    print("stopped", flush=True)
    os._exit(0)
signal.signal(signal.SIGHUP, stop)
stop_with_parent(int(sys.argv[1]) or os.getppid())
print("ready", flush=True)
signal.pause()
"""
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {CHILD!r}, '0']).wait()"


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_process_is_asked_to_stop_when_its_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        parent.kill()
        assert parent.stdout.readline() == "stopped\n"


def test_a_process_whose_parent_is_dead_already_stops_at_once() -> None:
    ended = subprocess.run([sys.executable, "-c", CHILD, "1"], capture_output=True, text=True, check=True)
    assert ended.stdout == "stopped\n"
