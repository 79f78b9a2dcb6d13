"""The example that `tunectl init` writes: a study and the workload that it trains."""

STUDY = """\
# An example study, ready to run:
#   tunectl check study.yaml     checks it and its design
#   tunectl run study.yaml       trains it (under a minute on two cores) and says what it found
# Every hyperparameter has a role: scientific (the question), nuisance (tuned for each setting, so that the comparison
# is fair) or fixed (the same in all trials).
study: first-study                        # its folder will be runs/first-study
goal: Does tanh or relu reach the lower validation error on two spirals in 300 steps?
workload: ./workload.py:spirals           # the function in the file beside this one that builds what is trained
objective: {metric: valid/error_rate, direction: minimize}
training:
  max_train_steps: 300                    # optimizer updates in each trial
  eval_every: 20
hyperparameters:
  activation: {role: scientific, values: [relu, tanh]}                 # the question: two settings
  learning_rate: {role: nuisance, range: [1e-3, 1e-1], scale: log}     # its best value differs between them
  hidden: {role: fixed, value: 32}                                     # an argument of spirals() in workload.py
  optimizer: adam                                                      # a bare value is fixed
  batch_size: 64
search: {trials: 8}                       # for each setting; if you raise it later, the first eight are kept
"""
WORKLOAD = '''\
"""The workload of the study beside this file: a small network learns to separate two spirals."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import tunectl

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


def points(count: int, seed: int) -> TensorDataset:
    """`count` noisy points, half on each of two spirals; the same in every trial."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % 2
    turn = 0.25 + torch.rand(count, generator=generator)
    angle = 2 * math.pi * turn + math.pi * label
    spiral = torch.stack([turn * angle.cos(), turn * angle.sin()], dim=1)
    return TensorDataset(spiral + 0.1 * torch.randn(count, 2, generator=generator), label)


@functools.cache
def load() -> dict[str, TensorDataset]:
    return {"train": points(800, seed=0), "valid": points(400, seed=1)}


def preload() -> None:
    """Called once before the trials start: they share the data that is cached here."""
    load()


def loss(model: nn.Module, batch: list[Tensor]) -> Tensor:
    """One value per example, shape [B]."""
    inputs, labels = batch
    return nn.functional.cross_entropy(model(inputs), labels, reduction="none")


def metrics(model: nn.Module, batch: list[Tensor]) -> dict[str, Tensor]:
    """Other metrics, again one value per example; the mean over the valid split is `valid/error_rate`."""
    inputs, labels = batch
    return {"error_rate": (model(inputs).argmax(dim=1) != labels).float()}


def spirals(*, activation: str, hidden: int = 32) -> tunectl.Workload:
    """The factory: its arguments are hyperparameters. Torch has the trial's seed when it is called."""
    layer = ACTIVATIONS[activation]
    model = nn.Sequential(nn.Linear(2, hidden), layer(), nn.Linear(hidden, hidden), layer(), nn.Linear(hidden, 2))
    return tunectl.Workload(
        model=model,
        data=load(),
        loss=loss,
        metrics=metrics,
        baseline_loss=math.log(2),  # of the best constant prediction: shows which networks learn nothing
    )
'''
