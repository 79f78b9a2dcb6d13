"""CIFAR-10 and CIFAR-100 as their author gives them: the binary release."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunectl.core.errors import WorkloadError
from tunectl.workloads.data.image_splits import Images, ImageSplits, Labels, with_held_out

CHANNELS, SIDE = 3, 32
PIXELS = CHANNELS * SIDE * SIDE
HOME = "https://www.cs.toronto.edu/~kriz/cifar.html"


@dataclass(frozen=True, slots=True)
class Release:
    """What a release of CIFAR consists of: the names of its training and test files, and the labels before the pixels
    of each record: the number of classes of each. The last label is the one to predict.
    """

    name: str
    archive: str
    train: tuple[str, ...]
    test: str
    label_classes: tuple[int, ...]
    train_images: int = 50_000
    test_images: int = 10_000

    @property
    def classes(self) -> int:
        """The number of classes to predict."""
        return self.label_classes[-1]

    @property
    def files(self) -> tuple[str, ...]:
        """The names of all its files of images."""
        return (*self.train, self.test)


CIFAR_10_BINARY = Release(
    "the binary release of CIFAR-10",
    "cifar-10-binary.tar.gz",
    tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    "test_batch.bin",
    (10,),
)
CIFAR_100_BINARY = Release(
    "the binary release of CIFAR-100", "cifar-100-binary.tar.gz", ("train.bin",), "test.bin", (20, 100)
)
BINARY_RELEASES = (CIFAR_10_BINARY, CIFAR_100_BINARY)


def read_cifar(release: Release, files: Mapping[str, Callable[[], bytes]], place: str) -> ImageSplits:
    """The splits of a release, whose files are in `files` by their names; `place` is where they are, for messages.

    A tenth of the training images becomes `valid`. Raises WorkloadError where a file is missing or damaged.
    """
    missing = [name for name in release.files if name not in files]
    if missing:
        raise WorkloadError(
            f"{place}: {release.name} lacks {', '.join(missing)} (found {', '.join(sorted(files))}); {where(release)}"
        )
    read = {name: _read_binary(release, files[name](), f"{place}/{name}") for name in release.files}
    _check_sizes(release, {name: len(labels) for name, (_, labels) in read.items()}, place)
    train = [read[name] for name in release.train]
    images, labels = (np.concatenate(column) for column in zip(*train, strict=True))
    return with_held_out((images, labels), {"test": read[release.test]}, release.classes)


def where(release: Release) -> str:
    """Where the release can be had, for a message."""
    return f"get {release.archive} again from {HOME}"


def _read_binary(release: Release, content: bytes, file: str) -> tuple[Images, Labels]:
    """The images, shape [N, 3, 32, 32], and labels, shape [N], of a file of records: labels, then the pixels of the
    red, the green and the blue channel, row by row, a byte each.
    """
    size = len(release.label_classes) + PIXELS
    if not content or len(content) % size:
        raise WorkloadError(
            f"{file}: expected records of {size:,} bytes, got {len(content):,} bytes, which is no whole number of "
            f"them; the file is incomplete or another one: {where(release)}"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    for place, classes in enumerate(release.label_classes):
        check_labels(release, records[:, place], classes, file)
    labels = records[:, len(release.label_classes) - 1].astype(np.int64)
    pixels = np.ascontiguousarray(records[:, len(release.label_classes) :])
    return pixels.reshape(-1, CHANNELS, SIDE, SIDE), labels


def check_labels(release: Release, labels: NDArray[np.integer], classes: int, file: str) -> None:
    """Raise WorkloadError unless all labels are from 0 to `classes` - 1."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise WorkloadError(
            f"{file}: image {wrong[0]}: expected a label from 0 to {classes - 1}, got {labels[wrong[0]]}; the file is "
            f"damaged or another one: {where(release)}"
        )


def _check_sizes(release: Release, sizes: Mapping[str, int], place: str) -> None:
    """Raise WorkloadError where a training file has fewer images than another one: an incomplete download."""
    most = max(sizes[name] for name in release.train)
    for name in release.train:
        if sizes[name] < most:
            raise WorkloadError(
                f"{place}/{name}: expected {most:,} images, as the largest training file has, got {sizes[name]:,}; the "
                f"file is incomplete: {where(release)}"
            )
