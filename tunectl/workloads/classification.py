"""The parts that the built-in workloads share: labelled tensors, cross-entropy, the error rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from tunectl.workloads.workload import Workload

CLASSES = 10


@dataclass(frozen=True, slots=True)
class LabelledSplits:
    """The splits by name (inputs, and labels 0 to 9) and the entropy of the training labels in nats."""

    splits: dict[str, TensorDataset]
    baseline_loss: float


def labelled(inputs: NDArray[np.float64], labels: NDArray[np.int64]) -> TensorDataset:
    """The examples as tensors: `inputs` in single precision, `labels` as int64, shape [N]."""
    return TensorDataset(
        torch.from_numpy(np.ascontiguousarray(inputs, dtype=np.float32)),
        torch.from_numpy(np.ascontiguousarray(labels, dtype=np.int64)),
    )


def entropy(labels: NDArray[np.int64]) -> float:
    """The entropy of the labels in nats: the lowest cross-entropy that one constant prediction can have."""
    shares = np.bincount(labels, minlength=CLASSES) / len(labels)
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())


def cross_entropy(model: nn.Module, batch: list[Tensor]) -> Tensor:
    """The cross-entropy of each example in nats, shape [B]."""
    inputs, labels = batch
    return F.cross_entropy(model(inputs), labels, reduction="none")


def error_rate(model: nn.Module, batch: list[Tensor]) -> dict[str, Tensor]:
    """`error_rate`: 1 for each misclassified example, else 0, shape [B]. Scores that hold a NaN are misclassified."""
    inputs, labels = batch
    scores = model(inputs)
    wrong = (scores.argmax(dim=1) != labels) | scores.isnan().any(dim=1)
    return {"error_rate": wrong.to(scores.dtype)}


def classification(model: nn.Module, data: Mapping[str, TensorDataset], baseline_loss: float) -> Workload:
    """The workload of this model on these splits; its metrics are `loss` (always measured) and `error_rate`, its blocks
    the children of the model that are sequences of modules.
    """
    return Workload(
        model=model,
        data=dict[str, Any](data),
        loss=cross_entropy,
        metrics=error_rate,
        baseline_loss=baseline_loss,
        blocks=tuple(child for child in model.children() if isinstance(child, nn.Sequential)),
    )
