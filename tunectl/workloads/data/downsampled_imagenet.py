"""Downsampled ImageNet (64x64 and smaller): the parts in NumPy's format, as image-net.org gives them.

Chrabaszcz, Loshchilov and Hutter, "A downsampled variant of ImageNet as an alternative to the CIFAR datasets" (2017,
arXiv 1707.08819).
"""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from tunectl.core.errors import WorkloadError
from tunectl.core.free_memory import free_bytes
from tunectl.core.path_errors import path_message
from tunectl.workloads.data import data_notes
from tunectl.workloads.data.damaged_file import DamagedFile
from tunectl.workloads.data.image_splits import Images, ImageSplits, Labels, tensor_splits

CLASSES = 1_000
CHANNELS = 3
PARTS = 10
REMEDY = (
    "get the parts for NumPy (Imagenet64_train_part1_npz.zip, ..., Imagenet64_val_npz.zip) from "
    "https://image-net.org/download-images"
)

_TRAIN = re.compile(r"train_data_batch_(\d+)\.npz")
_VALID = "val_data.npz"
_UNREADABLE = (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error)


def is_downsampled(names: Sequence[str]) -> bool:
    """Whether a folder with these files has downsampled ImageNet, or a part of it."""
    return _VALID in names or any(_TRAIN.fullmatch(name) for name in names)


def read_downsampled(folder: Path, names: Sequence[str]) -> ImageSplits:
    """The splits of the parts in a folder: `train`, and ImageNet's validation images as `valid`; no `test`.

    Raises WorkloadError where a part is missing or damaged, or where the images do not fit in the memory.
    """
    numbers = sorted(int(found[1]) for name in names if (found := _TRAIN.fullmatch(name)))
    missing = [
        f"train_data_batch_{number}.npz" for number in range(1, max(numbers, default=1)) if number not in numbers
    ]
    missing += [] if numbers else ["train_data_batch_1.npz"]
    missing += [] if _VALID in names else [_VALID]
    if missing:
        raise WorkloadError(f"{folder}: {', '.join(missing)} missing; {REMEDY}")
    if len(numbers) < PARTS:
        data_notes.note(f"{folder}: downsampled ImageNet has {PARTS} training parts, this folder has {len(numbers)}")
    train = [folder / f"train_data_batch_{number}.npz" for number in numbers]
    shapes = {file: _shape(file) for file in (*train, folder / _VALID)}
    widths = {shape[1] for shape in shapes.values()}
    if len(widths) > 1:
        raise WorkloadError(f"{folder}: expected images of one size, got rows of {sorted(widths)} values; {REMEDY}")
    _check_memory(folder, sum(map(math.prod, shapes.values())))
    return tensor_splits({"train": _joined(train, shapes), "valid": _joined([folder / _VALID], shapes)}, CLASSES)


def _shape(file: Path) -> tuple[int, int]:
    """The shape of a part's images, [N, 3 * side * side], from its header."""
    try:
        with zipfile.ZipFile(file) as parts, parts.open("data.npy") as data:
            version = npy.read_magic(data)
            header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, in_columns, item_type = header(data)
        if item_type != np.uint8 or in_columns or len(shape) != 2 or _side(shape[1]) is None or not shape[0]:
            raise DamagedFile(f"data: expected uint8, shape [N, 3 * side * side], got {item_type}, shape {list(shape)}")
    except _UNREADABLE as error:
        raise _unreadable(file, error) from error
    return shape


def _side(width: int) -> int | None:
    side = math.isqrt(width // CHANNELS)
    return side if side and CHANNELS * side * side == width else None


def _check_memory(folder: Path, needed: int) -> None:
    free = free_bytes()
    if free is not None and needed > free:
        raise WorkloadError(
            f"{folder}: its images take {needed / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} GiB are free; read "
            "the 32x32 or 16x16 version, or image files from class folders"
        )


def _joined(files: Sequence[Path], shapes: dict[Path, tuple[int, int]]) -> tuple[Images, Labels]:
    """The images of these parts, shape [N, 3, side, side], and their labels from 0 on, shape [N]."""
    width = shapes[files[0]][1]
    images = np.empty((sum(shapes[file][0] for file in files), width), np.uint8)
    labels = np.empty(len(images), np.int64)
    first = 0
    for file in files:
        last = first + shapes[file][0]
        try:
            with np.load(file, allow_pickle=False) as part:
                images[first:last] = part["data"]
                labels[first:last] = _labels(part["labels"], last - first)
        except _UNREADABLE as error:
            raise _unreadable(file, error) from error
        first = last
    side = _side(width)
    assert side is not None
    return images.reshape(-1, CHANNELS, side, side), labels


def _labels(labels: NDArray[Any], examples: int) -> NDArray[np.int64]:
    """The labels from 0 on; the parts count them from 1."""
    if labels.size != examples or labels.dtype.kind not in "iu":
        raise DamagedFile(
            f"labels: expected {examples:,} whole numbers, got {labels.dtype}, shape {list(labels.shape)}"
        )
    wrong = np.flatnonzero((labels.ravel() < 1) | (labels.ravel() > CLASSES))
    if len(wrong):
        raise DamagedFile(f"image {wrong[0]}: expected a label from 1 to {CLASSES:,}, got {labels.ravel()[wrong[0]]}")
    return labels.ravel().astype(np.int64) - 1


def _unreadable(file: Path, error: Exception) -> WorkloadError:
    if isinstance(error, PermissionError):
        return WorkloadError(path_message(file, "read", error))
    what = str(error) if isinstance(error, DamagedFile) else f"it is incomplete or damaged ({error})"
    return WorkloadError(f"{file}: {what}; {REMEDY}")
