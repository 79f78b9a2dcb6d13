"""The parts that the built-in workloads share: labelled tensors, the error rate, the workload that they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from tunectl.core.final_training import VALID_FOR_TRAINING
from tunectl.workloads.data.augmentation import image_augmentation
from tunectl.workloads.data.image_splits import ImageSplits, shares_of
from tunectl.workloads.label_loss import LabelLoss
from tunectl.workloads.workload import Workload

CLASSES = 10


@dataclass(frozen=True, slots=True)
class LabelledSplits:
    """The splits by name: inputs, and labels 0 to 9."""

    splits: dict[str, TensorDataset]

    def label_shares(self) -> NDArray[np.float64]:
        """The part of the training examples that each label has, shape [10]."""
        return shares_of(self.splits["train"].tensors[1].numpy(), CLASSES)


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


def accuracy_and_error_rate(model: nn.Module, batch: list[Tensor]) -> dict[str, Tensor]:
    """`accuracy` and `error_rate`, which sum to 1 for each example, shape [B]."""
    errors = error_rate(model, batch)["error_rate"]
    return {"accuracy": 1 - errors, "error_rate": errors}


@dataclass(frozen=True, slots=True)
class LabelPredictions:
    """Called as `predict(model, batch)`: the `input`, its label as `target`, the class with the highest score as
    `prediction`, and with a cross-entropy the `probability` of that class, else its `score`.

    Scores that hold a NaN predict the class -1.
    """

    are_logits: bool

    def __call__(self, model: nn.Module, batch: list[Tensor]) -> dict[str, Tensor]:
        """The values of each example, shape [B], and the inputs."""
        inputs, labels = batch
        scores = model(inputs).float()
        highest, prediction = scores.max(dim=1)
        found = {"input": inputs, "target": labels}
        found["prediction"] = torch.where(scores.isnan().any(dim=1), -1, prediction)
        if self.are_logits:
            found["probability"] = (highest - scores.logsumexp(dim=1)).exp()
        else:
            found["score"] = highest
        return found


def classification(
    model: nn.Module, data: LabelledSplits, *, loss: str = "cross_entropy", label_smoothing: float = 0.0
) -> Workload:
    """The workload of this model on these splits, with the `LabelLoss` of that name and smoothing.

    Its metrics are `loss` (always measured) and `error_rate`, its blocks the children of the model that are sequences
    of modules. Raises ValueError as `LabelLoss` does.
    """
    return _workload(model, data.splits, data.label_shares(), loss=LabelLoss(loss, label_smoothing), metrics=error_rate)


def image_classification(
    model: nn.Module,
    splits: ImageSplits,
    *,
    loss: str = "cross_entropy",
    label_smoothing: float = 0.0,
    augmentation: str = "none",
    mixup: float = 0.0,
) -> Workload:
    """The workload of this model on these images, with the `LabelLoss` of that name and smoothing.

    The model gets raw pixel values, shape [B, channels, height, width], uint8 or floats, and standardises them itself.
    Its training batches are changed by `augmentation` (one of AUGMENTATIONS) and `mixup` (the alpha of `Mixup`, 0 for
    none). Its metrics are `loss` (always measured), `accuracy` and `error_rate`, its blocks the children of the model
    that are sequences of modules. Raises ValueError where a value is wrong.
    """
    augment = image_augmentation(splits, augmentation=augmentation, mixup=mixup)
    label_loss = LabelLoss(loss, label_smoothing)
    workload = _workload(model, splits.splits, splits.label_shares, loss=label_loss, metrics=accuracy_and_error_rate)
    return replace(workload, augment=augment)


def _workload(
    model: nn.Module,
    splits: Mapping[str, Dataset[Any]],
    label_shares: NDArray[np.float64],
    *,
    loss: LabelLoss,
    metrics: Callable[[nn.Module, list[Tensor]], dict[str, Tensor]],
) -> Workload:
    return Workload(
        model=model,
        # Images that are cropped where they are read bring their own; the splits of all others differ in nothing.
        data={**splits, VALID_FOR_TRAINING: splits.get(VALID_FOR_TRAINING, splits["valid"])},
        loss=loss,
        metrics=metrics,
        baseline_loss=loss.of_best_constant(label_shares),
        predict=LabelPredictions(loss.name == "cross_entropy"),
        blocks=tuple(child for child in model.children() if isinstance(child, nn.Sequential)),
    )
