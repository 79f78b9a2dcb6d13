"""mixup: a batch is mixed with itself in reverse order, and so are its labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tunectl.space.domains import is_number


@dataclass(frozen=True, slots=True)
class Mixup:
    """Mixes each example with another one of its batch (Zhang et al. 2018, "mixup: Beyond empirical risk minimization",
    arXiv 1710.09412).

    The weight w is drawn from Beta(alpha, alpha), one a batch, and example i becomes w times itself plus 1 - w times
    example B - 1 - i: both as the paper's own code does it (google/init2winit, image_preprocessing.py). The order of a
    batch is random, so its reverse is as good as a permutation. The targets are mixed with the same weights: they are
    vectors over the `classes`. With alpha 0 nothing is mixed. Raises ValueError where alpha is no such number.
    """

    alpha: float
    classes: int

    def __post_init__(self) -> None:
        if not is_number(self.alpha) or not 0 <= self.alpha < math.inf:
            raise ValueError(f"mixup: expected a number, 0 (no mixing) or above, got {self.alpha!r}")

    def __call__(self, images: Tensor, labels: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The mixed images, shape [B, ...] in single precision at least, and their targets, shape [B, classes]."""
        weight = float(generator.beta(self.alpha, self.alpha))
        images = images.to(torch.promote_types(images.dtype, torch.float32))
        targets = F.one_hot(labels, self.classes).to(torch.float32)
        return _mixed(images, weight), _mixed(targets, weight)


def _mixed(values: Tensor, weight: float) -> Tensor:
    return torch.lerp(values.flip(0), values, weight)
