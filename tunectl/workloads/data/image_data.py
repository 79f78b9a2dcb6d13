"""Which reader is for which data: a name, or what is at a path."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tunectl.core.errors import WorkloadError
from tunectl.workloads.data import packaged_images
from tunectl.workloads.data.augmentation import AUGMENTATIONS
from tunectl.workloads.data.cifar import BINARY_RELEASES, HOME, read_cifar
from tunectl.workloads.data.data_paths import content, entries, existing, listed
from tunectl.workloads.data.image_splits import ImageSplits
from tunectl.workloads.keyword_checks import check_choice

_EXPECTED = (
    "expected 'digits', 'mnist', or the path of a folder with: the files of the binary release of CIFAR-10 or CIFAR-100"
    f" ({HOME})"
)


def image_splits(data: str, *, augmentation: str = "none") -> ImageSplits:
    """The images of `data`, in splits: "digits", "mnist", or a path; a process reads each of them once.

    `~` is expanded, and a relative path is searched in the folders of the workload, then in the current one. Raises
    WorkloadError where nothing is there that can be read, or what is there is damaged.

    With the `augmentation` "flip_crop", images that are decoded one by one are flipped and cropped where they are read;
    `image_classification` does it for the others.
    """
    check_choice("augmentation", augmentation, AUGMENTATIONS)
    if data == "digits":
        return _digits()
    if data == "mnist":
        return _mnist()
    return _at(existing(data, _EXPECTED))


_digits = functools.cache(packaged_images.digits)
_mnist = functools.cache(packaged_images.mnist)


@functools.cache
def _at(path: Path) -> ImageSplits:
    read = _reader(path)
    if read is None:
        raise WorkloadError(f"{path}: {_EXPECTED}; found {listed(entries(path))}")
    return read()


def _reader(folder: Path) -> Callable[[], ImageSplits] | None:
    names = entries(folder)
    for release in BINARY_RELEASES:
        if any(name in release.files for name in names):
            files = {name: partial(content, folder / name) for name in release.files if name in names}
            return partial(read_cifar, release, files, str(folder))
    return None
