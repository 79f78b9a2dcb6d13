"""What a process prints to, as others know it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tunectl.execution.folder_snapshot import take_snapshot
from tunectl.store.written_files import OutputFile

ASK = """
import json, sys
from tunectl.execution.own_outputs import own_outputs
json.dump([[item.name, item.inode] for item in own_outputs()], sys.stderr)
"""


def asked(output: Path, errors: Path | None) -> tuple[OutputFile, ...]:
    """The answer of a process that prints to `output`, and to `errors` or to a pipe."""
    with output.open("w") as out, (errors or output).open("a") as err:
        where = err if errors is not None else subprocess.PIPE
        called = subprocess.run([sys.executable, "-c", ASK], stdout=out, stderr=where, text=True, check=True)
    text = errors.read_text() if errors is not None else str(called.stderr)
    return tuple(OutputFile(name, inode) for name, inode in json.loads(text))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="files are named by /proc")
def test_a_process_names_each_file_that_it_prints_to_once_and_no_pipe_or_device(tmp_path: Path) -> None:
    out, both = tmp_path / "out.txt", tmp_path / "both.txt"
    errors = tmp_path / "err.txt"
    assert {(item.name, item.inode) for item in asked(out, errors)} == {
        ("out.txt", out.stat().st_ino),
        ("err.txt", errors.stat().st_ino),
    }
    assert asked(both, both) == (OutputFile("both.txt", both.stat().st_ino),)
    assert asked(out, None) == (OutputFile("out.txt", out.stat().st_ino),)
    assert asked(Path("/dev/null"), errors.with_name("new.txt")) == (
        OutputFile("new.txt", (tmp_path / "new.txt").stat().st_ino),
    )


def test_a_snapshot_leaves_out_what_workers_print_to_by_name_and_inode(tmp_path: Path) -> None:
    for name in ("worker.log", "kept.txt"):
        (tmp_path / "logs").mkdir(exist_ok=True)
        (tmp_path / "logs" / name).write_text(name)
    inodes = {name: mark.inode for name, mark in take_snapshot(tmp_path).files.items()}
    outputs = [
        OutputFile("worker.log", inodes["logs/worker.log"]),
        OutputFile("kept.txt", inodes["logs/worker.log"]),
        OutputFile("another.txt", inodes["logs/kept.txt"]),
    ]
    assert set(take_snapshot(tmp_path).without(outputs).files) == {"logs/kept.txt"}
