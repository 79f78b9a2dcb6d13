"""A workload with data and metrics of its own, by the commands, and metrics that a function has at its end alone."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

from study_calls import Called

Call = Callable[..., Called]

OWN = '''
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

import tunectl


class Sentences:
    """Of different lengths, each with a label."""

    def __init__(self, count, seed):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(0, 2, (count,), generator=generator).tolist()
        lengths = torch.randint(2, 7, (count,), generator=generator).tolist()
        self.rows = [torch.randn(n, 3, generator=generator) + label for n, label in zip(lengths, self.labels)]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, place):
        return {"row": self.rows[place], "label": self.labels[place]}


class Stream(IterableDataset):
    def __init__(self, inner):
        self.inner = inner

    def __len__(self):
        return len(self.inner)

    def __iter__(self):
        return (self.inner[place] for place in range(len(self.inner)))


def padded(examples):
    rows = nn.utils.rnn.pad_sequence([item["row"] for item in examples], batch_first=True)
    return {"input": {"rows": rows}, "labels": torch.tensor([item["label"] for item in examples])}


def by_class(dataset, epoch, generator):
    return generator.permutation(np.repeat(np.arange(len(dataset)), 2))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 8).requires_grad_(False)
        self.head = nn.Linear(8, 2)

    def forward(self, batch):
        return self.head(torch.tanh(self.embed(batch["input"]["rows"])).sum(1))


def loss(model, batch):
    return nn.functional.cross_entropy(model(batch), batch["labels"], reduction="none")


def evaluate(model, dataset, device):
    pairs = [(model(batch)[:, 1], batch["labels"]) for batch in DataLoader(dataset, 16, collate_fn=padded)]
    scores, labels = (torch.cat(parts) for parts in zip(*pairs))
    return {"auc": (scores[labels == 1][:, None] > scores[labels == 0]).double().mean()}


def on_evaluation(trial):
    trial.save_image("weights", trial.model.head.weight)
    (trial.folder / "metrics.txt").write_text(str(trial.metrics["valid/auc"]))


def factory(*, source):
    train, valid, test = Sentences(60, 0), Sentences(40, 1), Sentences(20, 2)
    common = {"model": Model(), "loss": loss, "evaluate": evaluate, "on_evaluation": on_evaluation}
    if source == "loaders":
        loaders = {"train": DataLoader(train, 4, collate_fn=padded, shuffle=True),
                   "valid": DataLoader(valid, 4, collate_fn=padded)}
        return tunectl.Workload(loaders=loaders, **common)
    if source == "stream":
        return tunectl.Workload(data={"train": Stream(train), "valid": Stream(valid)}, collate=padded, **common)
    data = {"train": train, "valid": valid, "test": test}
    return tunectl.Workload(data=data, collate=padded, sampler=by_class, **common)

'''

STUDY = """
workload: ./own.py:factory
objective: {metric: valid/auc, direction: maximize}
training: {max_train_steps: 12, eval_every: 6, train_examples: 20}
hyperparameters:
  optimizer: adam
  learning_rate: 0.05
  batch_size: 8
  source: {role: scientific, values: [loaders, stream, sampler]}
"""

FUNCTION = """
def train(trial, *, rate):
    for step in (1, 2, 3):
        trial.record(step, {"valid/loss": abs(step - 2) + rate})
    trial.record(3, {"test/bleu": 31.5})
"""

FUNCTION_STUDY = """
workload: {function: ./own.py:train}
objective: {metric: valid/loss, direction: minimize}
training: {max_train_steps: 3}
hyperparameters:
  rate: 0.1
"""


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_study_of_own_data_is_run_and_shown(tunectl: Call, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "own.yaml").write_text(STUDY)
    done = tunectl("run", tmp_path / "own.yaml")
    assert done.code == 0, done.err
    folder = tmp_path / "runs" / "own"
    table = rows(folder / "tables" / "trials.csv")
    assert [row["state"] for row in table] == ["completed"] * 3
    for row in table:
        place = folder / "trials" / f"{int(row['trial']):05d}" / "files" / f"step-{int(row['best_step']):08d}"
        assert (place / "metrics.txt").read_text() == row["valid/auc"] == row["best_value"]
    data = json.loads(re.findall(r'id="data">(.*?)</script>', (folder / "report.html").read_text())[0])
    assert len(data["files"]) == 3
    assert [step["step"] for step in data["files"][0]["steps"]] == [0, 6, 12]
    assert [bool(file["picture"]) for file in data["files"][0]["steps"][0]["files"]] == [False, True]


def test_a_metric_that_a_function_has_at_its_end_alone_is_in_the_table(tunectl: Call, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(FUNCTION)
    (tmp_path / "own.yaml").write_text(FUNCTION_STUDY)
    assert tunectl("run", tmp_path / "own.yaml").code == 0
    table = rows(tmp_path / "runs" / "own" / "tables" / "trials.csv")
    assert [(row["best_step"], row["test/bleu"]) for row in table] == [("2", "31.5")]
