"""Labelled images in splits: the one form in which every reader of images gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from tunectl.core.errors import WorkloadError

SPLIT_SEED = 0
"""The seed of the division into splits. It is part of every result and never changes."""

HELD_OUT_SHARE = 10
"""Of training images that come without a validation split, one in this many becomes one: 5,000 of CIFAR's 50,000."""

_COUNTED_AT_ONCE = 4096

Images = NDArray[Any]
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ImageSplits:
    """The splits by name, and what a model and a loss must know of their images.

    `splits` has `train`, `valid`, and `test` where there is one. An example is (image, label): the raw pixel values,
    shape [channels, height, width], uint8 (float32 for the digits), and an int64 from 0 to `classes` - 1. Images that
    fit in memory are a TensorDataset; others are decoded when an example is taken. `mean` and `deviation` have an entry
    a channel, in units of a pixel's value: a model's first layer takes the mean from its input and divides by the
    deviation. `label_shares` is the part of the training examples that each label has, shape [classes].
    `crops_when_read`: training images are flipped and cropped at random where they are decoded, also where they are
    measured.
    """

    splits: Mapping[str, Dataset[Any]]
    channels: int
    height: int
    width: int
    classes: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    label_shares: NDArray[np.float64]
    crops_when_read: bool = False


def split_examples(examples: int, *, valid: int, test: int = 0) -> dict[str, NDArray[np.int64]]:
    """The numbers of the examples in `train`, `valid` and, where `test` is not 0, `test`.

    They are a permutation by NumPy's frozen RandomState, which does not depend on a study's seeds.
    """
    order = np.random.RandomState(SPLIT_SEED).permutation(examples)
    train = examples - valid - test
    parts = dict(zip(("train", "valid", "test"), np.split(order, [train, train + valid]), strict=True))
    return parts if test else {name: parts[name] for name in ("train", "valid")}


def held_out(examples: int) -> dict[str, NDArray[np.int64]]:
    """The numbers of the training examples that stay in `train`, and those, one in HELD_OUT_SHARE, that are `valid`.

    Raises WorkloadError where there are too few for both.
    """
    if examples < 2:
        raise WorkloadError(f"expected at least 2 training images, one of them for validation, got {examples}")
    return split_examples(examples, valid=max(1, examples // HELD_OUT_SHARE))


def tensor_splits(parts: Mapping[str, tuple[Images, Labels]], classes: int) -> ImageSplits:
    """The splits of images in memory: for each name the images, shape [N, channels, height, width], and their labels,
    shape [N]. Mean and deviation are those of all pixels of a channel in `train`.
    """
    images, labels = parts["train"]
    mean, deviation = pixel_statistics(torch.from_numpy(images))
    _, channels, height, width = images.shape
    return ImageSplits(
        splits={name: TensorDataset(*map(torch.from_numpy, part)) for name, part in parts.items()},
        channels=channels,
        height=height,
        width=width,
        classes=classes,
        mean=mean,
        deviation=deviation,
        label_shares=shares_of(labels, classes),
    )


def with_held_out(
    train: tuple[Images, Labels], others: Mapping[str, tuple[Images, Labels]], classes: int
) -> ImageSplits:
    """The splits of a release without a validation split: a part of `train` becomes `valid`, see `held_out`."""
    images, labels = train
    parts = held_out(len(labels))
    return tensor_splits({name: (images[part], labels[part]) for name, part in parts.items()} | dict(others), classes)


def shares_of(labels: Labels, classes: int) -> NDArray[np.float64]:
    """The part of the labels that each class has, shape [classes]."""
    return np.bincount(labels, minlength=classes) / len(labels)


def pixel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean and the standard deviation of the pixels of each channel, for images of shape [N, C, H, W].

    A channel whose pixels are all equal has the deviation 1, by which one can divide.
    """
    values = [_moments(images[:, channel]) for channel in range(images.shape[1])]
    return tuple(mean for mean, _ in values), tuple(deviation or 1.0 for _, deviation in values)


def _moments(pixels: Tensor) -> tuple[float, float]:
    if pixels.dtype != torch.uint8:
        return float(pixels.double().mean()), float(pixels.double().std(correction=0))
    # Exact, and without a copy of all images in a wider type: how many pixels have each of the 256 values.
    counts = torch.zeros(256, dtype=torch.int64)
    for part in torch.split(pixels, _COUNTED_AT_ONCE):
        counts += torch.bincount(part.reshape(-1), minlength=256)
    values, weights = torch.arange(256, dtype=torch.float64), counts.double() / counts.sum()
    mean = float((weights * values).sum())
    return mean, float((weights * (values - mean).square()).sum().sqrt())
