"""Tests exchange/lightning_callback.py and the example studies of own code, run as a user would, with the extras."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.frameworks

ROOT = Path(__file__).parents[2]
OWN = ROOT / "studies" / "own_code"


def trials(study: Path, folder: Path, exit_code: int = 0) -> list[dict[str, str]]:
    """The trials table after `tunectl run`."""
    called = subprocess.run(
        [sys.executable, "-m", "tunectl", "run", str(study), "--dir", str(folder), "--quiet"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert called.returncode == exit_code, called.stderr + called.stdout
    with open(folder / "tables" / "trials.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("study", "metric", "last_step", "with_checkpoint"),
    [
        ("study.yaml", "valid/error_rate", 300, True),
        ("lightning/study.yaml", "valid/error_rate", 100, True),
        ("lightning/callback.yaml", "val_error", 100, False),
        ("transformers/study.yaml", "valid/loss", 60, True),
    ],
)
def test_a_script_of_a_framework_is_a_study(
    tmp_path: Path, study: str, metric: str, last_step: int, with_checkpoint: bool
) -> None:
    rows = trials(OWN / study, tmp_path / "study")
    assert {row["state"] for row in rows} == {"completed"}
    for row in rows:
        assert int(row["final_step"]) == last_step
        assert float(row["best_value"]) == pytest.approx(float(row[metric]))
        if with_checkpoint:
            assert (tmp_path / "study" / row["best_checkpoint"]).exists()
    assert len({row["best_value"] for row in rows}) > 1, "the hyperparameters reach the script"


DISTRIBUTED = """\
import signal
import torch
import torch.distributed as dist
import tunectl

dist.init_process_group("gloo")
total = torch.tensor([float(dist.get_rank() + 1)])
dist.all_reduce(total)
print(f"step 10 loss {total.item()} by rank {dist.get_rank()}")
tunectl.record(10, {"world": dist.get_world_size(), "rank": dist.get_rank()})
dist.destroy_process_group()
"""

STUDY = """\
study: distributed
workload:
  command: [python, train.py, --lr, "{learning_rate}"]
  metrics: [{regex: 'step (?P<step>\\d+) loss (?P<loss>\\S+)'}]
objective: {metric: loss, direction: minimize}
training: {max_train_steps: 10}
hyperparameters: {learning_rate: 0.1}
resources: {devices: cpu, devices_per_trial: 2}
"""


def test_a_command_on_two_devices_is_one_trial_whose_rank_0_is_read(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(DISTRIBUTED)
    (tmp_path / "study.yaml").write_text(STUDY)
    (row,) = trials(tmp_path / "study.yaml", tmp_path / "out")
    assert (row["state"], float(row["loss"])) == ("completed", 3.0)
    assert (float(row["world"]), float(row["rank"])) == (2.0, 0.0)
    assert "by rank 1" not in (tmp_path / "out" / "trials" / "00000" / "log.txt").read_text()


@pytest.mark.parametrize(
    ("patterns", "state", "said"),
    [
        ("[out of memory]", "infeasible", "it said: RuntimeError: rank 1 is out of memory"),
        ("[no such thing]", "failed", "RuntimeError: rank 1 is out of memory (exit code 1)"),
    ],
)
def test_the_error_of_another_rank_is_reported(tmp_path: Path, patterns: str, state: str, said: str) -> None:
    # Rank 0 waits meanwhile, as in a collective call, and is ended for it.
    dies = 'if dist.get_rank() == 1:\n    raise RuntimeError("rank 1 is out " "of memory")\nsignal.pause()\n'
    (tmp_path / "train.py").write_text(DISTRIBUTED.replace("tunectl.record", f"{dies}tunectl.record"))
    text = STUDY.replace("objective:", f"  infeasible: {{patterns: {patterns}}}\nobjective:")
    (tmp_path / "study.yaml").write_text(text)
    (row,) = trials(tmp_path / "study.yaml", tmp_path / "out", exit_code=0 if state == "infeasible" else 1)
    assert (row["state"], row["message"]) == (state, said)
