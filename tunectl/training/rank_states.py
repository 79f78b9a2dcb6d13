"""What differs between the ranks of a trial: random generators, and buffers of the model, such as the running
statistics of batch normalisation. `resume.pt` has it for each rank.

Of the buffers, only those are saved that are not the same as on rank 0, since mostly all are. A trial that goes on on
as many devices has in each rank what it had. On another number, a rank that has no saved state of its generators begins
with new ones, and the buffers that differ are the means over the ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tunectl.training.buffer_digests import digest
from tunectl.training.ranks import Ranks, summed_type

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
    states = [parts] if good is None else [parts, good]
    buffers = [_buffers(model, each) for each in states]
    digests = [{name: digest(buffer) for name, buffer in each.items()} for each in buffers]
    first = ranks.gathered(digests)[0]
    own = [
        {
            "random": each["random"],
            "buffers": {name: item.cpu() for name, item in of_state.items() if known.get(name) != found[name]},
        }
        for each, of_state, found, known in zip(states, buffers, digests, first, strict=True)
    ]
    return {PART: ranks.gathered(own[0] | {_GOOD: None if good is None else own[1]})[1:]}


def _buffers(model: nn.Module, parts: Mapping[str, Any]) -> dict[str, Tensor]:
    names = {name for name, _ in model.named_buffers()} & set(parts["model"])
    return {name: parts["model"][name] for name in sorted(names)}


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
    """The means of the buffers over the ranks, where they differ; but those of rank 0 of whole numbers."""
    found = {}
    for name in sorted({name for buffers in of_others for name in buffers}):
        if model[name].is_floating_point():
            own = model[name]
            wide = summed_type(own.dtype)
            values = [own, *(buffers.get(name, own) for buffers in of_others)]
            found[name] = torch.stack([value.to(wide) for value in values]).mean(dim=0).to(own.dtype)
    return found
