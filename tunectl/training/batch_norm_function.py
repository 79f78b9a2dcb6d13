"""Batch normalisation of values of which each rank has some examples: the function that torch has for one device.

With the values x of all ranks, n for each channel: y = (x - mean) / sqrt(var + eps) * weight + bias, with the mean and
the biased variance of all n. Its gradient for x is weight / sqrt(var + eps) * (dy - sum(dy) / n - z sum(dy z) / n), z
the normalised values, with sums over all ranks (Ioffe and Szegedy, "Batch normalization", arXiv 1502.03167). The
gradients for weight and bias are sums over the rank's own values: the trial adds those of the ranks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from tunectl.training.backward_passes import gradients_of
from tunectl.training.ranks import Ranks


class Exchange(Protocol):
    """How the ranks exchange the statistics of one layer."""

    @property
    def ranks(self) -> Ranks:
        """The ranks."""

    @property
    def has_examples(self) -> bool:
        """Whether the values of this rank count."""

    def exchanged(self, values: Tensor, *, backward: bool = False) -> Tensor:
        """The values of all ranks, shape [n] gives [ranks, n] in rank order, in double precision."""


@dataclass(frozen=True, slots=True)
class BatchNormCall:
    """The arguments of torch.nn.functional.batch_norm: `values` of shape [B, C, ...], the others [C]."""

    values: Tensor
    running_mean: Tensor | None
    running_var: Tensor | None
    weight: Tensor | None = None
    bias: Tensor | None = None
    training: bool = False
    momentum: float = 0.1
    eps: float = 1e-5


def batch_norm(call: BatchNormCall, exchange: Exchange) -> Tensor:
    """The normalised values of this rank, by the statistics of all ranks, which also go into the running ones.

    To be called by all ranks at once. Its derivatives of every order are right. Raises ValueError as torch does where
    the batch has only one value for a channel.
    """
    with torch.autocast(call.values.device.type, enabled=False):
        found = _applied(_Normalised, call.values, call.weight, call.bias, call.eps, exchange)
        normalised, mean, var, total = found
        _follow(call.running_mean, mean, call.momentum)
        # As torch: the running variance is the unbiased one.
        _follow(call.running_var, var * (total / (total - 1)), call.momentum)
    result: Tensor = normalised
    return result


@torch.no_grad()
def _follow(running: Tensor | None, new: Tensor, momentum: float) -> None:
    if running is not None:
        running.copy_(momentum * new + (1 - momentum) * running)


def _applied(function: type[torch.autograd.Function], *arguments: Any) -> Any:
    return function.apply(*arguments)  # type: ignore[no-untyped-call]


class _Normalised(torch.autograd.Function):
    """The values normalised, with the mean and the biased variance, shape [C], and the number of values, []."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Any, bias: Any, eps: float, exchange: Exchange) -> Any:
        wide = values.to(_wide(values.dtype))
        channels = wide.shape[1]
        count = wide.numel() // channels if channels and exchange.has_examples else 0
        rows = exchange.exchanged(_own_statistics(wide, count))  # [ranks, 2 C + 1]
        counts, (means, variances) = rows[:, -1:], rows[:, :-1].chunk(2, dim=1)
        total = counts.sum()
        # The first test does not wait for the device, and is enough but for the smallest batches.
        if count <= 1 and float(total) <= 1:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {values.size()}")
        # Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979).
        mean = (counts * means).sum(dim=0) / total
        var = (counts * (variances + (means - mean).square())).sum(dim=0) / total
        ctx.save_for_backward(values, weight, bias, mean.to(wide.dtype), torch.rsqrt(var + eps).to(wide.dtype), total)
        ctx.eps, ctx.exchange, ctx.has_examples = eps, exchange, exchange.has_examples
        ctx.mark_non_differentiable(mean, var, total)
        given = [item if item is None else item.to(wide.dtype) for item in (weight, bias)]
        normalised = _scaled(wide, (mean.to(wide.dtype), var.to(wide.dtype)), given, eps)
        return normalised.to(values.dtype), mean, var, total

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> Any:
        values, weight, bias, mean, inverse, total = ctx.saved_tensors
        if torch.is_grad_enabled():
            # A graph of the gradient is asked for: it comes from operations that have one.
            return *_differentiable(ctx, grad), None, None
        # Shapes: values and their gradient [B, C, ...], all else [C].
        wide = grad.to(mean.dtype)
        normalised = (values.to(mean.dtype) - _view(mean, values)) * _view(inverse, values)
        axes = _axes(values)
        own = torch.cat([wide.sum(axes), (wide * normalised).sum(axes)])
        sums = ctx.exchange.exchanged(own if ctx.has_examples else torch.zeros_like(own), backward=True).sum(dim=0)
        of_grad, of_product = (_view((part / total).to(mean.dtype), values) for part in sums.chunk(2))
        factor = inverse if weight is None else inverse * weight.to(mean.dtype)
        given = (wide - of_grad - normalised * of_product) * _view(factor, values)
        if not ctx.has_examples:
            given = torch.zeros_like(given)
        for_bias, for_weight = own.chunk(2)
        return (
            given.to(values.dtype),
            None if weight is None else for_weight.to(weight.dtype),
            None if bias is None else for_bias.to(bias.dtype),
            None,
            None,
        )


def _own_statistics(wide: Tensor, count: int) -> Tensor:
    """The means and the biased variances of this rank's values, and their number; zeros where none counts."""
    if count == 0:
        return wide.new_zeros(2 * wide.shape[1] + 1, dtype=torch.float64)
    variances, means = torch.var_mean(wide, _axes(wide), correction=0)
    number = means.new_full((1,), float(count), dtype=torch.float64)
    return torch.cat([means.to(torch.float64), variances.to(torch.float64), number])


def _differentiable(ctx: Any, grad: Tensor) -> list[Tensor | None]:
    """The gradients for values, weight and bias, with a graph."""
    values, weight, bias, _, _, total = ctx.saved_tensors
    wanted = [item for item in (values, weight, bias) if item is not None]
    number, counts, ranks = total.to(_wide(values.dtype)), float(ctx.has_examples), ctx.exchange.ranks
    with torch.enable_grad(), torch.autocast(values.device.type, enabled=False):
        wide = values.to(number.dtype)
        axes = _axes(values)
        mean = _applied(_Sum, counts * wide.sum(axes), ranks) / number
        centred = wide - _view(mean, values)
        var = _applied(_Sum, counts * centred.square().sum(axes), ranks) / number
        normalised = centred * _view(torch.rsqrt(var + ctx.eps), values)
        normalised = normalised if weight is None else normalised * _view(weight.to(number.dtype), values)
        normalised = normalised if bias is None else normalised + _view(bias.to(number.dtype), values)
        found = gradients_of([normalised.to(values.dtype)], wanted, [grad], create_graph=True)
    of = dict(zip(map(id, wanted), found, strict=True))
    return [of.get(id(item)) for item in (values, weight, bias)]


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all ranks. Its gradient is the sum of theirs, as each rank's loss depends on it."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        total = values.clone()
        ranks.sum_([total])
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _applied(_Sum, grad, ctx.ranks), None


def _scaled(values: Tensor, statistics: tuple[Tensor, Tensor], given: list[Tensor | None], eps: float) -> Tensor:
    """The values normalised by a mean and a variance, then scaled by weight and bias."""
    if values.numel() == 0:
        return values.clone()
    mean, var = statistics
    weight, bias = given
    return functional.batch_norm(values, mean, var, weight, bias, False, 0.0, eps)


def _axes(values: Tensor) -> list[int]:
    return [axis for axis in range(values.ndim) if axis != 1]


def _view(channels: Tensor, values: Tensor) -> Tensor:
    """A tensor of shape [C] that is broadcast over [B, C, ...]."""
    return channels.view(1, -1, *[1] * (values.ndim - 2))


def _wide(dtype: torch.dtype) -> torch.dtype:
    """The type in which values are summed: half-precision ones in single precision, as torch does."""
    return torch.promote_types(dtype, torch.float32)
