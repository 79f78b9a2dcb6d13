"""Residual networks (He et al. 2016, arXiv 1512.03385 and 1603.05027), as in the code of Gilmer et al. 2021.

That code (google/init2winit, resnet) has no ReLU after the stem, normalises what the projections give, and ends without
a normalization. Its last scale of a post-activation branch is 0 at the start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from tunectl.workloads.keyword_checks import check_choice, check_count
from tunectl.workloads.models.initial_weights import initialize
from tunectl.workloads.models.normalizations import image_normalization, norm_layer
from tunectl.workloads.models.residual_branches import branch_scalar, check_keywords, fixup_bias

BLOCKS = ("post", "pre", "pre_relu_bn")
"""The orders of the layers of a block by their names in a study: see `ResidualBlock`."""

STEMS = ("imagenet", "cifar")
"""The first layers by their names in a study: see `ResNet`."""

_WIDENING = 4
"""The channels that a bottleneck gives, in channels of its 3x3 convolution."""

_BASIC = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
_BOTTLENECK = {
    14: (1, 1, 1, 1),
    26: (2, 2, 2, 2),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
"""The blocks of each group by the depth of the network: table 1 of the first paper, 200 from the second one; 10, 14 and
26 are the smallest such networks. A depth counts the stem, the classifier and the two or three layers of a block.
"""


@dataclass(frozen=True, slots=True)
class ResidualStyle:
    """What the blocks of a network have in common: see `ResNet`; `norm` makes a normalization of some channels."""

    block: str
    norm: Callable[[int], nn.Module] | None
    init: str


class ResidualBlock(nn.Module):
    """A residual block of two 3x3 convolutions, or (`bottleneck`) of a 1x1, a 3x3 and a 1x1 one.

    `post` is ReLU(x + f(x)) with f = conv, N, ReLU, ..., conv, N; the scale of the last N is 0 at the start, so that
    the block begins as ReLU(x). `pre` is x + f(x) with f = N, ReLU, conv, N, ReLU, ..., conv; `pre_relu_bn` has each
    ReLU before its N. Where the block changes the number of channels, or has a stride, a 1x1 convolution of x and an N
    take the place of x. The stride is that of the (first) 3x3 convolution. `width` is the number of channels of the
    3x3 convolutions. Where there is no normalization, the branch ends in the scalar of `branch_scalar`.
    """

    def __init__(self, inputs: int, width: int, stride: int, style: ResidualStyle, *, bottleneck: bool) -> None:
        super().__init__()
        self.outputs = width * _WIDENING if bottleneck else width
        first = (width, 1, 1) if bottleneck else (width, 3, stride)
        middle = [(width, 3, stride)] if bottleneck else []
        last = (self.outputs, 1, 1) if bottleneck else (width, 3, 1)
        self.is_post = style.block == "post"
        self.convolutions: list[nn.Conv2d] = []
        layers: list[nn.Module] = []
        channels = inputs
        for outputs, kernel, step in (first, *middle, last):
            if not self.is_post:
                layers += _activation(channels, style)
            elif self.convolutions:
                layers += [fixup_bias(style.init), nn.ReLU()]
            conv = _conv(channels, outputs, kernel, step)
            self.convolutions.append(conv)
            layers += [fixup_bias(style.init), conv]
            if self.is_post:
                layers.append(norm_layer(style.norm, outputs))
            channels = outputs
        self.branch = nn.Sequential(*layers)
        self.scalar = branch_scalar(style.init, normalized=style.norm is not None)
        self.bias = fixup_bias(style.init) if self.is_post else nn.Identity()
        self.projection: nn.Module = nn.Identity()
        if stride != 1 or inputs != self.outputs:
            projection = _conv(inputs, self.outputs, 1, stride)
            self.projection = nn.Sequential(fixup_bias(style.init), projection, norm_layer(style.norm, self.outputs))

    def last_scale(self) -> nn.Parameter | None:
        """The scale of the last normalization of a post-activation branch; None where there is none."""
        scale = getattr(self.branch[-1], "weight", None) if self.is_post else None
        return scale if isinstance(scale, nn.Parameter) and scale.ndim == 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """The block's sum, shape [B, outputs, H / stride, W / stride], of x, shape [B, inputs, H, W]."""
        y: Tensor = self.projection(x) + self.bias(self.scalar(self.branch(x)))
        return F.relu(y) if self.is_post else y


class ResNet(nn.Module):
    """A residual network: images, shape [B, channels, H, W], to scores, shape [B, classes].

    `depth` is 10, 18 or 34 (blocks of two convolutions), or 14, 26, 50, 101, 152 or 200 (bottlenecks); `width` is the
    number of channels of the stem, 64 in the papers. `block` is the order of the layers in a block, see
    `ResidualBlock`. The `stem` for `imagenet` is a 7x7 convolution with stride 2 and a max pooling with stride 2, that
    for `cifar` a 3x3 convolution, which leaves small images their size. `stride_of_first_block`, 1 or 2, is the stride
    of the first block of the second of four groups, the first one that halves the image. `dropout` is before the
    classifier. Other values are as in `WideResNet`.

    Raises ValueError where a value is outside its range or a name is not known.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        depth: int,
        width: int,
        block: str,
        stem: str,
        normalization: str,
        ghost_batch_size: int,
        dropout: float,
        init: str,
        init_scale: float,
        stride_of_first_block: int,
    ) -> None:
        super().__init__()
        groups = blocks_of_depth(depth)
        check_count("width", width, 1)
        check_choice("block", block, BLOCKS)
        check_choice("stem", stem, STEMS)
        check_keywords(dropout, init, init_scale, stride_of_first_block)
        style = ResidualStyle(block, image_normalization(normalization, ghost_batch_size), init)
        self.stem = _stem(channels, width, style, for_imagenet=stem == "imagenet")
        self.blocks = nn.ModuleList()
        inputs = width
        for group, count in enumerate(groups):
            first_stride = (1, stride_of_first_block, 2, 2)[group]
            for index in range(count):
                stride = first_stride if index == 0 else 1
                made = ResidualBlock(inputs, width * 2**group, stride, style, bottleneck=depth in _BOTTLENECK)
                self.blocks.append(made)
                inputs = made.outputs
        self.dropout = nn.Dropout(dropout)
        self.bias = fixup_bias(init)
        self.classifier = nn.Linear(inputs, classes)
        self._initialize(init, init_scale)

    def _initialize(self, init: str, init_scale: float) -> None:
        blocks = [block for block in self.blocks if isinstance(block, ResidualBlock)]
        # A scale of 0 beside a branch that is 0 already would leave both without a gradient.
        if init not in ("fixup", "rezero"):
            for scale in [block.last_scale() for block in blocks]:
                if scale is not None:
                    nn.init.zeros_(scale)
        branches = [block.convolutions for block in blocks]
        initialize(self, init, init_scale, branches=branches, classifier=self.classifier)

    def forward(self, images: Tensor) -> Tensor:
        """The scores of standardised images."""
        x = self.stem(images)
        for block in self.blocks:
            x = block(x)
        scores: Tensor = self.classifier(self.bias(self.dropout(x.mean(dim=(2, 3)))))
        return scores


def blocks_of_depth(depth: int) -> tuple[int, ...]:
    """The blocks of each of the four groups; raises ValueError for a depth that no such network has."""
    check_count("depth", depth, 1)
    known = _BASIC | _BOTTLENECK
    if depth not in known:
        raise ValueError(f"depth: expected one of {', '.join(map(str, sorted(known)))}, got {depth}")
    return known[depth]


def _stem(channels: int, width: int, style: ResidualStyle, *, for_imagenet: bool) -> nn.Sequential:
    if for_imagenet:
        return nn.Sequential(
            _conv(channels, width, 7, 2), norm_layer(style.norm, width), nn.MaxPool2d(3, stride=2, padding=1)
        )
    return nn.Sequential(_conv(channels, width, 3, 1), norm_layer(style.norm, width))


def _activation(channels: int, style: ResidualStyle) -> list[nn.Module]:
    if style.block == "pre_relu_bn":
        return [fixup_bias(style.init), nn.ReLU(), norm_layer(style.norm, channels)]
    return [norm_layer(style.norm, channels), fixup_bias(style.init), nn.ReLU()]


def _conv(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
