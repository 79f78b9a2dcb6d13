"""The terminal or the ssh session of a run closes: SIGHUP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROGRAM = """\
import os, pathlib, signal, sys, time
home = pathlib.Path(os.environ["TUNECTL_TRIAL_DIR"])
def save(number, frame):
    (home / "saved").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("step 1 loss 1", flush=True)
(home / "pid.tmp").write_text(str(os.getpid()))
(home / "pid.tmp").rename(home / "pid")
while not (home / "go").exists():
    time.sleep(0.01)
print("step 2 loss 0.5")
"""
STUDY = r"""
study: long
workload: {command: [python, train.py, "{lr}"], metrics: [{regex: 'step (?P<step>\d+) loss (?P<loss>\S+)'}]}
objective: {metric: loss, direction: minimize}
training: {max_train_steps: 2}
hyperparameters: {lr: {role: nuisance, range: [1e-3, 1], scale: log}}
search: {trials: 1}
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The folder of the trial's own files."""
    (tmp_path / "train.py").write_text(PROGRAM)
    (tmp_path / "long.yaml").write_text(STUDY)
    return tmp_path / "runs/long/trials/00000/files"


@pytest.fixture
def run(
    files: Path, tmp_path: Path, environment: dict[str, str]
) -> Iterator[Callable[..., tuple[subprocess.Popen[bytes], int]]]:
    """Start a run by these words; gives its process, and the pid of its program, which trains."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*words: str) -> tuple[subprocess.Popen[bytes], int]:
        command = [*words, sys.executable, "-m", "tunectl", "run", "long.yaml", "--quiet"]
        with open(tmp_path / "out", "w") as out:
            process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=out, stderr=out)
        started.append(process)
        deadline = time.monotonic() + 60
        while not (files / "pid").exists():
            assert process.poll() is None, (tmp_path / "out").read_text()
            assert time.monotonic() < deadline, "the program does not start"
            time.sleep(0.01)
        return process, int((files / "pid").read_text())

    yield start
    for process in started:
        process.kill()
        process.wait()


Run = Callable[..., tuple[subprocess.Popen[bytes], int]]


def test_a_session_that_closes_lets_the_trials_save(run: Run, files: Path) -> None:
    runner, _ = run()
    # The kernel sends it, and so does the shell.
    runner.send_signal(signal.SIGHUP)
    runner.send_signal(signal.SIGHUP)
    assert runner.wait(60) == 130
    assert (files / "saved").exists()
    (line,) = (files.parent / "attempts.jsonl").read_text().splitlines()
    assert json.loads(line)["reason"] == "cancelled"


def test_under_nohup_a_run_goes_on_and_so_do_its_programs(run: Run, files: Path) -> None:
    runner, program = run("nohup")
    runner.send_signal(signal.SIGHUP)
    os.kill(program, signal.SIGHUP)
    (files / "go").touch()
    assert runner.wait(60) == 0
    assert json.loads((files.parent / "result.json").read_text())["state"] == "completed"
