"""Whether the statistics that layers collect while they train, and evaluate by, have come to where the batches are."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from tunectl.training.feasibility import Statistics

USUAL_MOMENTUM = 0.1
"""That of torch's batch normalisation; taken for layers of the user's own, of which nothing is known."""

SHARE_OF_THE_START = 1e-4
"""The statistics have settled when what they began with has less than this share in them after half of the updates, as
the losses of the second half are looked at: 176 updates at a momentum of 0.1.

On digits, networks with batch normalisation that learned (by Adam, at rates of 1e-4 to 1e-2) first came below their
evaluation of step 0 after 10 to 90 updates; at a rate of 1e-5 some had not after 120.
"""


def running_statistics(model: nn.Module, updates: int) -> Statistics:
    """Whether evaluations of the model tell about its weights after so many updates, or about its start."""
    momenta = _momenta(model)
    if not momenta:
        return "none"
    return "settled" if all((1 - each) ** (updates // 2) < SHARE_OF_THE_START for each in momenta) else "lagging"


def _momenta(model: nn.Module) -> list[float]:
    """The momentum of each layer that keeps numbers beside its parameters; a plain average counts as a usual one."""
    found = []
    for layer in model.modules():
        numbers = [item for item in layer.buffers(recurse=False) if torch.is_floating_point(item)]
        momentum = layer.momentum if isinstance(layer, _NormBase) else None
        if numbers:
            found.append(USUAL_MOMENTUM if momentum is None else momentum)
    return found
