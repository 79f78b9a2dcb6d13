"""Batch normalisation over the whole batch of an update, of which each device has a share.

The layers of a model stay what they are, with their parameters, buffers and names. Within `active()` the batch
normalisation that their forward computes in training mode is exchanged for one whose means and variances, forward and
backward, are those of all ranks' examples: as on one device, up to rounding. Elsewhere they compute by themselves.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.overrides import TorchFunctionMode

from tunectl.core.errors import WorkloadError
from tunectl.core.probe_errors import NO_SYNC_BATCH_NORM
from tunectl.training.batch_norm_function import BatchNormCall, batch_norm
from tunectl.training.buffers import BufferValues
from tunectl.training.ranks import Ranks


def batch_norm_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers that normalise over a batch, by name: torch's batch normalisation, what is derived from it, and
    others with a running mean, which may compute by torch's function for it.
    """
    return {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, _BatchNorm) or ("running_mean" in layer._buffers and not isinstance(layer, _NormBase))
    }


class SynchronisedBatchNorm:
    """Lets the batch normalisation of a model be that of the whole batch of all ranks, within `active`.

    The class of each layer is changed for one derived from it, so that a layer does it wherever its forward runs, also
    where activations are computed again in a backward pass. Copies and pickles of a layer have its own class.
    """

    def __init__(self, model: nn.Module, ranks: Ranks) -> None:
        self.ranks = ranks
        self.is_active, self.has_examples = False, True
        self._mixed_up: Tensor | None = None
        layers = list(batch_norm_layers(model).values())
        self._width = 2 + max((2 * _channels(layer) for layer in layers), default=0)
        exchanging = _left_to_python(_OnAllRanks.exchanging)
        for place, layer in enumerate(layers, start=1):
            own = layer.own if isinstance(layer, _OnAllRanks) else type(layer)
            members = {"synchronised": self, "place": place, "own": own, "exchanging": exchanging}
            layer.__class__ = type(own.__name__, (_OnAllRanks, own), members)

    @contextlib.contextmanager
    def active(self, *, has_examples: bool = True) -> Iterator[None]:
        """Within the block, which has forward and backward of a batch, the layers exchange their statistics with those
        of the other ranks, which must be in such a block, too.

        Without examples, a rank runs the same layers on a batch that does not count, with gradients of 0.
        """
        self.is_active, self.has_examples = True, has_examples
        try:
            yield
        finally:
            self.is_active, self.has_examples = False, True

    def exchanged(self, values: Tensor, place: int) -> Tensor:
        """The values of all ranks, shape [n] gives [ranks, n] in rank order, in double precision.

        `place` is that of the layer from 1, negative in the backward pass. All exchanges have one size, so that ranks
        that are at different layers notice it, at once on the CPU.
        """
        rows = values.new_zeros((self.ranks.count, max(self._width, len(values) + 1)), dtype=torch.float64)
        rows[self.ranks.rank, : len(values)] = values
        rows[self.ranks.rank, -1] = place
        self.ranks.sum_([rows])
        mixed_up = (rows[:, -1] != place).any()
        self._mixed_up = mixed_up if self._mixed_up is None else self._mixed_up | mixed_up
        if values.device.type == "cpu":
            self.check()
        return rows[:, : len(values)]

    def check(self) -> None:
        """Raise WorkloadError where the ranks were at different layers since the last call; it waits for the device."""
        found, self._mixed_up = self._mixed_up, None
        if found is not None and found:
            raise WorkloadError(
                "training.sync_batch_norm: the devices of the trial come to the layers of batch normalisation in"
                " different orders, as where a model leaves out layers by chance; leave sync_batch_norm out"
            )


def _left_to_python(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which torch's compiler leaves alone where the model uses it (the study's `compile` is refused).

    Elsewhere it is unchanged: to mark it imports the compiler, which takes as long as most of torch.
    """
    if "torch._dynamo" not in sys.modules:
        return function
    found: Callable[..., Any] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
    return found


def _channels(layer: nn.Module) -> int:
    mean = layer._buffers.get("running_mean")
    return mean.numel() if mean is not None else int(getattr(layer, "num_features", 0))


@dataclass(frozen=True, slots=True)
class _OfLayer:
    """The exchange of one layer."""

    synchronised: SynchronisedBatchNorm
    place: int

    @property
    def ranks(self) -> Ranks:
        return self.synchronised.ranks

    @property
    def has_examples(self) -> bool:
        return self.synchronised.has_examples

    def exchanged(self, values: Tensor, *, backward: bool = False) -> Tensor:
        return self.synchronised.exchanged(values, -self.place if backward else self.place)


class _OnAllRanks(nn.Module):
    """The first base of a layer's class."""

    synchronised: SynchronisedBatchNorm
    place: int
    own: type[nn.Module]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The forward of the layer; in training mode with the batch normalisation of all ranks."""
        if not (self.training and self.synchronised.is_active):
            return super().forward(*args, **kwargs)
        return self.exchanging(*args, **kwargs)

    def exchanging(self, *args: Any, **kwargs: Any) -> Any:
        """The forward of the layer with the batch normalisation of all ranks."""
        with _Exchanged(_OfLayer(self.synchronised, self.place)):
            return super().forward(*args, **kwargs)

    def __reduce_ex__(self, protocol: Any) -> Any:
        reduced: Any = super().__reduce_ex__(max(2, protocol))
        return _new, (self.own,), *reduced[2:]


def _new(own: type[nn.Module]) -> nn.Module:
    return own.__new__(own)


class _Exchanged(TorchFunctionMode):
    """Within it torch's batch normalisation of a batch in training is that of all ranks."""

    def __init__(self, exchange: _OfLayer) -> None:
        super().__init__()
        self._exchange = exchange

    def __torch_function__(self, called: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        call = given_call(called, args, kwargs or {})
        return called(*args, **(kwargs or {})) if call is None else batch_norm(call, self._exchange)


_OF_TORCH = ("values", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps", "cudnn_enabled")
_INPUT = {"input": "values"}
_OF_FUNCTIONAL = ("values", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")


def given_call(called: Any, args: Any, kwargs: Any) -> BatchNormCall | None:
    """The arguments of a call of torch's batch normalisation by the statistics of its batch; None of any other."""
    names = {functional.batch_norm: _OF_FUNCTIONAL, torch.batch_norm: _OF_TORCH}.get(called)
    if names is None:
        return None
    given = dict(zip(names, args, strict=False)) | {_INPUT.get(name, name): item for name, item in kwargs.items()}
    given.pop("cudnn_enabled", None)
    call = BatchNormCall(**given)
    return call if call.training else None


def refuse_unsynchronised(model: nn.Module, forward: Callable[[], object]) -> None:
    """Raise WorkloadError where batch normalisation cannot be synchronised that `forward`, a pass in training mode,
    uses: where it is not torch's function that normalises, or it is not called by a layer. Without any, the message is
    NO_SYNC_BATCH_NORM. The buffers of the model are as before afterwards.
    """
    layers = batch_norm_layers(model)
    before, kept = {name: _mean_of(layer) for name, layer in layers.items()}, BufferValues(model)
    calls = _Calls()
    try:
        with calls.of(layers):
            forward()
        changed = {name for name, layer in layers.items() if not _is_equal(before[name], _mean_of(layer))}
    finally:
        kept.put_back()
    for name in changed - calls.layers:
        place = f"{name or 'of the model'} ({type(layers[name]).__name__})"
        raise WorkloadError(
            f"training.sync_batch_norm: the layer {place} does not normalise by torch's batch_norm, so that it cannot"
            " be synchronised; derive it from torch's batch normalisation, or leave the key out"
        )
    for name in calls.apart:
        place = f"{name or 'of the model'} ({type(layers[name]).__name__})"
        raise WorkloadError(
            f"training.sync_batch_norm: the layer {place} normalises parts of a batch apart, as ghost batch"
            " normalisation does, so that there is nothing to synchronise; leave the key out"
        )
    if calls.outside:
        raise WorkloadError(
            "training.sync_batch_norm: the model calls torch's batch_norm outside of a layer of batch normalisation,"
            " where it cannot be synchronised; use a layer, or leave the key out"
        )
    if not calls.layers:
        raise WorkloadError(NO_SYNC_BATCH_NORM)


@dataclass(slots=True)
class _LayerAtWork:
    """A layer whose forward runs, and how often it has called torch's batch normalisation."""

    name: str
    channels: int
    calls: int = 0


class _Calls(TorchFunctionMode):
    """Notes which layers call torch's batch normalisation of a batch in training."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.outside, self.apart = set[str](), False, set[str]()
        self._inside: list[_LayerAtWork] = []

    @contextlib.contextmanager
    def of(self, layers: Mapping[str, nn.Module]) -> Iterator[None]:
        """Within the block the calls of these layers, and others, are noted."""
        handles = []
        try:
            for name, layer in layers.items():
                enter = partial(self._enter, name, _channels(layer))
                handles.append(layer.register_forward_pre_hook(lambda *_, enter=enter: enter()))
                handles.append(layer.register_forward_hook(lambda *_: self._leave(), always_call=True))
            with self:
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, name: str, channels: int) -> None:
        self._inside.append(_LayerAtWork(name, channels))

    def _leave(self) -> None:
        self._inside.pop()

    def __torch_function__(self, called: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        call = given_call(called, args, kwargs or {})
        if call is not None:
            self.outside = self.outside or not self._inside
            for layer in self._inside[-1:]:
                self.layers.add(layer.name)
                layer.calls += 1
                if layer.calls > 1 or call.values.shape[1] != layer.channels:
                    self.apart.add(layer.name)
        return called(*args, **(kwargs or {}))


def _mean_of(layer: nn.Module) -> Tensor | None:
    mean = layer._buffers.get("running_mean")
    return None if mean is None else mean.detach().clone()


def _is_equal(one: Tensor | None, other: Tensor | None) -> bool:
    return one is other or (one is not None and other is not None and torch.equal(one, other))
