"""Trials that run a command on a machine that is short of something, or has an older kernel.

Tests programs/running_program.py, core/shortages.py, and what programs/command_trial.py makes of them.
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from program_calls import Programs

from tunectl.core import shortages
from tunectl.core.errors import ShortageError
from tunectl.core.own_code_request import InfeasibleEnds


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_room(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """Let the disk of the trial's folder have this much room, in bytes; no room at all refuses every write."""
    real = os.statvfs

    def statvfs(path: Any) -> Any:
        found = real(path)
        return SimpleNamespace(f_bavail=free // found.f_frsize, f_frsize=found.f_frsize)

    def write_bytes(path: Path, content: bytes) -> None:
        if free < len(content):
            raise FULL
        path.write_bytes(content)

    monkeypatch.setattr(os, "statvfs", statvfs)
    monkeypatch.setattr(shortages, "write_bytes", write_bytes)


@pytest.mark.parametrize(
    ("says", "free"),
    [
        ("raise OSError(28, 'No space left on device')", 10**6),
        ("raise RuntimeError('PytorchStreamWriter failed writing file data/0: file write failed')", 10**6),
        ("sys.exit(7)", 0),
    ],
    ids=["what Python says", "what torch says", "a log that is cut off by the full disk"],
)
def test_a_program_that_fails_because_the_study_s_disk_is_full_is_not_a_failed_trial(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, says: str, free: int
) -> None:
    no_room(monkeypatch, free)
    with pytest.raises(OSError, match="No space left on device"):
        programs.run(programs.request(f"import sys\nprint('step 10 loss 1')\n{says}"))
    assert programs.measured() == [(10, {"loss": 1.0})]


@pytest.mark.parametrize(
    ("says", "free"),
    [("raise OSError(28, 'No space left on device')", 10**12), ("raise ValueError('a bad label')", 10**6)],
    ids=["another disk is full", "another cause on a disk with little room"],
)
def test_a_program_that_fails_for_another_reason_is_a_failed_trial(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, says: str, free: int
) -> None:
    no_room(monkeypatch, free)
    result = programs.run(programs.request(f"print('step 10 loss 1')\n{says}"))
    assert result is not None
    assert (result.state, result.reason) == ("failed", "exit_code_1")


def test_a_disk_without_space_for_the_largest_file_of_the_trial_counts_as_full(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A sparse file: it takes no room here.
    text = "import os\nwith open(os.environ['TUNECTL_TRIAL_DIR'] + '/a.pt', 'w') as file: file.truncate(10**10)\n"
    no_room(monkeypatch, 10**10 - 1)
    with pytest.raises(OSError, match="No space"):
        programs.run(programs.request(text + "raise OSError(28, 'No space left on device')"))


def test_a_program_that_fails_because_of_a_shortage_is_not_a_failed_trial(programs: Programs) -> None:
    with pytest.raises(ShortageError, match="ulimit -n"):
        programs.run(programs.request("raise OSError(24, 'Too many open files')"))


def test_an_exit_code_that_the_study_declares_infeasible_comes_before_a_shortage(programs: Programs) -> None:
    request = programs.request("raise OSError(24, 'Too many open files')", infeasible=InfeasibleEnds(exit_codes=(1,)))
    result = programs.run(request)
    assert result is not None
    assert result.state == "infeasible"


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM])
def test_starting_a_process_is_tried_again_for_a_second(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    left, real = [1, 1], subprocess.Popen

    def popen(*arguments: Any, **options: Any) -> Any:
        if left:
            left.pop()
            raise OSError(number, os.strerror(number))
        return real(*arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", popen)
    result = programs.run(programs.request("print('step 20 loss 1')"))
    assert result is not None
    assert result.state == "completed"
    left += [1] * 9
    with pytest.raises(OSError, match=re.escape(os.strerror(number))):
        programs.run(programs.request("print('step 20 loss 1')"))


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM, errno.EMFILE])
def test_without_a_descriptor_for_a_process_its_end_is_polled(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def pidfd_open(_pid: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pidfd_open", pidfd_open)
    result = programs.run(
        programs.request("import time\nprint('step 10 loss 1')\ntime.sleep(0.3)\nprint('step 20 loss 2')")
    )
    assert result is not None
    assert result.state == "completed"
    assert programs.measured() == [(10, {"loss": 1.0}), (20, {"loss": 2.0})]
