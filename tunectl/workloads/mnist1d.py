"""MNIST-1D: ten one-dimensional shapes, made hard to distinguish by a published method; 5,000 examples of 40 numbers.

Greydanus and Kobak, "Scaling down deep learning with MNIST-1D" (ICML 2024, arXiv:2011.14439). The constants, the order
of the transformations and that of the random draws are the same, so the examples equal those of the reference
implementation (PyPI: mnist1d) at its seed, 42, up to rounding.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunectl.workloads.classification import CLASSES, LabelledSplits, classification, labelled
from tunectl.workloads.networks import multilayer_perceptron
from tunectl.workloads.workload import Workload

Array = NDArray[np.float64]

SEED = 42
EXAMPLES_PER_CLASS = 500
LENGTH = 40
TRAIN_EXAMPLES = 3_000
VALID_EXAMPLES = 1_000

_PADDING = (36, 60)
_SCALE = 0.4
_SHIFTS = 48
_CORRELATED_NOISE = 0.25
_SMOOTHING = 2.0
_SMOOTHING_RADIUS = 8
_NOISE = 2e-2
_SHEAR = 0.75
# Keeps the samples of a shape apart from the padding, which is exactly 0.
_OFFSET = 1e-8

# The height of each digit's stroke at 12 points, before centring.
_SHAPES = (
    (5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5),
    (5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5),
    (5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5),
    (5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5),
    (5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5),
    (5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5),
    (5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5),
    (5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5),
)
_PADDED_LENGTH = len(_SHAPES[0]) + _PADDING[1]


@dataclass(frozen=True, slots=True)
class _Draws:
    """The random numbers of every example, in the order of the reference implementation; one row an example."""

    padding: NDArray[np.int64]
    scale: Array
    shift: NDArray[np.int64]
    correlated_noise: Array
    noise: Array
    shear: Array
    order: NDArray[np.int64]


def mlp(
    *,
    num_layers: int = 2,
    width: int = 100,
    activation: str = "relu",
    dropout: float = 0.0,
    normalization: str = "none",
    init: str = "he_normal",
    init_scale: float = 1.0,
    init_scale_scope: str = "hidden",
    loss: str = "cross_entropy",
    label_smoothing: float = 0.0,
) -> Workload:
    """A multilayer perceptron on MNIST-1D.

    The keywords are those of `networks.multilayer_perceptron` and of `label_loss.LabelLoss`.
    """
    model = multilayer_perceptron(
        LENGTH,
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
    """Generate the examples once, for all trials of the process and of its forks."""
    load()


@functools.cache
def load() -> LabelledSplits:
    """MNIST-1D (shape [40]) in 3,000 training, 1,000 validation and 1,000 test examples.

    The test examples are those of the reference implementation; its 4,000 training examples, which are shuffled, are
    divided into training and validation.
    """
    inputs, labels = generate()
    cuts = [TRAIN_EXAMPLES, TRAIN_EXAMPLES + VALID_EXAMPLES]
    parts = zip(("train", "valid", "test"), np.split(inputs, cuts), np.split(labels, cuts), strict=True)
    return LabelledSplits({name: labelled(x, y) for name, x, y in parts})


def generate(seed: int = SEED) -> tuple[Array, NDArray[np.int64]]:
    """The examples, shape [5000, 40], and their labels, shape [5000].

    Over all numbers together the mean is 0 and the standard deviation 1.
    """
    draws = _draw(np.random.RandomState(seed))
    labels = np.repeat(np.arange(CLASSES), EXAMPLES_PER_CLASS)
    signals = _stretch(_templates()[labels] + _OFFSET, draws.padding)
    signals *= 1 + _SCALE * (draws.scale[:, None] - 0.5)
    positions = (np.arange(_PADDED_LENGTH) - draws.shift[:, None]) % _PADDED_LENGTH
    signals = np.take_along_axis(signals, positions, axis=1)
    signals = np.where(signals != 0, signals, _smooth(_CORRELATED_NOISE * draws.correlated_noise))
    signals += _NOISE * draws.noise
    signals -= _SHEAR * (draws.shear[:, None] - 0.5) * np.linspace(-0.5, 0.5, _PADDED_LENGTH)
    signals = _resample(signals, np.linspace(0, _PADDED_LENGTH - 1, LENGTH)[None, :])
    # One mean and one standard deviation for the whole data set, with the test examples, as in the reference.
    signals = (signals - signals.mean()) / signals.std()
    return signals[draws.order], labels[draws.order]


def _templates() -> Array:
    """The shapes, shape [10, 12]: standardised, shifted to begin at 0, divided by 6."""
    heights = np.array(_SHAPES, dtype=np.float64)
    heights -= heights.mean(axis=1, keepdims=True)
    heights /= heights.std(axis=1, keepdims=True)
    return (heights - heights[:, :1]) / 6


def _draw(random: np.random.RandomState) -> _Draws:
    low, high = _PADDING
    rows = [
        (
            low + int(random.rand() * (high - low + 1)),
            random.rand(),
            random.randint(_SHIFTS),
            random.randn(_PADDED_LENGTH),
            random.randn(_PADDED_LENGTH),
            random.rand(),
        )
        for _ in range(CLASSES * EXAMPLES_PER_CLASS)
    ]
    padding, scale, shift, correlated_noise, noise, shear = (np.array(column) for column in zip(*rows, strict=True))
    return _Draws(padding, scale, shift, correlated_noise, noise, shear, order=random.permutation(len(rows)))


def _stretch(signals: Array, padding: NDArray[np.int64]) -> Array:
    """Append `padding` zeros to each signal, then stretch all to the same length: the shapes differ in width."""
    padded = np.zeros((len(signals), _PADDED_LENGTH))
    padded[:, : signals.shape[1]] = signals
    last = signals.shape[1] + padding - 1
    return _resample(padded, np.linspace(0, 1, _PADDED_LENGTH)[None, :] * last[:, None])


def _resample(signals: Array, positions: Array) -> Array:
    """Each signal at fractional positions, linearly interpolated.

    Positions count samples from 0; they are one row for all signals, or one row a signal.
    """
    positions = np.broadcast_to(positions, (len(signals), positions.shape[1]))
    left = np.minimum(positions.astype(np.int64), signals.shape[1] - 2)
    share = positions - left
    before = np.take_along_axis(signals, left, axis=1)
    after = np.take_along_axis(signals, left + 1, axis=1)
    interpolated: Array = before + share * (after - before)
    return interpolated


def _smooth(noise: Array) -> Array:
    """Each row smoothed by a Gaussian of standard deviation 2 samples, cut off at 8, the row mirrored at its ends."""
    offsets = np.arange(-_SMOOTHING_RADIUS, _SMOOTHING_RADIUS + 1)
    kernel = np.exp(-0.5 * (offsets / _SMOOTHING) ** 2)
    kernel /= kernel.sum()
    mirrored = np.pad(noise, ((0, 0), (_SMOOTHING_RADIUS, _SMOOTHING_RADIUS)), mode="symmetric")
    smoothed = np.zeros_like(noise)
    # A sum of shifted copies, since a matrix product may start threads, after which forking is unsafe.
    for shift, weight in enumerate(kernel):
        smoothed += weight * mirrored[:, shift : shift + noise.shape[1]]
    return smoothed
