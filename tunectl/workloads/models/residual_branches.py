"""Residual branches: where they are normalised, and the scalars that take the place of a normalization."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from tunectl.workloads.keyword_checks import check_choice, check_count, check_positive, check_share
from tunectl.workloads.models.initial_weights import RESIDUAL_INITS

NORM_PLACEMENTS = ("pre", "branch_end", "post", "sandwich", "none")
"""The placements of normalizations by their names in a study: see `ResidualSum`."""

FIXUP_RATE = 0.1
"""The learning rate of Fixup's scalars, as a part of the others' (Zhang et al. 2019, arXiv 1901.09321, section 5)."""


STRIDES = (1, 2)
"""What `stride_of_first_block` may be."""


def check_keywords(dropout: float, init: str, init_scale: float, stride_of_first_block: int) -> None:
    """Raise ValueError where a value that residual networks share is outside its range or not known."""
    check_share("dropout", dropout)
    check_choice("init", init, RESIDUAL_INITS)
    check_positive("init_scale", init_scale)
    check_count("stride_of_first_block", stride_of_first_block, 1)
    if stride_of_first_block not in STRIDES:
        raise ValueError(f"stride_of_first_block: expected 1 or 2, got {stride_of_first_block}")


class ResidualSum(nn.Module):
    """The sum of a trunk x and its branch f, with the normalizations N and the scalar of one residual block.

    `placement` is where N is: `pre` x + f(N(x)), `branch_end` x + N(f(x)), `post` N(x + f(x)), `sandwich`
    x + N(f(N(x))), `none` x + f(x). A block calls `y = enter(x)`, its own layers on y, and `join(x, y)`.

    Where there is no N, the branch ends in a learnt scalar, which is 1 at the start, as in the code of Gilmer et al.
    2021 (google/init2winit, wide_resnet). Under `init: rezero` every branch ends in one that is 0 at the start
    (Bachlechner et al. 2020, arXiv 2003.04887), under `fixup` in Fixup's multiplier, which is 1. `plain`: there is no
    scalar but those two, as in that code's Transformers.

    `norm(channels)` makes a normalization; None: there is none. `inputs` and `outputs` are the channels of x and f(x).
    """

    def __init__(
        self,
        placement: str,
        inputs: int,
        outputs: int,
        *,
        norm: Callable[[int], nn.Module] | None,
        init: str,
        plain: bool = False,
    ) -> None:
        super().__init__()
        used = placement if norm is not None else "none"
        make = norm or (lambda _: nn.Identity())
        self.enter = make(inputs) if used in ("pre", "sandwich") else nn.Identity()
        self.leave = make(outputs) if used in ("branch_end", "sandwich") else nn.Identity()
        self.scalar = branch_scalar(init, normalized=plain or used != "none")
        self.after = make(outputs) if used == "post" else nn.Identity()

    def join(self, trunk: Tensor, branch: Tensor) -> Tensor:
        """The sum, of the shape of both."""
        joined: Tensor = self.after(trunk + self.scalar(self.leave(branch)))
        return joined


def branch_scalar(init: str, *, normalized: bool) -> nn.Module:
    """The scalar at the end of a branch: see `ResidualSum`; the identity where there is none."""
    if init == "fixup":
        return LearntScalar(1.0, rate=FIXUP_RATE)
    if init == "rezero":
        return LearntScalar(0.0)
    return nn.Identity() if normalized else LearntScalar(1.0)


def fixup_bias(init: str) -> nn.Module:
    """Fixup's bias, one number that is 0 at the start; the identity under any other `init`.

    It comes before every convolution, linear layer and activation of the branches.
    """
    return LearntBias(rate=FIXUP_RATE) if init == "fixup" else nn.Identity()


class LearntScalar(nn.Module):
    """Multiplies by one learnt number, which is `start` at the start.

    `rate` is its learning rate as a part of the others'. The parameter is the number divided by the root of the rate:
    an update of SGD, with or without momentum, then changes the number at this part of the learning rate, and the
    curvature along the parameter is the one that bounds the learning rate. (Under Adam, whose updates do not depend on
    the size of a gradient, the part is the root of the rate.)
    """

    def __init__(self, start: float, *, rate: float = 1.0) -> None:
        super().__init__()
        self._factor = math.sqrt(rate)
        self.scalar = nn.Parameter(torch.tensor(start / self._factor))

    def forward(self, x: Tensor) -> Tensor:
        """The product, of the shape of x."""
        return x * (self.scalar * self._factor)


class LearntBias(nn.Module):
    """Adds one learnt number, which is 0 at the start; `rate` is as in `LearntScalar`."""

    def __init__(self, *, rate: float = 1.0) -> None:
        super().__init__()
        self._factor = math.sqrt(rate)
        self.bias = nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor) -> Tensor:
        """The sum, of the shape of x."""
        return x + self.bias * self._factor
