"""Handwritten digits: the 1,797 images of 8x8 pixels in scikit-learn.

Source: Alpaydin and Kaynak, "Optical recognition of handwritten digits", UCI Machine Learning Repository, 1998 (its
test part).
"""

from __future__ import annotations

import functools
import gzip
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tunectl.workloads.classification import CLASSES, LabelledSplits, classification, labelled
from tunectl.workloads.networks import convolutional_network, multilayer_perceptron
from tunectl.workloads.workload import Workload

SIDE = 8
VALID_EXAMPLES = 300
TEST_EXAMPLES = 300
SPLIT_SEED = 0

_FILE_IN_SKLEARN = Path("datasets", "data", "digits.csv.gz")


def mlp(
    *,
    num_layers: int = 2,
    width: int = 64,
    activation: str = "relu",
    dropout: float = 0.0,
    normalization: str = "none",
    init: str = "he_normal",
    init_scale: float = 1.0,
    init_scale_scope: str = "hidden",
    loss: str = "cross_entropy",
    label_smoothing: float = 0.0,
) -> Workload:
    """A multilayer perceptron on the digits.

    The keywords are those of `networks.multilayer_perceptron` and of `label_loss.LabelLoss`.
    """
    model = multilayer_perceptron(
        SIDE * SIDE,
        CLASSES,
        num_layers=num_layers,
        width=width,
        activation=activation,
        dropout=dropout,
        normalization=normalization,
        init=init,
        init_scale=init_scale,
        init_scale_scope=init_scale_scope,
    )
    return classification(model, load(), loss=loss, label_smoothing=label_smoothing)


def cnn(
    *,
    num_layers: int = 2,
    width: int = 16,
    activation: str = "relu",
    dropout: float = 0.0,
    normalization: str = "none",
    init: str = "he_normal",
    init_scale: float = 1.0,
    init_scale_scope: str = "hidden",
    loss: str = "cross_entropy",
    label_smoothing: float = 0.0,
) -> Workload:
    """A convolutional network on the digits.

    The keywords are those of `networks.convolutional_network` and of `label_loss.LabelLoss`.
    """
    model = convolutional_network(
        SIDE,
        CLASSES,
        num_layers=num_layers,
        width=width,
        activation=activation,
        dropout=dropout,
        normalization=normalization,
        init=init,
        init_scale=init_scale,
        init_scale_scope=init_scale_scope,
    )
    return classification(model, load(), loss=loss, label_smoothing=label_smoothing)


def preload() -> None:
    """Read the images once, for all trials of the process and of its forks."""
    load()


@functools.cache
def load() -> LabelledSplits:
    """The digits (shape [1, 8, 8]), centred and scaled, in 1,197 training, 300 validation and 300 test examples.

    All pixels have the same mean and standard deviation, those of all training pixels: scaling each pixel alone would
    make those very large that are almost always 0. The split is a permutation by NumPy's frozen RandomState and does
    not depend on a study's seeds.
    """
    images, labels = read_images()
    order = np.random.RandomState(SPLIT_SEED).permutation(len(labels))
    train_examples = len(labels) - VALID_EXAMPLES - TEST_EXAMPLES
    parts = dict(
        zip(("train", "valid", "test"), np.split(order, [train_examples, train_examples + VALID_EXAMPLES]), strict=True)
    )
    pixels = images[parts["train"]]
    scaled = ((images - pixels.mean()) / pixels.std()).reshape(-1, 1, SIDE, SIDE)
    splits = {name: labelled(scaled[part], labels[part]) for name, part in parts.items()}
    return LabelledSplits(splits)


def read_images() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The raw images, shape [1797, 64] with values 0 to 16, and their labels, shape [1797].

    Reads the file inside scikit-learn without importing scikit-learn, which takes a second; imports it only where the
    file is elsewhere.
    """
    for folder in sys.path:
        spec = PathFinder.find_spec("sklearn", [folder])
        for package in (spec.submodule_search_locations if spec else None) or ():
            file = Path(package, _FILE_IN_SKLEARN)
            if file.is_file():
                with gzip.open(file, "rt", encoding="ascii") as lines:
                    table = np.loadtxt(lines, delimiter=",")
                return table[:, :-1], table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images, labels.astype(np.int64)
