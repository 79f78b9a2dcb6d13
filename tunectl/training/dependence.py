"""Do a model's predictions depend on the input? Seen by exchanging them between the examples of a batch.

A dead network predicts the same for every example, so each example's loss stays as it is when it is given another
example's prediction. Nothing has to be known about the batch, the outputs or the loss: a batch does not say which of
its tensors are inputs and which are targets, but what the model gives comes from the inputs.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tunectl.training.batches import copied
from tunectl.training.evaluation import Evaluator, evaluating, fixed_batch
from tunectl.training.feasibility import EXCHANGED_EXAMPLES
from tunectl.training.precision import casting
from tunectl.training.seeds import TRAIN_SAMPLE_SEED, Purpose, sequence


def exchanged_losses(evaluator: Evaluator) -> tuple[Tensor, Tensor] | None:
    """The losses of examples of train with their own predictions and with each other's, in evaluation mode, each of
    shape [examples], on the CPU.

    None where that cannot be done: fewer than two examples, a loss that does not call the model, a model whose outputs
    have no axis over the examples, or losses that already contain the targets when they leave the model. Nothing
    changes in the model, and no generator moves.
    """
    model, device = evaluator.workload.model, evaluator.device
    batch = fixed_batch(evaluator, min(EXCHANGED_EXAMPLES, evaluator.batch_size))
    own = _losses(evaluator, batch)
    if own.ndim != 1 or len(own) < 2:
        return None
    partners = _partners(len(own)).to(device)
    with _exchanged_outputs(model, partners) as exchanged:
        others = _losses(evaluator, batch)
    if not exchanged or others.shape != own.shape:
        return None
    return None if torch.equal(others, own[partners]) and not torch.equal(others, own) else (own.cpu(), others.cpu())


def _losses(evaluator: Evaluator, batch: Any) -> Tensor:
    cast = casting(evaluator.precision, evaluator.device)
    with evaluating(evaluator.workload.model, sequence(evaluator.seed, Purpose.EVALUATION), evaluator.device), cast:
        return evaluator.workload.loss(evaluator.workload.model, copied(batch)).detach().clone()


def _partners(examples: int) -> Tensor:
    """For each example another: one cycle through all in a random order, so that no example meets itself again when a
    model is called, and its outputs exchanged, several times in a row.
    """
    order = np.random.Generator(np.random.PCG64(TRAIN_SAMPLE_SEED)).permutation(examples)
    partners = np.empty(examples, dtype=np.int64)
    partners[order] = np.roll(order, 1)
    return torch.from_numpy(partners)


@contextlib.contextmanager
def _exchanged_outputs(model: nn.Module, partners: Tensor) -> Iterator[list[bool]]:
    """Within the block every outermost call of the model, or of a module in it, gives each example its partner's
    output; the list that is given gets an entry for every tensor that was exchanged.
    """
    exchanged: list[bool] = []
    depth = 0

    def enter(*_: Any) -> None:
        nonlocal depth
        depth += 1

    def leave(_module: nn.Module, _arguments: Any, output: Any) -> Any:
        nonlocal depth
        depth -= 1
        return _reordered(output, partners, exchanged) if depth == 0 else None

    handles = []
    try:
        for module in model.modules():
            handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
        yield exchanged
    finally:
        for handle in handles:
            handle.remove()


def _reordered(value: Any, partners: Tensor, exchanged: list[bool]) -> Any:
    """The output with the examples' places exchanged in all tensors that have an axis over them."""
    if isinstance(value, Tensor):
        axis = next((axis for axis, size in enumerate(value.shape) if size == len(partners)), None)
        if axis is not None:
            exchanged.append(True)
            return value.index_select(axis, partners)
        if value.ndim and value.shape[0] and value.shape[0] % len(partners) == 0:
            # The examples' positions in one axis, as for the loss of every token.
            exchanged.append(True)
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
