"""Work in evaluation mode that the ranks of a trial divide between them, and when rank 0 must do all of it.

Where a part draws random numbers, which depend on the parts before it, changes a buffer that is saved with the model,
or raises an exception, rank 0 does all parts, one after the other: so the numbers, the buffers, and what is said about
an exception, are those of one device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import nn

from tunectl.core.errors import LostRankError
from tunectl.core.exception_text import exception_line
from tunectl.core.wording import first_listed
from tunectl.training.buffers import BufferValues
from tunectl.training.first_rank import on_first
from tunectl.training.model_generators import ModelGenerators, is_same_state
from tunectl.training.ranks import Ranks
from tunectl.training.seeds import random_state, set_random_state
from tunectl.training.shared_buffers import own_memory

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Divided:
    """How the parts ended: "done" where all are done; else rank 0 must do all, for the reason `why`. Where it is not
    "failed", that is so each time.
    """

    ending: Literal["done", "drawn", "changed", "failed"]
    why: str = ""


def tried(
    ranks: Ranks, model: nn.Module, device: torch.device, work: Callable[[], None], *, is_to_change: bool = False
) -> Divided:
    """Do this rank's part, to be called by all ranks; with `is_to_change` it may change buffers.

    Where rank 0 must do all parts, the generators are as before it, and so are the saved buffers, unless it may change
    them.
    """
    before, generators, failed = random_state(device), ModelGenerators(model), ""
    buffers = None if is_to_change else BufferValues(model)
    try:
        work()
    except LostRankError:
        raise
    except Exception as error:
        failed = exception_line(error)
    drawn = not is_same_state(before, random_state(device)) or generators.have_drawn()
    changed = [] if buffers is None else buffers.changed()
    if not ranks.agreed(drawn or bool(changed) or bool(failed)):
        return Divided("done")
    set_random_state(before, device)
    generators.put_back()
    if buffers is not None and changed:
        buffers.put_back()
    return _told(ranks.gathered((drawn, changed, failed)))


def _told(every: list[tuple[bool, list[str], str]]) -> Divided:
    if any(drawn for drawn, _, _ in every):
        return Divided("drawn", "the model, the loss or the metrics draw random numbers")
    changed = sorted({name for _, names, _ in every for name in names})
    if changed:
        return Divided("changed", f"buffers of the model change in evaluation mode: {first_listed(changed, 3)}")
    rank, failed = next((rank, failed) for rank, (_, _, failed) in enumerate(every) if failed)
    return Divided("failed", f"device {rank} raised {failed}")


def alone(ranks: Ranks, model: nn.Module, compute: Callable[[], _T]) -> _T:
    """What `compute` gives on rank 0, which does all parts, at every rank; see `on_first`.

    To be called by all ranks. The saved buffers that it changes become those of rank 0 on all of them.
    """
    if ranks.count == 1:
        return compute()
    buffers = BufferValues(model)
    found, changed = on_first(ranks, lambda: (compute(), buffers.changed()))
    if changed:
        own_memory(model)
        ranks.broadcast_([model.get_buffer(name) for name in changed])
    return found
