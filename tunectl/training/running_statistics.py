"""Whether the statistics that layers collect while they train, and evaluate by, have come to where the batches are."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

USUAL_MOMENTUM = 0.1
"""That of torch's batch normalisation; taken for layers of the user's own, of which nothing is known."""

SHARE_OF_THE_START = 1e-4
"""The statistics have settled when what they began with has less than this share in them: 88 updates at a momentum of
0.1. On digits, networks with batch normalisation that learned (at rates of 1e-4 to 1e-2, by Adam) came below their
evaluation of step 0 for the first time after 10 to 70 updates at a momentum of 0.1, and after up to 90 at 0.01.
"""


def are_settled(model: nn.Module, updates: int) -> bool:
    """Whether evaluations of the model tell about its weights after so many updates, and not about its start."""
    return all((1 - momentum) ** updates < SHARE_OF_THE_START for momentum in _momenta(model))


def _momenta(model: nn.Module) -> list[float]:
    """The momentum of each layer that keeps numbers beside its parameters; a plain average counts as a usual one."""
    found = []
    for layer in model.modules():
        numbers = [item for item in layer.buffers(recurse=False) if torch.is_floating_point(item)]
        momentum = layer.momentum if isinstance(layer, _NormBase) else None
        if numbers:
            found.append(USUAL_MOMENTUM if momentum is None else momentum)
    return found
