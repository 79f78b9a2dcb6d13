"""What differs between the ranks of a trial: random generators, and buffers of the model, such as the running
statistics of batch normalisation. `resume.pt` has it for each rank.

A trial that goes on on as many devices has in each rank what it had. On another number, a rank that has no saved state
of its generators begins with new ones, and the buffers are the means over the ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tunectl.training.ranks import Ranks

PART = "ranks"
"""The part of `resume.pt` with the states of all ranks but the first, whose state is in the other parts."""

_GOOD = "good"


def parts_of_other_ranks(ranks: Ranks, model: nn.Module, parts: Mapping[str, Any]) -> dict[str, Any]:
    """The part for `resume.pt` with what other ranks have in their own `parts`; none where there is one device.

    To be called by all ranks.
    """
    if ranks.count == 1:
        return {}
    good = parts.get(_GOOD)
    own = _own_state(model, parts) | {_GOOD: None if good is None else _own_state(model, good)}
    return {PART: ranks.gathered(own)[1:]}


def _own_state(model: nn.Module, parts: Mapping[str, Any]) -> dict[str, Any]:
    names = {name for name, _ in model.named_buffers()} & set(parts["model"])
    return {"random": parts["random"], "buffers": {name: parts["model"][name].cpu() for name in sorted(names)}}


def parts_of_rank(ranks: Ranks, parts: dict[str, Any]) -> dict[str, Any]:
    """The parts of `resume.pt` for a rank, wherever they were saved; `random` is None where it has no state of them."""
    others: Sequence[Mapping[str, Any]] = parts.get(PART, ())
    if not others and ranks.count == 1:
        return parts
    found = _with_own(ranks, parts, others)
    good = parts.get(_GOOD)
    if good is not None:
        found[_GOOD] = _with_own(ranks, good, [item[_GOOD] for item in others if item[_GOOD] is not None])
    return found


def _with_own(ranks: Ranks, parts: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    rank = ranks.rank
    random = parts["random"] if rank == 0 else others[rank - 1]["random"] if rank <= len(others) else None
    if len(others) + 1 != ranks.count:
        buffers = _means(parts["model"], [item["buffers"] for item in others])
    else:
        buffers = others[rank - 1]["buffers"] if rank else {}
    return {**parts, "random": random, "model": {**parts["model"], **buffers}}


def _means(model: Mapping[str, Tensor], of_others: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The means of the buffers over the ranks; of other numbers than floating-point ones those of rank 0."""
    found = {}
    for name in of_others[0] if of_others else ():
        if model[name].is_floating_point():
            values = torch.stack([model[name], *(buffers[name] for buffers in of_others)])
            found[name] = values.to(torch.promote_types(values.dtype, torch.float32)).mean(dim=0).to(values.dtype)
    return found
