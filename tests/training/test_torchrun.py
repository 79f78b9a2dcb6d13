"""A command on several devices: how torchrun is called, and what its report says of the rank that failed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tunectl.training.own_code.torchrun import cause_of, distributed

REPORT = """\
[default0]:step 10 loss 0.5
[default0]:ValueError: the width is odd
E1122 12:00:00.000000 123 torch/distributed/elastic/multiprocessing/api.py:987] failed (exitcode: 3) local_rank: 0
============================================================
train.py FAILED
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  rank      : 0 (local_rank: 0)
  exitcode  : {code} (pid: 124)
============================================================""".splitlines()


@pytest.mark.parametrize("code", [3, -9])
def test_the_cause_is_the_first_rank_s_and_its_own_last_words_come_last(code: int) -> None:
    tail = [line.format(code=code) for line in REPORT]
    assert cause_of(1, tail) == (code, ["step 10 loss 0.5", "ValueError: the width is odd"])


def test_without_a_report_the_exit_code_is_torchrun_s() -> None:
    assert cause_of(0, ["[default0]:step 10 loss 0.5", "plain"]) == (0, ["step 10 loss 0.5", "plain"])


@pytest.mark.parametrize(
    ("line", "head", "tail"),
    [
        (
            ["python", "-u", "train.py", "--lr", "1"],
            ["python", "-u", "-m", "torch.distributed.run"],
            ["train.py", "--lr", "1"],
        ),
        (
            ["/opt/py/bin/python3.11", "-m", "mine"],
            ["/opt/py/bin/python3.11", "-m", "torch.distributed.run"],
            ["-m", "mine"],
        ),
        (["./launch.sh", "1"], [sys.executable, "-m", "torch.distributed.run"], ["--no-python", "./launch.sh", "1"]),
    ],
)
def test_a_python_program_keeps_its_interpreter(line: list[str], head: list[str], tail: list[str]) -> None:
    found = distributed(line, 2, Path("/logs"))
    assert found[: len(head)] == head
    assert found[-len(tail) :] == tail
    assert "--nproc-per-node=2" in found
