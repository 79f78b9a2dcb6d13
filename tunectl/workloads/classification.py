"""The parts that the built-in workloads share: labelled tensors, the error rate, the workload that they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from tunectl.workloads.label_loss import LabelLoss
from tunectl.workloads.workload import Workload

CLASSES = 10


@dataclass(frozen=True, slots=True)
class LabelledSplits:
    """The splits by name: inputs, and labels 0 to 9."""

    splits: dict[str, TensorDataset]

    def label_shares(self) -> NDArray[np.float64]:
        """The part of the training examples that each label has, shape [10]."""
        labels = self.splits["train"].tensors[1].numpy()
        return np.bincount(labels, minlength=CLASSES) / len(labels)


def labelled(inputs: NDArray[np.float64], labels: NDArray[np.int64]) -> TensorDataset:
    """The examples as tensors: `inputs` in single precision, `labels` as int64, shape [N]."""
    return TensorDataset(
        torch.from_numpy(np.ascontiguousarray(inputs, dtype=np.float32)),
        torch.from_numpy(np.ascontiguousarray(labels, dtype=np.int64)),
    )


def error_rate(model: nn.Module, batch: list[Tensor]) -> dict[str, Tensor]:
    """`error_rate`: 1 for each misclassified example, else 0, shape [B]. Scores that hold a NaN are misclassified."""
    inputs, labels = batch
    scores = model(inputs)
    wrong = (scores.argmax(dim=1) != labels) | scores.isnan().any(dim=1)
    return {"error_rate": wrong.to(scores.dtype)}


def classification(
    model: nn.Module, data: LabelledSplits, *, loss: str = "cross_entropy", label_smoothing: float = 0.0
) -> Workload:
    """The workload of this model on these splits, with the `LabelLoss` of that name and smoothing.

    Its metrics are `loss` (always measured) and `error_rate`, its blocks the children of the model that are sequences
    of modules. Raises ValueError as `LabelLoss` does.
    """
    label_loss = LabelLoss(loss, label_smoothing)
    return Workload(
        model=model,
        data=dict[str, Any](data.splits),
        loss=label_loss,
        metrics=error_rate,
        baseline_loss=label_loss.of_best_constant(data.label_shares()),
        blocks=tuple(child for child in model.children() if isinstance(child, nn.Sequential)),
    )
