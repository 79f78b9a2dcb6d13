"""Studies under a kernel or on a file system that lacks what newer ones have, by a filter on the system calls."""

from __future__ import annotations

import csv
import errno
import subprocess
import sys
from pathlib import Path

import pytest
from refused_calls import can_refuse, refusing
from study_calls import Called

PROGRAM = """\
import os, sys
for step in (1, 2):
    with open(f"{os.environ['TUNECTL_TRIAL_DIR']}/model-{step}.pt", "w") as file:
        file.write(str(step))
    print(f"step {step} loss {1 / step}", flush=True)
"""
STUDY = r"""
study: old
workload:
  command: [python, train.py, "{lr}"]
  metrics: [{regex: 'step (?P<step>\d+) loss (?P<loss>\S+)'}]
  checkpoints: "{trial.dir}/model-{step}.pt"
objective: {metric: loss, direction: minimize}
training: {max_train_steps: 2}
hyperparameters: {lr: {role: nuisance, range: [1e-3, 1], scale: log}}
search: {trials: 1}
"""
pytestmark = pytest.mark.skipif(not can_refuse(), reason="this machine lets no process filter its system calls")


def called(folder: Path, environment: dict[str, str], *words: str, **errors: int) -> Called:
    command = refusing([sys.executable, "-m", "tunectl", *words], **errors)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return Called(done.returncode, done.stdout, done.stderr)


def test_an_old_kernel_and_a_file_system_without_locks_and_links_run_a_study(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "train.py").write_text(PROGRAM)
    (tmp_path / "old.yaml").write_text(STUDY)
    refused = {"pidfd_open": errno.ENOSYS, "flock": errno.ENOSYS, "fcntl": errno.ENOSYS}
    refused |= {"symlink": errno.EPERM, "link": errno.EPERM}
    done = called(tmp_path, environment, "run", "old.yaml", "--quiet", **refused)
    assert done.code == 0, done.err
    with open(tmp_path / "runs/old/tables/trials.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["state"], row["best_step"], row["best_value"]) == ("completed", "2", "0.5")
    assert (tmp_path / "runs/old" / row["best_checkpoint"]).read_text() == "2"
    assert not (tmp_path / "runs/old/lock.claim").exists()
    status = called(tmp_path, environment, "status", "runs/old", **refused)
    assert status.out.startswith("old: 1 trial: 1 completed; no runner is at work"), status.out


def test_in_a_folder_that_was_deleted_a_command_says_so(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "old.yaml").write_text(STUDY)
    words = f"cd {tmp_path}/gone && rmdir {tmp_path}/gone && {sys.executable} -P -m tunectl check {tmp_path}/old.yaml"
    (tmp_path / "gone").mkdir()
    done = subprocess.run(["sh", "-c", words], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        "the current folder no longer exists; change to another one (cd)\n",
    )
