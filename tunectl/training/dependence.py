"""Do a model's predictions depend on the input? Seen by exchanging them between the examples of a batch.

A dead network predicts the same for every example, so each example's loss stays as it is when it is given another
example's prediction. Nothing has to be known about the batch, the outputs or the loss: a batch does not say which of
its tensors are inputs and which are targets, but what the model gives comes from the inputs.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.hooks import RemovableHandle

from tunectl.training.batches import copied
from tunectl.training.evaluation import Evaluator, evaluating, fixed_batch
from tunectl.training.feasibility import EXCHANGED_EXAMPLES, Exchange
from tunectl.training.precision import casting
from tunectl.training.seeds import TRAIN_SAMPLE_SEED, Purpose, sequence


def exchange(evaluator: Evaluator) -> Exchange | None:
    """How the losses of examples of train change when their predictions are exchanged.

    In evaluation mode, but for batch normalisation, which takes the batch's own statistics: after few updates its
    running ones may be far from what the network has been trained with. Nothing changes in the model, and no random
    generator moves.

    Returns None where it cannot be known: fewer than two examples, a loss that does not call the model or reads some
    of its parameters past it, outputs without an axis over the examples, outputs that already are the losses, losses
    that are not finite, or an exception of the workload's code.
    """
    try:
        return _exchange(evaluator)
    except Exception:
        # The trial is over: what the workload's code makes of this is no reason to lose it.
        return None


def _exchange(evaluator: Evaluator) -> Exchange | None:
    model = evaluator.workload.model
    batch = fixed_batch(evaluator, min(EXCHANGED_EXAMPLES, evaluator.batch_size))
    own = _losses(evaluator, batch)
    if len(own) < 2:
        return None
    found = []
    # Each other's, in one cycle through all; then that of one example for all: a loss that compares the predictions of
    # the batch with its targets as a whole does not change under the first.
    for partners in (_cycle(len(own)).to(own.device), torch.zeros(len(own), dtype=torch.int64, device=own.device)):
        with _exchanged_outputs(model, partners) as exchanged:
            losses = _losses(evaluator, batch)
        if not exchanged.outputs or not exchanged.covers(model) or losses.shape != own.shape:
            return None
        found.append(losses.cpu())
        if torch.equal(losses, own[partners]) and not torch.equal(losses, own):
            return None
    numbers = [losses.to(torch.float64).tolist() for losses in (own.cpu(), *found)]
    return Exchange.of(*numbers) if all(map(math.isfinite, itertools.chain(*numbers))) else None


def _losses(evaluator: Evaluator, batch: Any) -> Tensor:
    model, device = evaluator.workload.model, evaluator.device
    cast = casting(evaluator.precision, device)
    with evaluating(model, sequence(evaluator.seed, Purpose.EVALUATION), device), _batch_statistics(model), cast:
        return evaluator.workload.loss(model, copied(batch)).detach().clone()


@contextlib.contextmanager
def _batch_statistics(model: nn.Module) -> Iterator[None]:
    """Within the block batch normalisation uses the statistics of its batch; its running ones stay as they were."""
    layers = [module for module in model.modules() if isinstance(module, _NormBase)]
    before = [(buffer, buffer.clone()) for layer in layers for buffer in layer.buffers()]
    for layer in layers:
        layer.train()
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)


def _cycle(examples: int) -> Tensor:
    """For each example another: one cycle through all in a random order, so that no example meets itself again when a
    model is called, and its outputs exchanged, several times in a row.
    """
    order = np.random.Generator(np.random.PCG64(TRAIN_SAMPLE_SEED)).permutation(examples)
    partners = np.empty(examples, dtype=np.int64)
    partners[order] = np.roll(order, 1)
    return torch.from_numpy(partners)


@dataclass(slots=True)
class _Exchanged:
    """How many tensors were exchanged, and the modules that were called."""

    outputs: int = 0
    modules: list[nn.Module] = field(default_factory=list)

    def covers(self, model: nn.Module) -> bool:
        """Whether all parameters of the model belong to the modules that were called."""
        called = {id(parameter) for module in self.modules for parameter in module.parameters()}
        return all(id(parameter) in called for parameter in model.parameters())


@contextlib.contextmanager
def _exchanged_outputs(model: nn.Module, partners: Tensor) -> Iterator[_Exchanged]:
    """Within the block every outermost call of the model, or of a module in it, gives each example its partner's
    output.
    """
    exchanged, depth = _Exchanged(), 0

    def enter(*_: Any) -> None:
        nonlocal depth
        depth += 1

    def leave(module: nn.Module, _arguments: Any, output: Any) -> Any:
        nonlocal depth
        depth -= 1
        if depth > 0:
            return None
        exchanged.modules.append(module)
        return _reordered(output, partners, exchanged)

    handles: list[RemovableHandle] = []
    try:
        for module in model.modules():
            handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
        yield exchanged
    finally:
        for handle in handles:
            handle.remove()


def _reordered(value: Any, partners: Tensor, exchanged: _Exchanged) -> Any:
    """The output with the examples' places exchanged in all tensors that have an axis over them."""
    if isinstance(value, Tensor):
        axis = next((axis for axis, size in enumerate(value.shape) if size == len(partners)), None)
        if axis is not None:
            exchanged.outputs += 1
            return value.index_select(axis, partners)
        if value.ndim and value.shape[0] and value.shape[0] % len(partners) == 0:
            # The examples' positions in one axis, as for the loss of every token.
            exchanged.outputs += 1
            return value.reshape(len(partners), -1, *value.shape[1:])[partners].reshape(value.shape)
        return value
    if isinstance(value, Mapping):
        changed: Any = copy.copy(value)
        for key in value:
            changed[key] = _reordered(value[key], partners, exchanged)
        return changed
    if isinstance(value, (tuple, list)):
        items = [_reordered(item, partners, exchanged) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = {
            field.name: _reordered(getattr(value, field.name), partners, exchanged)
            for field in dataclasses.fields(value)
            if field.init
        }
        return dataclasses.replace(value, **named)
    return value
