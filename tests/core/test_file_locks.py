"""Whether a file system has file locks, and which processes hold one."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from tunectl.core import file_locks

HOLD = (
    "import fcntl, sys; file = open(sys.argv[1]); fcntl.flock(file, fcntl.LOCK_EX); print('held', flush=True); input()"
)


def test_a_file_system_without_locks_is_known_by_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "study.db"
    file.touch()
    assert file_locks.has_record_locks(file)
    for number, has_locks in ((errno.ENOLCK, False), (errno.ENOSYS, False), (errno.EAGAIN, True)):

        def refused(*_: object, number: int = number) -> None:
            raise OSError(number, "refused")

        monkeypatch.setattr(fcntl, "lockf", refused)
        assert file_locks.has_record_locks(file) is has_locks
    assert file_locks.has_record_locks(tmp_path / "missing"), "a file that cannot be opened says nothing"


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="the system does not show its locks")
def test_the_process_that_holds_a_lock_is_named_with_its_command(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    file.touch()
    assert file_locks.holders(file) == []
    command = [sys.executable, "-c", HOLD, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        (holder,) = file_locks.holders(file)
        assert holder.startswith(f"process {process.pid} (")
        process.communicate(b"\n")
    assert file_locks.holders(file) == []
