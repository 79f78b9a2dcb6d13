"""Backward passes that begin with given gradients, without what torch imports to compare their shapes.

`Tensor.backward(gradient=...)` and `torch.autograd.grad(..., grad_outputs=...)` import torch's symbolic shapes when
they are first called, and with them a system for algebra: half a second at the start of each run and of each worker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import has_torch_function

_RUN: Callable[..., Any] | None = getattr(torch.autograd.graph, "_engine_run_backward", None)
"""What both functions call in the end; None in a version of torch that has no such function."""


@cache
def _runs() -> bool:
    """Whether it takes what it is given here: it is no public function, and another version may want something else.

    Found out at the first pass, and not at the import: a process that has run a backward pass cannot be forked where
    there is a GPU.
    """
    if _RUN is None:
        return False
    with torch.enable_grad():
        leaf = torch.full((2,), 3.0, requires_grad=True)
        values = leaf * leaf
    try:
        (found,) = _RUN((values,), (torch.ones(2),), True, False, (leaf,), True, accumulate_grad=False)
        _RUN((values,), (torch.ones(2),), False, False, (), allow_unreachable=True, accumulate_grad=True)
    except Exception:
        return False
    return all(grad is not None and grad.tolist() == [6.0, 6.0] for grad in (found, leaf.grad))


def pass_back(values: Tensor, start: Tensor) -> None:
    """Add the gradient to the leaves, as values.backward(gradient=start) does; both of one shape."""
    if _RUN is not None and _runs() and _fits((values,), (start,)):
        _RUN((values,), (start,), False, False, (), allow_unreachable=True, accumulate_grad=True)
    else:
        values.backward(gradient=start)  # type: ignore[no-untyped-call]


def gradients_of(
    values: Sequence[Tensor],
    inputs: Sequence[Tensor],
    starts: Sequence[Tensor],
    *,
    create_graph: bool = False,
    retain_graph: bool | None = None,
) -> Sequence[Tensor | None]:
    """The gradients with regard to the inputs, as torch.autograd.grad gives them with `grad_outputs` and allow_unused.

    Each start has the shape of its values. None for an input that the values do not use.
    """
    keep = create_graph if retain_graph is None else retain_graph
    if _RUN is not None and _runs() and _fits(values, starts) and not has_torch_function(tuple(inputs)):
        found: Sequence[Tensor | None] = _RUN(
            tuple(values), tuple(starts), keep, create_graph, tuple(inputs), True, accumulate_grad=False
        )
        return found
    return torch.autograd.grad(
        values, inputs, grad_outputs=starts, retain_graph=keep, create_graph=create_graph, allow_unused=True
    )


def _fits(values: Sequence[Tensor], starts: Sequence[Tensor]) -> bool:
    """Whether torch would find nothing to say of them: it is then asked where it would, and raises its own errors."""
    return not has_torch_function((*values, *starts)) and all(
        value.requires_grad
        and value.layout == start.layout == torch.strided
        and not value.is_nested
        and value.shape == start.shape
        and value.is_complex() == start.is_complex()
        for value, start in zip(values, starts, strict=True)
    )
