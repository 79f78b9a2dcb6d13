"""Activation checkpointing: blocks of a model drop their activations and compute them again for the gradient."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recompute(blocks: Sequence[nn.Module]) -> None:
    """Let each of these modules keep only its inputs until the backward pass, which runs its forward again.

    All results are the same bit for bit: the second forward draws the same random numbers and starts with the same
    buffers as the first; afterwards the buffers are as before it (batch normalisation would count its batch twice).
    Forward runs once where no gradient is taken. Chen et al., "Training deep nets with sublinear memory cost" (2016).
    """
    for block in dict.fromkeys(blocks):
        block.forward = _recomputing(block, block.forward)


def _recomputing(block: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        again = partial(forward, **kwargs)  # whose names may be checkpoint's own
        return checkpoint(again, *args, use_reentrant=False, context_fn=_BufferKeeper(block).contexts)

    return run


class _BufferKeeper:
    """The buffers of a block at its first forward, for the second."""

    def __init__(self, block: nn.Module) -> None:
        self._block = block
        self._at_first = self._taken()

    def contexts(self) -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
        """The contexts of the first forward and of the second."""
        return contextlib.nullcontext(), self._as_at_first()

    @contextlib.contextmanager
    def _as_at_first(self) -> Iterator[None]:
        now = self._taken()
        _put(self._at_first)
        try:
            yield
        finally:
            _put(now)

    def _taken(self) -> list[tuple[nn.Module, str, Tensor, Tensor]]:
        """Each buffer: its module, its name, itself and a copy."""
        return [
            (module, name, buffer, buffer.detach().clone())
            for module in self._block.modules()
            for name, buffer in module._buffers.items()
            if buffer is not None
        ]


def _put(taken: list[tuple[nn.Module, str, Tensor, Tensor]]) -> None:
    for module, name, buffer, content in taken:
        module._buffers[name] = buffer
        # By .data, so that autograd does not take restoring the values for a change.
        buffer.data.copy_(content)
