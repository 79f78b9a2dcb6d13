"""Densely connected networks with bottlenecks (Huang et al. 2017, arXiv 1608.06993, DenseNet-BC)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tunectl.space.domains import is_number
from tunectl.workloads.keyword_checks import check_choice, check_count, check_positive, check_share
from tunectl.workloads.models.initial_weights import INITS, initialize
from tunectl.workloads.models.normalizations import image_normalization, norm_layer

_GROUPS = 3
_BOTTLENECK = 4
"""The channels of the 1x1 convolution, in growths (section 3, "Bottleneck layers")."""

_FOUR_GROUPS = {121: (6, 12, 24, 16), 161: (6, 12, 36, 24), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}
"""The layers of each group by the depth of the network: table 1 of the paper."""


class _NormReluConv(nn.Module):
    """A normalization, ReLU, a convolution, and dropout."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        norm: Callable[[int], nn.Module] | None,
        dropout: float,
    ) -> None:
        super().__init__()
        self.norm = norm_layer(norm, inputs)
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=norm is None)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Shape [B, outputs, H, W], of x, shape [B, inputs, H, W]."""
        y: Tensor = self.dropout(self.conv(F.relu(self.norm(x))))
        return y


class DenseLayer(nn.Module):
    """Adds `growth` channels to its input: those of a 1x1 convolution to 4 growth channels, and a 3x3 one to growth."""

    def __init__(self, inputs: int, growth: int, *, norm: Callable[[int], nn.Module] | None, dropout: float) -> None:
        super().__init__()
        width = _BOTTLENECK * growth
        self.narrow = _NormReluConv(inputs, width, 1, norm=norm, dropout=dropout)
        self.grow = _NormReluConv(width, growth, 3, norm=norm, dropout=dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Shape [B, inputs + growth, H, W], of x, shape [B, inputs, H, W]."""
        return torch.cat([x, self.grow(self.narrow(x))], dim=1)


class DenseNet(nn.Module):
    """A densely connected network: images, shape [B, channels, H, W], to scores, shape [B, classes].

    `depth` is 6 n + 4, for three groups of n dense layers, or 121, 161, 169 or 201, for four groups as in the paper's
    table 1. Each layer adds `growth` channels. The first convolution, 3x3, has 2 growth channels; between two groups a
    1x1 convolution leaves `reduction` of the channels, rounded down, and averages pool 2x2 pixels. `dropout` is after
    every convolution but the first. Convolutions have biases where there is no normalization, as in the code of
    GradInit (Zhu et al. 2021), with which table 1 of Gilmer et al. 2021 was made. There is no residual sum, so that
    `init` is one of INITS. Other values are as in `WideResNet`.

    Raises ValueError where a value is outside its range or a name is not known.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        depth: int,
        growth: int,
        reduction: float,
        normalization: str,
        ghost_batch_size: int,
        dropout: float,
        init: str,
        init_scale: float,
    ) -> None:
        super().__init__()
        groups = layers_of_depth(depth)
        check_count("growth", growth, 1)
        _check_reduction(reduction)
        check_share("dropout", dropout)
        check_choice("init", init, INITS)
        check_positive("init_scale", init_scale)
        norm = image_normalization(normalization, ghost_batch_size)
        width = 2 * growth
        self.stem = nn.Conv2d(channels, width, 3, padding=1, bias=norm is None)
        self.layers = nn.ModuleList()
        self.blocks: list[nn.Module] = []
        for group, count in enumerate(groups):
            if group > 0:
                left = max(1, int(width * reduction))
                self.layers.append(_NormReluConv(width, left, 1, norm=norm, dropout=dropout))
                self.layers.append(nn.AvgPool2d(2))
                width = left
            for _ in range(count):
                self.blocks.append(DenseLayer(width, growth, norm=norm, dropout=dropout))
                self.layers.append(self.blocks[-1])
                width += growth
        self.norm = norm_layer(norm, width)
        self.classifier = nn.Linear(width, classes)
        initialize(self, init, init_scale)

    def forward(self, images: Tensor) -> Tensor:
        """The scores of standardised images."""
        x = self.stem(images)
        for layer in self.layers:
            x = layer(x)
        scores: Tensor = self.classifier(F.relu(self.norm(x)).mean(dim=(2, 3)))
        return scores


def layers_of_depth(depth: int) -> tuple[int, ...]:
    """The dense layers of each group; raises ValueError for a depth that no such network has."""
    check_count("depth", depth, 1)
    if depth in _FOUR_GROUPS:
        return _FOUR_GROUPS[depth]
    layers, rest = divmod(depth - 4, 2 * _GROUPS)
    if rest or layers < 1:
        listed = ", ".join(map(str, _FOUR_GROUPS))
        raise ValueError(f"depth: expected 6 n + 4 (10, 16, 22, ..., 100, ...) or one of {listed}, got {depth}")
    return (layers,) * _GROUPS


def _check_reduction(reduction: object) -> None:
    if not is_number(reduction) or not 0 < reduction <= 1:
        raise ValueError(f"reduction: expected a number above 0 and at most 1, got {reduction!r}")
