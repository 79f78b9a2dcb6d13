"""The first module of the image models: pixels become numbers of mean 0 and deviation 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Standardize(nn.Module):
    """Subtracts the mean of each channel and divides by its deviation, both in the unit of the pixels.

    So images may stay whole numbers of one byte until they are on the device of the model. Mean and deviation belong to
    the data and are not saved with the weights. Raises ValueError where a deviation is not above 0, or where there is
    not one mean and one deviation a channel.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(deviation) or not all(each > 0 for each in deviation):
            raise ValueError(
                f"expected a mean and a deviation above 0 for each channel, got means {tuple(mean)} and deviations "
                f"{tuple(deviation)}"
            )
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """The standardised images, of the shape of `images`, [B, C, H, W]."""
        return (images.to(self.mean.dtype) - self.mean) / self.deviation
