"""What is left to do when a trial's process ends; how forks and fresh interpreters get there: test_local_backend.py."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

_FORKED = """\
import gc, os, sys
from tunectl.execution import interpreter_end
{before}
interpreter_end.remember_open_files()
gc.freeze()
pid = os.fork()
if pid == 0:
    interpreter_end.forget_what_is_inherited()
    {inside}
    interpreter_end.end_as_a_program()
    sys.stdout.flush()
    os._exit(0)
os.waitpid(pid, 0)
os._exit(0)
"""


def in_a_fork(folder: Path, inside: str, before: str = "") -> str:
    """Run code in a fork that ends as a trial's does; gives what it printed."""
    text = _FORKED.format(before=before, inside="\n    ".join(inside.splitlines()))
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=folder, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == ""
    return done.stdout


def test_files_that_were_not_closed_hold_all_that_was_written(tmp_path: Path) -> None:
    in_a_fork(
        tmp_path,
        "import gzip\n"
        "texts = [open('text', 'w'), gzip.open('text.gz', 'wt')]\n"
        "for file in texts: file.write('seven')\n"
        "others = [open('bytes', 'wb'), gzip.open('bytes.gz', 'wb')]\n"
        "for file in others: file.write(b'seven')",
    )
    for name in ("text", "bytes"):
        assert (tmp_path / name).read_bytes() == b"seven"
        assert gzip.decompress((tmp_path / f"{name}.gz").read_bytes()) == b"seven"


def test_a_file_that_was_open_before_the_fork_holds_what_each_process_wrote_once(tmp_path: Path) -> None:
    before = "file = open('log', 'a')\nfile.write('loaded ')"
    in_a_fork(tmp_path, "file.write('trained')", before)
    assert (tmp_path / "log").read_text() == "loaded trained"


def test_exit_handlers_run_the_last_one_first(tmp_path: Path) -> None:
    text = "import atexit\nfor name in 'abc': atexit.register(print, name)"
    assert in_a_fork(tmp_path, text).split() == ["c", "b", "a"]


def test_what_was_registered_before_the_fork_is_left_to_the_process_that_was_forked(tmp_path: Path) -> None:
    # It is there for all forks: the first to end would remove the folder under the others.
    before = (
        "import atexit, tempfile\natexit.register(print, 'inherited')\nshared = tempfile.TemporaryDirectory(dir='.')"
    )
    inside = "own = tempfile.TemporaryDirectory(dir='.', prefix='own')\natexit.register(print, 'own')"
    assert in_a_fork(tmp_path, inside, before).split() == ["own"]
    assert [path.name.startswith("own") for path in tmp_path.iterdir()] == [False], "its own is gone"


@pytest.mark.parametrize("daemon", [False, True])
def test_a_process_that_multiprocessing_started_is_not_waited_for(tmp_path: Path, daemon: bool) -> None:
    inside = (
        "import multiprocessing, signal\n"
        "context = multiprocessing.get_context('fork')\n"
        f"process = context.Process(target=signal.pause, daemon={daemon})\n"
        "process.start()\n"
        "print(process.pid)"
    )
    pid = int(in_a_fork(tmp_path, inside))
    assert not Path(f"/proc/{pid}").exists()


def test_records_that_a_logger_holds_back_are_written(tmp_path: Path) -> None:
    inside = (
        "import logging, logging.handlers\n"
        "logging.getLogger().addHandler(logging.handlers.MemoryHandler(9, target=logging.FileHandler('log')))\n"
        "logging.getLogger().warning('held back')"
    )
    in_a_fork(tmp_path, inside)
    assert "held back" in (tmp_path / "log").read_text()


def test_what_does_not_end_is_left_after_a_while(tmp_path: Path) -> None:
    text = """\
import multiprocessing, threading
from tunectl.execution import interpreter_end
queue = multiprocessing.Queue()
queue.put(b"x" * 10_000_000)
interpreter_end.end_as_a_program(7, max_seconds=0.2)
"""
    done = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 7
    assert "took longer than 0.2 s" in done.stderr
