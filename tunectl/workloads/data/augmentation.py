"""Random flips and crops of whole batches of images, on the batch's device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tunectl.workloads.data.image_splits import ImageSplits
from tunectl.workloads.data.mixup import Mixup
from tunectl.workloads.keyword_checks import check_choice

AUGMENTATIONS = ("none", "flip_crop")
"""The augmentations of training images by their names in a study: see `FlipCrop`."""

PADDING_SHARE = 8
"""Images are padded by one part in this many of their shorter side: 4 pixels at 32x32, as He et al. (2016, "Deep
residual learning for image recognition", section 4.2) and the paper do; 8 at 64x64, 2 at 16x16, as Chrabaszcz et al.
(2017, "A downsampled variant of ImageNet", arXiv 1707.08819).
"""

Augment = Callable[[Any, np.random.Generator], Any]


@dataclass(frozen=True, slots=True)
class FlipCrop:
    """Flips each image from left to right with probability 1/2, and moves it by up to `padding` pixels.

    `mean` has an entry a channel. An image, shape [channels, height, width], is padded on all sides with the mean
    pixel, which a model that standardises its input sees as 0 (for uint8 rounded to a whole number), and a window of
    its own size is cut out. Both offsets of the window are uniform on 0 to 2 * padding.
    """

    mean: tuple[float, ...]
    padding: int

    def __call__(self, images: Tensor, generator: np.random.Generator) -> Tensor:
        """The augmented images, shape [B, C, H, W] as `images`, and of their type."""
        examples, channels, height, width = images.shape
        draws = generator.integers(0, 2 * self.padding + 1, size=(2, examples))
        flips = generator.random(examples) < 0.5
        downs, rights, flipped = (_on(images, torch.from_numpy(numbers)) for numbers in (*draws, flips))

        # The padded images, shape [B, C, H + 2p, W + 2p]; flipping first or last is the same in distribution.
        pixel = torch.tensor(self.mean, dtype=torch.float64)
        pixel = _on(images, pixel if images.is_floating_point() else pixel.round())
        padded = images.new_empty(examples, channels, height + 2 * self.padding, width + 2 * self.padding)
        padded.copy_(pixel.view(1, channels, 1, 1).expand_as(padded))
        padded[:, :, self.padding : self.padding + height, self.padding : self.padding + width] = images

        # Rows and columns of each window, shapes [B, H] and [B, W]; a flipped window has its columns in reverse.
        rows = downs[:, None] + torch.arange(height, device=images.device)
        columns = torch.arange(width, device=images.device)
        columns = rights[:, None] + torch.where(flipped[:, None], columns.flip(0), columns)
        return _gathered(padded, rows, columns)


def _on(images: Tensor, numbers: Tensor) -> Tensor:
    # Training on a GPU does not wait for it; a tensor that is made on it would.
    return numbers.to(images.device, non_blocking=True)


def _gathered(padded: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The pixels of these rows and columns of each image: shape [B, C, H, W] for rows [B, H] and columns [B, W]."""
    examples, channels, _, width = padded.shape
    # One gather along the flattened pixels is four times as fast as one along rows and one along columns.
    pixels = (rows[:, :, None] * width + columns[:, None, :]).view(examples, 1, -1).expand(-1, channels, -1)
    return padded.view(examples, channels, -1).gather(2, pixels).view(examples, channels, rows.shape[1], -1)


@dataclass(frozen=True, slots=True)
class ImageAugmentation:
    """What becomes of a training batch [images, labels]: a flip and a crop, then a mixture. Either may be None."""

    flip_crop: FlipCrop | None = None
    mixup: Mixup | None = None

    def __call__(self, batch: Any, generator: np.random.Generator) -> list[Tensor]:
        """The augmented batch; `generator` gives all random numbers."""
        images, labels = batch
        if self.flip_crop is not None:
            images = self.flip_crop(images, generator)
        if self.mixup is not None:
            images, labels = self.mixup(images, labels, generator)
        return [images, labels]


def image_augmentation(splits: ImageSplits, *, augmentation: str = "none", mixup: float = 0.0) -> Augment | None:
    """The `Workload.augment` of images: `augmentation` is one of AUGMENTATIONS, `mixup` the alpha of `Mixup`, 0 for
    none; None where nothing is augmented.

    Images that are cropped where they are read are not cropped again. Raises ValueError where a value is wrong.
    """
    check_choice("augmentation", augmentation, AUGMENTATIONS)
    mixed = Mixup(mixup, splits.classes)
    padding = min(splits.height, splits.width) // PADDING_SHARE
    crops = augmentation == "flip_crop" and not splits.crops_when_read
    if not crops and mixed.alpha == 0:
        return None
    return ImageAugmentation(FlipCrop(splits.mean, padding) if crops else None, mixed if mixed.alpha else None)
