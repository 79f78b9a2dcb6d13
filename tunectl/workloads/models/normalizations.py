"""The normalizations of the image models by their names, among them ghost batch normalization."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from tunectl.workloads.keyword_checks import check_choice, check_count

NORMALIZATIONS = ("none", "batch", "ghost", "layer", "group")
"""The normalizations by their names in a study: see `image_normalization`."""

_GROUPS = 32
"""The groups of group normalization: Wu and He 2018, "Group normalization", arXiv 1803.08494, section 3.1."""


def image_normalization(name: str, ghost_batch_size: int) -> Callable[[int], nn.Module] | None:
    """What makes the normalization of this name for a number of channels, of inputs of shape [B, C, H, W].

    `batch` is torch's BatchNorm2d, `ghost` a `GhostBatchNorm`, `layer` normalises over all channels and pixels of an
    example. `group` does so over the channels of a group; there are 32 groups, or else the largest number of groups of
    the same size that have at least two channels each. None for `none`. Raises ValueError where the name is not known
    or `ghost_batch_size` is less than 2.
    """
    check_choice("normalization", name, NORMALIZATIONS)
    check_count("ghost_batch_size", ghost_batch_size, 2)
    makers: dict[str, Callable[[int], nn.Module]] = {
        "batch": nn.BatchNorm2d,
        "ghost": partial(GhostBatchNorm, ghost_batch_size=ghost_batch_size),
        "layer": partial(nn.GroupNorm, 1),
        "group": lambda channels: nn.GroupNorm(_groups(channels), channels),
    }
    return makers.get(name)


def norm_layer(norm: Callable[[int], nn.Module] | None, channels: int) -> nn.Module:
    """The normalization that `norm` makes for these channels; the identity where it is None."""
    return nn.Identity() if norm is None else norm(channels)


def _groups(channels: int) -> int:
    most = max(1, min(_GROUPS, channels // 2))
    return next(groups for groups in range(most, 0, -1) if channels % groups == 0)


class GhostBatchNorm(_BatchNorm):
    """Batch normalization with the statistics of virtual batches (Hoffer et al. 2017, arXiv 1705.08741, algorithm 1).

    In training a batch of B examples, shape [B, C, ...], is divided into about B / `ghost_batch_size` virtual batches
    of consecutive examples, whose sizes differ by at most one; each is normalised by its own mean and variance. So
    where B is a multiple of `ghost_batch_size`, each virtual batch has that size, and where it is not, none is so small
    that its statistics would be useless: of 3 and more examples, none has fewer than two. A batch of less than one and
    a half times the size is one virtual batch, as in plain batch normalization. With gradient accumulation, B is the
    size of a micro-batch.

    The running statistics, which are used in evaluation mode, take one step an update, as torch's do: towards the
    averages of the virtual batches' means and unbiased variances, weighted by their sizes. This is the same as
    averaging one pair of running statistics for each virtual batch when they are needed, as google/init2winit does.
    """

    def __init__(self, num_features: int, *, ghost_batch_size: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(num_features, eps=eps, momentum=momentum)
        self.ghost_batch_size = ghost_batch_size

    def extra_repr(self) -> str:
        """What `print` shows of the layer."""
        shown: str = super().extra_repr()  # type: ignore[no-untyped-call]
        return f"{shown}, ghost_batch_size={self.ghost_batch_size}"

    def forward(self, x: Tensor) -> Tensor:
        """The normalised examples, of the shape of x."""
        self._check_input_dim(x)
        batches = virtual_batches(len(x), self.ghost_batch_size) if self.training else 1
        if batches == 1:
            return super().forward(x)
        size, larger = divmod(len(x), batches)
        # The first `larger` virtual batches have an example more than the others: two groups, each of one size.
        cut = larger * (size + 1)
        groups = [(x[:cut], larger), (x[cut:], batches - larger)]
        parts = [self._normalised(part, count) for part, count in groups if count]
        self._move_running_statistics([(len(part), means, variances) for part, means, variances in parts], len(x))
        return torch.cat([part for part, _, _ in parts]) if len(parts) > 1 else parts[0][0]

    def _check_input_dim(self, x: Tensor) -> None:
        if x.dim() < 2:
            raise ValueError(f"expected inputs of shape [B, C, ...], got {x.dim()} dimensions")

    def _normalised(self, x: Tensor, batches: int) -> tuple[Tensor, Tensor, Tensor]:
        """These examples [B, C, ...] in virtual batches of one size; the averages of the means and variances [C]."""
        channels, rest = x.shape[1], x.shape[2:]
        # [k, n, C, ...] -> [n, k C, ...]: a virtual batch's channel is a channel of its own for batch normalization.
        apart = x.reshape(batches, -1, channels, *rest).transpose(0, 1).reshape(-1, batches * channels, *rest)
        # With a momentum of 1 torch writes the batch's own statistics.
        means, variances = x.new_zeros(2, batches * channels, dtype=self.weight.dtype)
        normal = F.batch_norm(
            apart, means, variances, self.weight.repeat(batches), self.bias.repeat(batches), True, 1.0, self.eps
        )
        together = normal.reshape(-1, batches, channels, *rest).transpose(0, 1).reshape(x.shape)
        return together, means.view(batches, channels).mean(0), variances.view(batches, channels).mean(0)

    @torch.no_grad()
    def _move_running_statistics(self, parts: list[tuple[int, Tensor, Tensor]], examples: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1 / self.num_batches_tracked.to(self.running_mean.dtype)
        for running, index in ((self.running_mean, 1), (self.running_var, 2)):
            mean = sum(part[index] * (part[0] / examples) for part in parts)  # [C]
            running.add_((mean - running) * share)


def virtual_batches(examples: int, size: int) -> int:
    """The number of virtual batches of about `size` (2 or more) examples: the nearest one, with two examples or more in
    each.
    """
    return max(1, min((2 * examples + size) // (2 * size), examples // 2))
