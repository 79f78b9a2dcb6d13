"""CIFAR-10 and CIFAR-100 as their author gives them: the binary releases and those for Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunectl.core.errors import WorkloadError
from tunectl.workloads.data import data_notes
from tunectl.workloads.data.array_pickles import read_arrays
from tunectl.workloads.data.damaged_file import DamagedFile
from tunectl.workloads.data.image_splits import Images, ImageSplits, Labels, with_held_out

CHANNELS, SIDE = 3, 32
PIXELS = CHANNELS * SIDE * SIDE
HOME = "https://www.cs.toronto.edu/~kriz/cifar.html"
TRAIN_IMAGES = 50_000


@dataclass(frozen=True, slots=True)
class Release:
    """A release of CIFAR.

    `train` and `test` are the names of its files. In a binary release `label_classes` has the number of classes for
    each label before the pixels of a record, the last one to predict. In one for Python `label_key` is the name of the
    labels in the files; it is "" for a binary one.
    """

    name: str
    archive: str
    train: tuple[str, ...]
    test: str
    label_classes: tuple[int, ...]
    label_key: str = ""

    @property
    def classes(self) -> int:
        """The number of classes to predict."""
        return self.label_classes[-1]

    @property
    def files(self) -> tuple[str, ...]:
        """The names of all its files of images."""
        return (*self.train, self.test)

    @property
    def remedy(self) -> str:
        """Where to get the release, for a message."""
        return f"get {self.archive} from {HOME} and unpack it again"


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))

RELEASES = (
    Release(
        "the binary release of CIFAR-10",
        "cifar-10-binary.tar.gz",
        tuple(f"{name}.bin" for name in _BATCHES),
        "test_batch.bin",
        (10,),
    ),
    Release("CIFAR-10 for Python", "cifar-10-python.tar.gz", _BATCHES, "test_batch", (10,), "labels"),
    Release("the binary release of CIFAR-100", "cifar-100-binary.tar.gz", ("train.bin",), "test.bin", (20, 100)),
    Release("CIFAR-100 for Python", "cifar-100-python.tar.gz", ("train",), "test", (100,), "fine_labels"),
)


def read_cifar(release: Release, files: Mapping[str, Callable[[], bytes]], place: str) -> ImageSplits:
    """The splits of a release, whose files are in `files` by their names; `place` is where they are, for messages.

    A tenth of the training images becomes `valid`. Raises WorkloadError where a file is missing or damaged. Files with
    fewer images than the release has are read, with a note: they may be a part that was made on purpose.
    """
    missing = [name for name in release.files if name not in files]
    if missing:
        raise WorkloadError(
            f"{place}: {release.name} lacks {', '.join(missing)} (found {', '.join(sorted(files))}); {release.remedy}"
        )
    read = {name: _read_file(release, files[name](), f"{place}/{name}") for name in release.files}
    _check_sizes(release, {name: len(labels) for name, (_, labels) in read.items()}, place)
    train = [read[name] for name in release.train]
    images, labels = (np.concatenate(column) for column in zip(*train, strict=True))
    return with_held_out((images, labels), {"test": read[release.test]}, release.classes)


def _read_file(release: Release, content: bytes, file: str) -> tuple[Images, Labels]:
    """The images of a file, shape [N, 3, 32, 32], and their labels, shape [N]."""
    try:
        return (_read_pickle if release.label_key else _read_records)(release, content)
    except DamagedFile as error:
        raise WorkloadError(f"{file}: {error}; {release.remedy}") from error


def _read_records(release: Release, content: bytes) -> tuple[Images, Labels]:
    # A record is its labels, then the pixels of the red, the green and the blue channel row by row, a byte each.
    size = len(release.label_classes) + PIXELS
    if not content:
        raise DamagedFile("it is empty")
    if len(content) % size:
        raise DamagedFile(
            f"expected records of {size:,} bytes, got {len(content):,} bytes, which is no whole number of them: it is "
            "incomplete or another file"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    for place, classes in enumerate(release.label_classes):
        _check_labels(records[:, place], classes)
    pixels = np.ascontiguousarray(records[:, len(release.label_classes) :])
    return _as_images(pixels), records[:, len(release.label_classes) - 1].astype(np.int64)


def _read_pickle(release: Release, content: bytes) -> tuple[Images, Labels]:
    found = read_arrays(content)
    for key in ("data", release.label_key):
        if key not in found:
            raise DamagedFile(f"expected {key!r} in it, got {', '.join(found) or 'nothing'}")
    pixels, labels = found["data"], found[release.label_key]
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (PIXELS,):
        what = (
            f"{pixels.dtype}, shape {list(pixels.shape)}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        )
        raise DamagedFile(f"data: expected uint8, shape [N, {PIXELS}], got {what}")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise DamagedFile(f"{release.label_key}: expected a list of whole numbers")
    if len(labels) != len(pixels) or not labels:
        raise DamagedFile(f"expected a label for each image, got {len(labels):,} for {len(pixels):,} images")
    _check_labels(np.array(labels, dtype=object), release.classes)
    return _as_images(pixels), np.array(labels, dtype=np.int64)


def _as_images(pixels: NDArray[np.uint8]) -> Images:
    return pixels.reshape(-1, CHANNELS, SIDE, SIDE)


def _check_labels(labels: NDArray[Any], classes: int) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise DamagedFile(
            f"image {wrong[0]}: expected a label from 0 to {classes - 1}, got {labels[wrong[0]]}: it is damaged or "
            "another file"
        )


def _check_sizes(release: Release, sizes: Mapping[str, int], place: str) -> None:
    """Raise WorkloadError where a training file has fewer images than another one: an incomplete download."""
    most = max(sizes[name] for name in release.train)
    for name in release.train:
        if sizes[name] < most:
            raise WorkloadError(
                f"{place}/{name}: expected {most:,} images, as the largest training file has, got {sizes[name]:,}: it "
                f"is incomplete; {release.remedy}"
            )
    found = sum(sizes[name] for name in release.train)
    if found != TRAIN_IMAGES:
        data_notes.note(f"{place}: {release.name} has {TRAIN_IMAGES:,} training images, these files have {found:,}")
