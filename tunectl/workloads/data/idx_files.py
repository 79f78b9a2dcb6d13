"""MNIST and its relatives: files of the IDX format, compressed by gzip or not."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunectl.core.errors import WorkloadError
from tunectl.workloads.data.damaged_file import DamagedFile
from tunectl.workloads.data.image_splits import Images, ImageSplits, Labels, with_held_out

REMEDY = (
    "get MNIST from https://storage.googleapis.com/cvdf-datasets/mnist, FashionMNIST from "
    "https://github.com/zalandoresearch/fashion-mnist"
)

_NAME = re.compile(r"(?P<set>.*?)(?P<split>train|t10k|test)-(?P<what>images|labels)[-.]idx[13]-ubyte(\.gz)?")
_GZIP = b"\x1f\x8b"
_UNSIGNED_BYTES = 8
_PARTS = (("train", "images"), ("train", "labels"), ("test", "images"), ("test", "labels"))


@dataclass(frozen=True, slots=True)
class IdxFiles:
    """The names of a data set's files by (split, images or labels); `name` is what its files begin with, often ""."""

    name: str
    files: Mapping[tuple[str, str], str]


def idx_sets(names: Sequence[str]) -> list[IdxFiles]:
    """The data sets whose files have these names. A file that is there both compressed and not is read as it is."""
    sets: dict[str, dict[tuple[str, str], str]] = {}
    for name in sorted(names, reverse=True):  # a name before the same one with .gz wins
        found = _NAME.fullmatch(name)
        if found:
            split = "train" if found["split"] == "train" else "test"
            sets.setdefault(found["set"], {})[split, found["what"]] = name
    return [IdxFiles(name, files) for name, files in sorted(sets.items())]


def read_idx(found: IdxFiles, content: Callable[[str], bytes], place: str) -> ImageSplits:
    """The splits of a data set; `content` gives the bytes of a file in the folder `place`.

    A tenth of the training images becomes `valid`. Raises WorkloadError where a file is missing or damaged.
    """
    missing = [f"{split} {what}" for split, what in _PARTS if (split, what) not in found.files]
    if missing:
        have = ", ".join(sorted(found.files.values()))
        raise WorkloadError(f"{place}: no file with the {' nor the '.join(missing)} (found {have}); {REMEDY}")
    arrays: dict[tuple[str, str], NDArray[Any]] = {}
    for split, what in _PARTS:
        name = found.files[split, what]
        try:
            arrays[split, what] = _array(content(name), axes=3 if what == "images" else 1)
            _check_labels(arrays, split, what)
        except DamagedFile as error:
            raise WorkloadError(f"{place}/{name}: {error}; {REMEDY}") from error
    classes = int(arrays["train", "labels"].max()) + 1
    return with_held_out(_part(arrays, "train"), {"test": _part(arrays, "test")}, classes)


def _part(arrays: Mapping[tuple[str, str], NDArray[Any]], split: str) -> tuple[Images, Labels]:
    return arrays[split, "images"][:, None], arrays[split, "labels"].astype(np.int64)


def _check_labels(arrays: Mapping[tuple[str, str], NDArray[Any]], split: str, what: str) -> None:
    """Raise DamagedFile where the file that was read last does not fit those before it."""
    newest, train = arrays[split, what], ("train", what)
    if what == "labels" and len(newest) != len(arrays[split, "images"]):
        raise DamagedFile(
            f"expected a label for each image, got {len(newest):,} for {len(arrays[split, 'images']):,} images"
        )
    if what == "images" and newest.shape[1:] != arrays[train].shape[1:]:
        raise DamagedFile(f"expected images of {arrays[train].shape[1:]} pixels as in training, got {newest.shape[1:]}")
    if what == "labels" and newest.max() > arrays[train].max():
        raise DamagedFile(f"expected labels that are in training, at most {arrays[train].max()}, got {newest.max()}")


def _array(content: bytes, axes: int) -> NDArray[Any]:
    """The array in a file of unsigned bytes with this number of axes, a copy.

    The format: two bytes of 0, the type, the number of axes; the size of each axis, four bytes, the highest first; the
    values.
    """
    if content.startswith(_GZIP):
        content = _unzipped(content)
    magic = bytes((0, 0, _UNSIGNED_BYTES, axes))
    if content[:4] != magic:
        raise DamagedFile(
            f"expected an IDX file, which begins with {magic.hex()}, got {content[:4].hex() or 'nothing'}"
        )
    start = 4 + 4 * axes
    if len(content) < start:
        raise DamagedFile(f"expected the sizes of {axes} axes, got {len(content)} bytes: it is incomplete")
    sizes = [int(size) for size in np.frombuffer(content, ">u4", axes, 4)]
    if math.prod(sizes) != len(content) - start or not math.prod(sizes):
        raise DamagedFile(
            f"expected {math.prod(sizes):,} values (sizes {sizes}), got {len(content) - start:,}: it is incomplete or "
            "damaged"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(sizes).copy()


def _unzipped(content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise DamagedFile(f"cannot be decompressed, so it is incomplete or damaged: {error}") from error
