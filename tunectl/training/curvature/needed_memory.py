"""How much memory a Hessian-vector product takes on the host, where no error comes when it runs out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tunectl.core.free_memory import free_bytes
from tunectl.training.curvature.double_backward import gradient_with_graph
from tunectl.training.curvature.measured_loss import MeasuredLoss
from tunectl.training.memory_errors import has_asked_for_too_much

_SMALL, _LARGER = 4, 8
"""The examples of two trial batches: the difference is what an example takes."""

_PEAK = 2.5
"""The memory of a product at its peak, as a multiple of what the graphs of loss and gradient save: 1.5 to 2.0 on
convolutional networks with and without batch normalisation and on transformers, 0.7 on an LSTM, where that is over
100 MB; some 70 MB of the libraries' scratch memory come on top.
"""

_SHARE = 0.5
"""The part of the free memory that a measurement may take; other trials measure at the same time."""


def fit_to_memory(loss: MeasuredLoss, parameters: Sequence[nn.Parameter], free: int | None = None) -> None:
    """Divide the measured examples, or halve them, until a product fits the host's free memory (default: that of now).

    Done once for a set of examples; on a GPU an error comes instead. Raises NotMeasured where nothing fits.
    """
    examples = loss.examples
    if examples.has_final_size or parameters[0].device.type != "cpu":
        return
    free = free_bytes() if free is None else free
    if free is None or examples.count <= _LARGER:
        return
    try:
        small, larger = (_saved_bytes(loss, parameters, size) for size in (_SMALL, _LARGER))
    except Exception as error:
        if has_asked_for_too_much(error):
            return  # and so will the measurement, which then divides the examples
        raise
    an_example = max(0.0, (larger - small) / (_LARGER - _SMALL))
    fixed = max(0.0, small - _SMALL * an_example)
    room = free * _SHARE / _PEAK - fixed
    while math.ceil(examples.count / examples.chunks) * an_example > room:
        loss.make_smaller()
    examples.has_final_size = True


def _saved_bytes(loss: MeasuredLoss, parameters: Sequence[nn.Parameter], size: int) -> int:
    """The bytes that the graphs of the loss of `size` examples and of its gradient save."""
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.layout is torch.strided:
            storage = tensor.untyped_storage()
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    (batch,) = loss.examples.batches_of(size)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        grads = gradient_with_graph(loss.losses_of(batch, size).values, parameters, size)
    del grads
    return sum(saved.values())
