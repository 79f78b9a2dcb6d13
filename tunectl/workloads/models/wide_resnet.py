"""Wide residual networks (Zagoruyko and Komodakis 2016, arXiv 1605.07146), as in the code of Gilmer et al. 2021.

That code (google/init2winit, wide_resnet) projects the activated input where a block changes the shape, has no biases
but the last layer's, and puts a learnt scalar at the end of a branch where there is no normalization.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from tunectl.workloads.keyword_checks import check_choice, check_count
from tunectl.workloads.models.initial_weights import initialize
from tunectl.workloads.models.normalizations import image_normalization, norm_layer
from tunectl.workloads.models.residual_branches import NORM_PLACEMENTS, ResidualSum, check_keywords, fixup_bias

_STEM = 16
_GROUPS = 3


@dataclass(frozen=True, slots=True)
class WideStyle:
    """What the blocks of a network have in common: see `WideResNet`; `norm` makes a normalization of some channels."""

    norm: Callable[[int], nn.Module] | None
    norm_placement: str
    dropout: float
    init: str


class WideBlock(nn.Module):
    """A residual block: x + f(x) with f = ReLU, conv, N, ReLU, dropout, conv, and N placed around it too.

    With `norm_placement: pre` this is the usual pre-activation: N, ReLU, conv, N, ReLU, conv. Where the block changes
    the number of channels, or has a stride, a 1x1 convolution of the activated input takes the place of x.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, style: WideStyle) -> None:
        super().__init__()
        self.residual = ResidualSum(style.norm_placement, inputs, outputs, norm=style.norm, init=style.init)
        self.biases = nn.ModuleList([fixup_bias(style.init) for _ in range(4)])
        self.projection = _conv(inputs, outputs, 1, stride) if stride != 1 or inputs != outputs else None
        self.conv1 = _conv(inputs, outputs, 3, stride)
        self.norm = norm_layer(style.norm, outputs)
        self.dropout = nn.Dropout(style.dropout)
        self.conv2 = _conv(outputs, outputs, 3, 1)

    def layers(self) -> list[nn.Module]:
        """The layers with weights of the branch, in their order."""
        return [self.conv1, self.conv2]

    def forward(self, x: Tensor) -> Tensor:
        """The block's sum, shape [B, outputs, H / stride, W / stride], of x, shape [B, inputs, H, W]."""
        before_relu, before_conv1, before_second_relu, before_conv2 = self.biases
        active = before_conv1(F.relu(before_relu(self.residual.enter(x))))
        trunk = x if self.projection is None else self.projection(active)
        middle = F.relu(before_second_relu(self.norm(self.conv1(active))))
        return self.residual.join(trunk, self.conv2(before_conv2(self.dropout(middle))))


class WideResNet(nn.Module):
    """A wide residual network: images, shape [B, channels, H, W], to scores, shape [B, classes].

    `depth` is 6 n + 4, for n blocks in each of three groups, of 16, 32 and 64 times `widen` channels. The last two
    groups halve the image in their first block; `stride_of_first_block`, 1 or 2, is the stride of the first of these
    (the playbook's figure 4 has 1 in place of 2). `normalization` and `ghost_batch_size` are those of
    `image_normalization`. `norm_placement` is that of `ResidualSum`; where it leaves the trunk without a normalization
    there is one after the last block. `dropout` is between the convolutions of a block. `init` and `init_scale` are
    those of `initialize`.

    Raises ValueError where a value is outside its range or a name is not known.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        depth: int,
        widen: int,
        normalization: str,
        norm_placement: str,
        ghost_batch_size: int,
        dropout: float,
        init: str,
        init_scale: float,
        stride_of_first_block: int,
    ) -> None:
        super().__init__()
        blocks = blocks_of_depth(depth)
        check_count("widen", widen, 1)
        check_choice("norm_placement", norm_placement, NORM_PLACEMENTS)
        check_keywords(dropout, init, init_scale, stride_of_first_block)
        style = WideStyle(image_normalization(normalization, ghost_batch_size), norm_placement, dropout, init)
        self.stem = _conv(channels, _STEM, 3, 1)
        self.blocks = nn.ModuleList()
        inputs = _STEM
        for group, first_stride in enumerate((1, stride_of_first_block, 2)):
            outputs = _STEM * 2**group * widen
            for block in range(blocks):
                self.blocks.append(WideBlock(inputs, outputs, first_stride if block == 0 else 1, style))
                inputs = outputs
        open_trunk = norm_placement in ("pre", "branch_end", "sandwich")
        self.norm = norm_layer(style.norm, inputs) if open_trunk else nn.Identity()
        self.bias = fixup_bias(init)
        self.bias_of_pooled = fixup_bias(init)
        self.classifier = nn.Linear(inputs, classes)
        branches = [block.layers() for block in self.blocks if isinstance(block, WideBlock)]
        initialize(self, init, init_scale, branches=branches, classifier=self.classifier)

    def forward(self, images: Tensor) -> Tensor:
        """The scores of standardised images."""
        x = self.stem(images)
        for block in self.blocks:
            x = block(x)
        x = F.relu(self.bias(self.norm(x))).mean(dim=(2, 3))  # [B, C]
        scores: Tensor = self.classifier(self.bias_of_pooled(x))
        return scores


def blocks_of_depth(depth: int) -> int:
    """The blocks n in each group of a network of depth 6 n + 4; raises ValueError for any other depth."""
    check_count("depth", depth, 1)
    blocks, rest = divmod(depth - 4, 2 * _GROUPS)
    if rest or blocks < 1:
        raise ValueError(f"depth: expected 6 n + 4 (10, 16, 22, 28, ...), got {depth}")
    return blocks


def _conv(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
