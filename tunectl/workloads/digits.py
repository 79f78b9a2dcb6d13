"""Handwritten digits: the 1,797 images of 8x8 pixels in scikit-learn.

Source: Alpaydin and Kaynak, "Optical recognition of handwritten digits", UCI Machine Learning Repository, 1998 (its
test part).
"""

from __future__ import annotations

import functools

from tunectl.workloads.classification import CLASSES, LabelledSplits, classification, labelled
from tunectl.workloads.data.image_splits import split_examples
from tunectl.workloads.data.packaged_images import DIGITS_SIDE, DIGITS_TEST, DIGITS_VALID, read_digits
from tunectl.workloads.networks import convolutional_network, multilayer_perceptron
from tunectl.workloads.workload import Workload


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
        DIGITS_SIDE * DIGITS_SIDE,
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
        DIGITS_SIDE,
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
    make those very large that are almost always 0. The split does not depend on a study's seeds.
    """
    images, labels = read_digits()
    parts = split_examples(len(labels), valid=DIGITS_VALID, test=DIGITS_TEST)
    pixels = images[parts["train"]]
    scaled = ((images - pixels.mean()) / pixels.std()).reshape(-1, 1, DIGITS_SIDE, DIGITS_SIDE)
    splits = {name: labelled(scaled[part], labels[part]) for name, part in parts.items()}
    return LabelledSplits(splits)
