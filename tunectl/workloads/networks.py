"""The networks of the built-in workloads: a multilayer perceptron and a small convolutional network."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn

from tunectl.workloads.keyword_checks import check_choice, check_count, check_positive, check_share
from tunectl.workloads.models.initial_weights import INITS, draw_weight

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}
"""The activations by their names in a study."""

NORMALIZATIONS = ("none", "batch", "layer")
"""The normalizations by their names in a study; they come between a hidden layer and its activation."""

INIT_SCALE_SCOPES = ("hidden", "all")
"""The names in a study for what `init_scale` scales: see `initialize`."""


def multilayer_perceptron(
    inputs: int,
    outputs: int,
    *,
    num_layers: int,
    width: int,
    activation: str,
    dropout: float,
    normalization: str,
    init: str,
    init_scale: float,
    init_scale_scope: str,
) -> nn.Sequential:
    """A perceptron with `num_layers` hidden layers of `width` units; 0 hidden layers make it linear.

    It flattens its input, shape [B, ...] with `inputs` numbers an example, and gives scores, shape [B, outputs]. A
    hidden layer with its normalization, activation and dropout is a sequence in the sequence. Weights are drawn from
    torch's global generator, see `initialize`. Raises ValueError where a value is outside its range or a name is not
    known.
    """
    _check_sizes(num_layers, 0, width)
    _check_choices(activation=activation, normalization=normalization, init=init, init_scale_scope=init_scale_scope)
    _check_numbers(dropout, init_scale)
    layers: list[nn.Module] = [nn.Flatten()]
    features = inputs
    for _ in range(num_layers):
        hidden: list[nn.Module] = [nn.Linear(features, width)]
        if normalization == "batch":
            hidden.append(nn.BatchNorm1d(width))
        elif normalization == "layer":
            hidden.append(nn.LayerNorm(width))
        hidden.append(ACTIVATIONS[activation]())
        if dropout > 0:
            hidden.append(nn.Dropout(dropout))
        layers.append(nn.Sequential(*hidden))
        features = width
    layers.append(nn.Linear(features, outputs))
    return initialize(nn.Sequential(*layers), init, init_scale, init_scale_scope)


def convolutional_network(
    side: int,
    outputs: int,
    *,
    num_layers: int,
    width: int,
    activation: str,
    dropout: float,
    normalization: str,
    init: str,
    init_scale: float,
    init_scale_scope: str,
) -> nn.Sequential:
    """A network of `num_layers` 3x3 convolutions with `width` channels and a linear layer on top.

    Images are square with one channel, shape [B, 1, side, side]; scores have shape [B, outputs]. Max pooling halves
    the side after convolution ceil(num_layers / 2) and after the last one; a single convolution is pooled once. Layer
    normalization is over channels and pixels. Weights and errors are as in `multilayer_perceptron`, but `num_layers` is
    at least 1. A convolution with its normalization, activation, pooling and dropout is a sequence in the sequence.
    """
    _check_sizes(num_layers, 1, width)
    _check_choices(activation=activation, normalization=normalization, init=init, init_scale_scope=init_scale_scope)
    _check_numbers(dropout, init_scale)
    pooled_after = {math.ceil(num_layers / 2), num_layers}
    layers: list[nn.Module] = []
    channels = 1
    for layer in range(1, num_layers + 1):
        hidden: list[nn.Module] = [nn.Conv2d(channels, width, kernel_size=3, padding=1)]
        if normalization == "batch":
            hidden.append(nn.BatchNorm2d(width))
        elif normalization == "layer":
            hidden.append(nn.GroupNorm(1, width))
        hidden.append(ACTIVATIONS[activation]())
        if layer in pooled_after:
            hidden.append(nn.MaxPool2d(2))
            side //= 2
        if dropout > 0:
            hidden.append(nn.Dropout(dropout))
        layers.append(nn.Sequential(*hidden))
        channels = width
    layers += [nn.Flatten(), nn.Linear(channels * side * side, outputs)]
    return initialize(nn.Sequential(*layers), init, init_scale, init_scale_scope)


def initialize(network: nn.Sequential, init: str, init_scale: float, init_scale_scope: str) -> nn.Sequential:
    """Draw every weight by `init`, see `draw_weight`; biases are 0.

    `init_scale` multiplies the weights of the hidden layers where `init_scale_scope` is hidden. Where it is all, it
    multiplies every parameter, with the output layer's weights and the factors of normalizations.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    for layer in layers:
        scale = init_scale if init_scale_scope == "all" or layer is not layers[-1] else 1.0
        draw_weight(layer.weight, init, scale)
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
    if init_scale_scope == "all":
        for module in network.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)):
                nn.init.constant_(module.weight, init_scale)
    return network


def _check_sizes(num_layers: int, fewest_layers: int, width: int) -> None:
    check_count("num_layers", num_layers, fewest_layers)
    check_count("width", width, 1)


def _check_choices(**chosen: object) -> None:
    for name, choices in (
        ("activation", tuple(ACTIVATIONS)),
        ("normalization", NORMALIZATIONS),
        ("init", INITS),
        ("init_scale_scope", INIT_SCALE_SCOPES),
    ):
        check_choice(name, chosen[name], choices)


def _check_numbers(dropout: float, init_scale: float) -> None:
    check_share("dropout", dropout)
    check_positive("init_scale", init_scale)
