"""A command on several devices: how torchrun is called, and what its report says about the rank that failed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tunectl.programs.torchrun import LAUNCHER, cause_of, distributed, reported

REPORT = """\
[default0]:step 10 loss 0.5
[default0]:[rank0]: ValueError: the width is odd
E1122 12:00:00.000000 123 torch/distributed/elastic/multiprocessing/api.py:987] failed (exitcode: 3) local_rank: 0
============================================================
train.py FAILED
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-22_12:00:00
  rank      : {rank} (local_rank: {rank})
  exitcode  : {code} (pid: 124)
============================================================""".splitlines()


@pytest.mark.parametrize("code", [3, -9])
def test_the_cause_is_that_of_the_first_rank_with_its_last_lines(code: int) -> None:
    tail = [line.format(code=code, rank=0) for line in REPORT]
    assert reported(1, tail) == (code, 0, ["step 10 loss 0.5", "ValueError: the width is odd"])


def test_brackets_in_the_program_s_own_output_stay() -> None:
    assert reported(0, ["[default0]:[epoch 1]: loss 2", "[rank1]:   File x"]).lines == ["[epoch 1]: loss 2", "  File x"]


def test_without_a_report_the_exit_code_is_torchrun_s() -> None:
    assert reported(0, ["[default0]:step 10 loss 0.5", "plain"]) == (0, 0, ["step 10 loss 0.5", "plain"])


TWO_FAILED = """\
[default0]:step 10 loss 0.5
============================================================
train.py FAILED
------------------------------------------------------------
Failures:
[1]:
  time      : 2026-11-22_12:00:02
  host      : here
  rank      : 0 (local_rank: 0)
  exitcode  : -15 (pid: 124)
  error_file: <N/A>
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-22_12:00:01
  host      : here
  rank      : 1 (local_rank: 1)
  exitcode  : 1 (pid: 125)
  error_file: <N/A>
============================================================""".splitlines()


def test_a_rank_that_was_stopped_because_of_another_is_not_the_cause() -> None:
    assert reported(1, TWO_FAILED) == (1, 1, ["step 10 loss 0.5"])


def test_another_rank_that_failed_first_is_read_from_its_own_files(tmp_path: Path) -> None:
    log, own = tmp_path / "log.txt", tmp_path / "ranks" / "none_x1" / "attempt_0" / "1"
    own.mkdir(parents=True)
    log.write_text("of the attempt before\n" + "\n".join(REPORT).format(code=1, rank=1))
    (own / "stdout.log").write_text("step 10 loss 0.4\n")
    (own / "stderr.log").write_text("[rank1]: RuntimeError: out of memory\n")
    found = cause_of(1, log, len("of the attempt before\n"), tmp_path / "ranks")
    assert found == (1, 1, ["step 10 loss 0.4", "RuntimeError: out of memory"])
    (own / "stderr.log").unlink()
    (own / "stdout.log").unlink()
    assert cause_of(1, log, 0, tmp_path / "ranks").lines[0] == "of the attempt before"


@pytest.mark.parametrize(
    ("line", "head", "tail"),
    [
        (
            ["python", "-u", "train.py", "--lr", "1"],
            ["python", "-u", *LAUNCHER],
            ["train.py", "--lr", "1"],
        ),
        (
            ["/opt/py/bin/python3.11", "-m", "mine"],
            ["/opt/py/bin/python3.11", *LAUNCHER],
            ["-m", "mine"],
        ),
        (
            ["python", "-W", "ignore", "-X", "faulthandler", "train.py"],
            ["python", "-W", "ignore", "-X", "faulthandler", *LAUNCHER],
            ["train.py"],
        ),
        (
            ["python", "-c", "pass"],
            ["python", *LAUNCHER],
            ["--no-python", "python", "-c", "pass"],
        ),
        (["./launch.sh", "1"], [sys.executable, *LAUNCHER], ["--no-python", "./launch.sh", "1"]),
    ],
)
def test_a_python_program_keeps_its_interpreter(line: list[str], head: list[str], tail: list[str]) -> None:
    found = distributed(line, 2, Path("/logs"))
    assert found[: len(head)] == head
    assert found[-len(tail) :] == tail
    assert "--nproc-per-node=2" in found
