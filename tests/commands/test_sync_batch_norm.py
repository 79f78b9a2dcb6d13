"""Studies with `training: {sync_batch_norm: true}` by the command: the same tables on one device and on several."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from study_calls import Called

Call = Callable[..., Called]

WORKLOAD = """
import math
import torch
from torch import nn
from torch.utils.data import TensorDataset
from tunectl import Workload

def examples(count, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (count,), generator=generator)
    centres = torch.randn(3, 6, generator=torch.Generator().manual_seed(99)) * 2
    return TensorDataset((centres[labels] + torch.randn(count, 6, generator=generator)).double(), labels)

def loss(model, batch):
    values = nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")
    return torch.stack([values, values**2], 1), torch.stack([batch[1] + 1, 2 * (batch[1] % 2)], 1).double()

def metrics(model, batch):
    scores = model(batch[0])
    largest = scores.max(dim=1).values
    relative = (largest - largest.mean()).square()
    return {"error_rate": scores.argmax(1) != batch[1], "parts": (scores, (scores > 0).double()), "relative": relative}

def evaluate(model, dataset, device):
    return {"largest": float(model(dataset[:][0].to(device)).max())}

def predict(model, batch):
    return {"prediction": model(batch[0]).argmax(1), "target": batch[1]}

def on_evaluation(trial):
    (trial.folder / "step.txt").write_text(f"{trial.step} {trial.metrics['valid/error_rate']}")

def normalised(seed=0):
    first = [nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU()]
    second = [nn.Linear(8, 8), nn.BatchNorm1d(8, momentum=None), nn.Tanh()]
    model = nn.Sequential(*first, *second, nn.Linear(8, 3)).double()
    data = {"train": examples(53, 0), "valid": examples(47, 1)}
    derived = lambda found: {"perplexity": math.exp(found["loss"])}
    return Workload(model, data, loss, metrics, finalize=derived, evaluate=evaluate, predict=predict,
                    on_evaluation=on_evaluation)

def plain(seed=0):
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    return Workload(model, {"train": examples(53, 0), "valid": examples(47, 1)}, loss)
"""

STUDY = """
workload: ./work.py:{factory}
objective: {{metric: {metric}, direction: minimize}}
training:
  max_train_steps: 100
  eval_every: 50
  sync_batch_norm: true
  curvature: {{at: [50]}}
  predictions: {{split: valid, examples: 5}}
  split_examples: {{valid: 30}}
hyperparameters:
  optimizer: momentum
  learning_rate: 0.05
  batch_size: 23
  accumulate_steps: 2
  eval_batch_size: 7
  grad_clip_norm: 0.7
  polyak_decay: 0.9
resources: {{devices: cpu, devices_per_trial: {devices}}}
"""


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def trained(tunectl: Call, tmp_path: Path, devices: int) -> Path:
    (tmp_path / "work.py").write_text(WORKLOAD)
    study = tmp_path / f"on{devices}.yaml"
    study.write_text(STUDY.format(factory="normalised", metric="valid/error_rate", devices=devices))
    called = tunectl("run", study)
    assert called.code == 0, called.err
    return tmp_path / "runs" / f"on{devices}" / "trials" / "00000"


@pytest.mark.slow
def test_evaluations_are_those_of_one_device_with_all_that_is_measured(tunectl: Call, tmp_path: Path) -> None:
    one = trained(tunectl, tmp_path, 1)
    expected = lines_of(one / "measurements.jsonl")
    assert {"evaluation", "whole", "curvature"} == {line["kind"] for line in expected}
    for devices in (2, 4):
        found = trained(tunectl, tmp_path, devices)
        for line, other in zip(expected, lines_of(found / "measurements.jsonl"), strict=True):
            assert (line["step"], line["kind"]) == (other["step"], other["kind"])
            for name in line["metrics"].keys() - {"curvature/seconds"}:
                bound = 1e-7 if name.startswith("curvature/") else 1e-12
                assert other["metrics"][name] == pytest.approx(line["metrics"][name], rel=bound, abs=bound), name
        assert (found / "predictions.jsonl").read_text() == (one / "predictions.jsonl").read_text()
        files = {file.relative_to(found): file.read_text() for file in sorted((found / "files").rglob("*.txt"))}
        assert len(files) == 3
        assert all((one / place).read_text() == text for place, text in files.items())


def test_a_study_without_such_a_layer_is_refused_at_the_key(tunectl: Call, tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(WORKLOAD)
    study = tmp_path / "study.yaml"
    study.write_text(STUDY.format(factory="plain", metric="valid/loss", devices=2).replace("  predictions:", "  #"))
    called = tunectl("check", study, "--probe")
    assert called.code == 2
    assert "study.yaml:7:3: training.sync_batch_norm: the model has no layer of batch normalisation" in called.messages
