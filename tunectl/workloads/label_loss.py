"""The losses of the built-in workloads, which all predict a label: cross-entropy and the squared error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from tunectl.workloads.keyword_checks import check_choice, check_share

LOSSES = ("cross_entropy", "mse")
"""The losses by their names in a study: see `LabelLoss`."""


@dataclass(frozen=True, slots=True)
class LabelLoss:
    """The loss of a model's scores against smoothed labels, called as `loss(model, batch)`.

    The target of an example is its label y as a vector of 0s and a 1, or a vector that sums to 1, as `Mixup` gives it.
    `label_smoothing`, a number s from 0 up to but not including 1, is taken from it and spread evenly over all K
    classes: (1 - s) e_y + s / K, as torch does it. It is so in training and in evaluations.
    `cross_entropy` is the cross-entropy of softmax(scores) in nats. `mse` is half the squared distance of the scores
    from the target, summed over the classes: 1/2 |scores - target|^2. With that scale the Hessian of a linear model is
    the mean of x x', which is the convention of the studies of the edge of stability (Cohen et al. 2021, "Gradient
    descent on neural networks typically occurs at the edge of stability", arXiv 2103.00065; Lewkowycz et al. 2020,
    arXiv 2003.02218, eq. 1). The mean over the classes, as torch's MSELoss takes it, is K / 2 times smaller, here 5
    times, and so is its curvature.
    Raises ValueError where a value is outside its range or a name is not known.
    """

    name: str = "cross_entropy"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_choice("loss", self.name, LOSSES)
        check_share("label_smoothing", self.label_smoothing)

    def __call__(self, model: nn.Module, batch: list[Tensor]) -> Tensor:
        """The loss of each example, shape [B]. The batch is [inputs, labels]: whole numbers, shape [B], or vectors of
        floats, shape [B, K].
        """
        inputs, labels = batch
        scores: Tensor = model(inputs)
        if self.name == "cross_entropy":
            return F.cross_entropy(scores, labels, reduction="none", label_smoothing=self.label_smoothing)
        # Under bfloat16 the scores have 8 bits, too few for a difference from a smoothed target.
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        classes = scores.shape[1]
        targets = labels if labels.is_floating_point() else F.one_hot(labels, classes)
        targets = targets.to(scores.dtype)  # [B, K]
        targets = (1 - self.label_smoothing) * targets + self.label_smoothing / classes
        return 0.5 * (scores - targets).square().sum(dim=1)

    def of_best_constant(self, label_shares: NDArray[np.float64]) -> float:
        """The lowest mean loss that one constant prediction can have, where `label_shares`, shape [K], sum to 1.

        The best constant is the mean of the targets. Its cross-entropy is the entropy of that mean, in nats; its
        squared error is half the variance of the targets, summed over the classes.
        """
        if self.name == "mse":
            # The mean of a squared 0-1 vector is its mean, and smoothing scales all distances by 1 - s.
            variances = label_shares * (1 - label_shares)
            return float(0.5 * (1 - self.label_smoothing) ** 2 * variances.sum())
        targets = (1 - self.label_smoothing) * label_shares + self.label_smoothing / len(label_shares)
        targets = targets[targets > 0]
        return float(-(targets * np.log(targets)).sum())
