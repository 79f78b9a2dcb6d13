"""The study that tests of exports write, and what its files say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tunectl.core import jsontext

TEXT = """\
study: example
goal: Which optimizer is better?
workload: tunectl.workloads.digits:mlp
objective: {metric: valid/error_rate, direction: minimize}
training: {max_train_steps: 100, eval_every: 50}
hyperparameters:
  optimizer: {role: scientific, values: [nesterov, adam]}
  learning_rate:
    - {role: nuisance, when: {optimizer: nesterov}, range: [1e-3, 3], scale: log}
    - {role: nuisance, when: {optimizer: adam}, range: [1e-5, 1e-1], scale: log}
  momentum: {role: nuisance, when: {optimizer: nesterov}, range: [0.8, 0.999], scale: one_minus_log}
  width: {role: nuisance, range: [8, 64], scale: log, type: int}
  activation: {role: nuisance, values: [relu, tanh]}
  num_layers: 2
search: {trials: 4}
"""
INFEASIBLE, FAILED, NAN, PENDING = 3, 4, 5, 7
RECORDED, CLASHING = 1, 2
"""A trial that recorded its learning rate and gradient norm, and one that has a metric named learning_rate besides."""


def lines_of(folder: Path, trial: int) -> list[dict[str, Any]]:
    """The measurements of a trial as its file has them, with numbers for what JSON cannot hold, by step."""
    text = (folder / "trials" / f"{trial:05d}" / "measurements.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        line["metrics"] = {name: jsontext.number(value) for name, value in line["metrics"].items()}
    return sorted(lines, key=lambda line: line["step"])


def curve_of(folder: Path, trial: int, metric: str) -> list[tuple[int, float]]:
    """The steps and values of a metric."""
    return [(line["step"], line["metrics"][metric]) for line in lines_of(folder, trial)]


def updates_of(folder: Path, trial: int, field: str) -> list[tuple[int, float]]:
    """The steps and values of a field of the measurements that says something of the last update."""
    return [(line["step"], line[field]) for line in lines_of(folder, trial) if line[field] is not None]


def of_updates(trial: int) -> dict[str, str]:
    """The fields of the measurements that say something of the updates, by the names under which they are exported."""
    rate = {RECORDED: "learning_rate", CLASHING: "learning_rate_of_update"}[trial]
    return {rate: "learning_rate", "gradient_norm": "gradient_norm"}


def as_texts(points: Any) -> list[tuple[int, str]]:
    """Points to be compared exactly: NaN is not equal to itself, and 0.1 is no 0.10000000149."""
    return [(int(step), repr(float(value))) for step, value in points]
