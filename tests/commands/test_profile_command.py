"""`tunectl profile` as a whole: what its folder holds, and that what was timed once is not timed again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from study_calls import Called

WORKLOAD = """
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset
from tunectl import Workload

class Counting(Dataset):
    '''Each example takes long to make, by counting.'''
    def __init__(self, size): self.size = size
    def __len__(self): return self.size
    def __getitem__(self, index):
        total = 0
        for number in range(20000): total += number
        return torch.full((4,), float(index)), index % 2

def loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")

def factory():
    train = TensorDataset(torch.rand(64, 4), torch.arange(64) % 2)
    return Workload(nn.Linear(4, 2), {"train": train, "valid": Counting(60)}, loss)
"""
STUDY = """
study: slow
workload: ./slow.py:factory
objective: {metric: valid/loss, direction: minimize}
training: {max_train_steps: 20, eval_every: 20, train_examples: 8}
hyperparameters:
  optimizer: {role: scientific, values: [momentum, adam]}
  learning_rate: {role: nuisance, range: [1e-3, 1], scale: log}
  batch_size: 8
search: {trials: 2}
resources: {devices: cpu}
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "slow.py").write_text(WORKLOAD)
    (tmp_path / "slow.yaml").write_text(STUDY)
    return tmp_path / "slow.yaml"


def test_a_slow_data_set_is_found_and_kept_and_a_lost_conclusion_is_drawn_again(
    study: Path, tunectl: Callable[..., Called], tmp_path: Path
) -> None:
    folder = tmp_path / "profiled"
    asked = ("profile", study, "--steps", "12", "--dir", folder, "--trial", "3")
    called = tunectl(*asked)
    assert called.code == 0, called.err
    conclusion = (folder / "conclusion.json").read_bytes()
    found = json.loads(conclusion)
    assert found["shares"]["evaluating"] > 0.4
    (cached,) = found["changes"]
    assert cached["change"] == "cache_examples: true"
    assert cached["gain"] > 0.3
    # On a machine with much other work, single trials may be slower for that.
    assert found["first"] == ("cache_examples: true" if cached["helps"] else None)
    assert len(cached["seconds_before"]) == len(cached["seconds_after"])
    assert len(cached["seconds_after"]) in (4, 8)
    assert "trace.json.gz" in called.out
    assert max(map(len, called.out.split("\n\n")[0].splitlines())) <= 80
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"plots/parts.png", "plots/changes.svg", "tables/profile.csv", "trials/00000/trace.json.gz"} <= names
    assert not [name for name in names if name.endswith(".pt")]
    plan = [json.loads(line) for line in (folder / "plan.jsonl").read_text().splitlines()]
    assert {line["kind"] for line in plan} == {"profile"}
    assert {line["hyperparameters"]["optimizer"] for line in plan} == {"adam"}

    # Killed before its last trial and its conclusion: only that trial is timed again.
    (folder / "conclusion.json").unlink()
    (folder / "study.db").unlink()
    shutil.rmtree(folder / "plots")
    (folder / "trials" / f"{len(plan) - 1:05d}" / "result.json").unlink()
    again = tunectl(*asked, "--json")
    assert again.code == 0, again.err
    assert again.err.count("its parts were timed") == 1
    assert set(again.json()["shares"]) == set(found["shares"])


def test_a_trial_that_the_plan_has_not_is_refused_before_anything_is_created(
    study: Path, tunectl: Callable[..., Called], tmp_path: Path
) -> None:
    called = tunectl("profile", study, "--trial", "4", "--dir", tmp_path / "profiled")
    assert called.code == 2
    assert "--trial 4: expected a trial from 0 to 3" in called.messages
    assert not (tmp_path / "profiled").exists()


def test_own_code_is_refused_with_what_profiles_it(tunectl: Callable[..., Called], tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("")
    (tmp_path / "own.yaml").write_text(
        "workload: {command: [python, train.py, --lr, '{learning_rate}']}\n"
        "objective: {metric: loss, direction: minimize}\n"
        "training: {max_train_steps: 10}\n"
        "hyperparameters: {learning_rate: 0.1}\n"
    )
    called = tunectl("profile", tmp_path / "own.yaml")
    assert called.code == 2
    assert "torch.profiler.profile()" in called.messages
