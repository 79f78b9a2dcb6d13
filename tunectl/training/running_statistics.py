"""Whether the running statistics of layers, which they use in evaluation mode, still depend on their start."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from tunectl.training.batch_norm_statistics import gathering_layers
from tunectl.training.feasibility import Statistics

USUAL_MOMENTUM = 0.1
"""The default of torch's batch normalisation; used for other layers with buffers, whose momentum is not known."""

SHARE_OF_THE_START = 1e-4
"""The statistics have settled when the share of their start values is smaller than this after half of the updates, as
the losses of the second half are judged: 176 updates at a momentum of 0.1.

On digits, networks with batch normalisation that learned (by Adam, at rates of 1e-4 to 1e-2) were first below their
evaluation of step 0 after 10 to 90 updates; at a rate of 1e-5 some were not after 120.
"""


def running_statistics(model: nn.Module, updates: int, *, gathered: bool = False) -> Statistics:
    """The state of the model's running statistics after this number of updates: none, lagging or settled.

    Those that are `gathered` again before each evaluation, also the one of step 0, do not depend on their start.
    """
    momenta = _momenta(model, gathered)
    if not momenta:
        return "none"
    return "settled" if all((1 - each) ** (updates // 2) < SHARE_OF_THE_START for each in momenta) else "lagging"


def _momenta(model: nn.Module, gathered: bool) -> list[float]:
    """The momentum of each layer with buffers of numbers; that of a plain average counts as the usual one.

    Buffers that are not saved with the model are constants, not statistics.
    """
    found = []
    without = gathering_layers(model).values() if gathered else ()
    for layer in (each for each in model.modules() if each not in without):
        saved = [
            item
            for name, item in layer.named_buffers(recurse=False)
            if name not in layer._non_persistent_buffers_set and torch.is_floating_point(item)
        ]
        momentum = layer.momentum if isinstance(layer, _NormBase) else None
        if saved:
            found.append(USUAL_MOMENTUM if momentum is None else momentum)
    return found
