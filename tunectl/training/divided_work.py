"""Work in evaluation mode that the ranks of a trial divide between them, and when rank 0 must do all of it.

Where a part draws random numbers, which depend on the parts before it, or raises an exception, rank 0 does all parts,
one after the other: so the numbers, and what is said about an exception, are those of one device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from tunectl.core.errors import LostRankError
from tunectl.training.model_generators import ModelGenerators, is_same_state
from tunectl.training.ranks import Ranks
from tunectl.training.seeds import random_state, set_random_state


def tried(
    ranks: Ranks, model: nn.Module, device: torch.device, work: Callable[[], None]
) -> Literal["done", "drawn", "failed"]:
    """Do this rank's part, to be called by all ranks: "done" where all parts are done and none drew random numbers.

    Otherwise the generators are as before it, and rank 0 must do all parts.
    """
    before, generators, failed = random_state(device), ModelGenerators(model), False
    try:
        work()
    except LostRankError:
        raise
    except Exception:
        failed = True
    drawn = not is_same_state(before, random_state(device)) or generators.have_drawn()
    any_failed, any_drawn = (total > 0 for total in ranks.sums([float(failed), float(drawn)]))
    if not any_failed and not any_drawn:
        return "done"
    set_random_state(before, device)
    generators.put_back()
    return "drawn" if any_drawn else "failed"
