"""Activation checkpointing: blocks of a model drop their activations and compute them again for the gradient."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tunectl.training.buffers import BufferValues


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
    """The buffers of a block at its first forward, for each later one: a graph that is kept runs it at every pass.

    It is the context of the later ones; torch enters the same context every time.
    """

    def __init__(self, block: nn.Module) -> None:
        self._block = block
        self._at_first = BufferValues(block)
        self._outside: list[BufferValues] = []

    def contexts(self) -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
        """The contexts of the first forward and of the later ones."""
        return contextlib.nullcontext(), self

    def __enter__(self) -> None:
        self._outside.append(BufferValues(self._block))
        self._at_first.put_back()

    def __exit__(self, *_: object) -> None:
        self._outside.pop().put_back()
