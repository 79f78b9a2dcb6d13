"""Tests whether a model's predictions depend on the input, by exchanging them between the examples of a batch.

A dead network predicts the same for every example, so the loss of an example does not change when it gets another
example's prediction. The test needs to know nothing about the batch, the outputs or the loss: a batch does not say
which of its tensors are inputs and which are targets, but the model's outputs come from the inputs.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.hooks import RemovableHandle

from tunectl.training.batch_values import copied
from tunectl.training.evaluation import evaluating, fixed_batch
from tunectl.training.evaluation_batches import Evaluator
from tunectl.training.example_losses import ExampleLosses, example_losses
from tunectl.training.feasibility import EXCHANGED_EXAMPLES, Exchange
from tunectl.training.precision import casting
from tunectl.training.seeds import TRAIN_SAMPLE_SEED, Purpose, sequence


@dataclass(frozen=True, slots=True)
class NotExchanged:
    """Why the predictions could not be exchanged; `is_error` where that was an exception, as where memory ran out."""

    why: str
    is_error: bool = False


def exchange(evaluator: Evaluator) -> Exchange | NotExchanged:
    """How the losses of examples of train change when their predictions are exchanged.

    In evaluation mode, except that batch normalisation uses the statistics of the batch: after few updates its running
    ones may be far from those in training. The model and the random generators are unchanged afterwards.

    Gives NotExchanged where it cannot be known: there are fewer than two examples, the loss does not call the model or
    uses some of its parameters directly, the outputs have no axis over the examples or are the losses themselves, the
    losses are not finite, or the workload's code raised an exception.
    """
    try:
        return _exchange(evaluator)
    except Exception as error:
        # The trial has ended; an exception of the workload's code in this test must not lose it.
        line = next(iter(str(error).strip().splitlines()), "")
        return NotExchanged(f"{type(error).__name__}: {line}" if line else type(error).__name__, is_error=True)


def _exchange(evaluator: Evaluator) -> Exchange | NotExchanged:
    model = evaluator.workload.model
    most = min(EXCHANGED_EXAMPLES, evaluator.batch_size)
    examples = min(most, len(evaluator.splits["train"]))  # type: ignore[arg-type]
    batch = fixed_batch(evaluator, most)
    with _outputs_seen(model, examples) as seen:
        own = _losses(evaluator, batch)
    of_examples, weights = own.per_example()
    # The weights belong to the examples, not to the predictions; an example of weight 0 shows nothing.
    counted = slice(None) if weights is None else weights > 0
    if examples < 2:
        return NotExchanged("there are fewer than two examples")
    if not seen.tensors:
        return NotExchanged("the loss calls no module of the model")
    if not seen.covers(model):
        return NotExchanged("the loss uses parameters of the model without calling its modules")
    axes = _axes(evaluator, most, seen.tensors, examples)
    if not any(axes):
        return NotExchanged("the model's outputs have no axis over the examples")
    found = []
    # First each example gets another one's, in one cycle through all; then all get that of one example: a loss that
    # compares all predictions of the batch with all targets does not change under the first exchange.
    device = own.values.device
    for partners in (
        _cycle(len(own.values)).to(device),
        torch.zeros(len(own.values), dtype=torch.int64, device=device),
    ):
        with _outputs_exchanged(model, axes, partners):
            losses = _losses(evaluator, batch)
        if losses.values.shape != own.values.shape:
            return NotExchanged("the losses have another shape when predictions are exchanged")
        found.append(losses.per_example().values[counted])
        if torch.equal(losses.values, own.values[partners]) and not torch.equal(losses.values, own.values):
            return NotExchanged("the model's outputs are the losses")
    numbers = [losses.tolist() for losses in (of_examples[counted], *found)]
    if len(numbers[0]) < 2:
        return NotExchanged("fewer than two examples have a weight above 0")
    if not all(map(math.isfinite, itertools.chain(*numbers))):
        return NotExchanged("the losses are not finite")
    return Exchange.of(*numbers)


def _losses(evaluator: Evaluator, batch: Any) -> ExampleLosses:
    model, device = evaluator.workload.model, evaluator.device
    cast = casting(evaluator.precision, device)
    with evaluating(model, sequence(evaluator.seed, Purpose.EVALUATION), device), _batch_statistics(model), cast:
        losses = example_losses(evaluator.workload.loss(model, copied(batch)))
        return ExampleLosses(losses.values.detach().clone(), None if losses.weights is None else losses.weights.clone())


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
    """A partner for each example: one cycle through all in a random order, so that no example gets its own output where
    several calls in a row are exchanged.
    """
    order = np.random.Generator(np.random.PCG64(TRAIN_SAMPLE_SEED)).permutation(examples)
    partners = np.empty(examples, dtype=np.int64)
    partners[order] = np.roll(order, 1)
    return torch.from_numpy(partners)


@dataclass(frozen=True, slots=True)
class _Axis:
    """The positions of the examples in a tensor: one for each along an axis, or several.

    Several positions of an example, as for the loss of every token, are next to each other (`together`), or alternate
    with those of the other examples (`apart`), as where time is the first of two axes that were flattened.
    """

    axis: int
    places: Literal["one", "together", "apart"] = "one"

    def exchanged(self, value: Tensor, partners: Tensor) -> Tensor:
        """The tensor with its partner's part for every example."""
        if self.places == "one":
            return value.index_select(self.axis, partners)
        axis, examples = self.axis, len(partners)
        places = value.shape[axis] // examples
        together = self.places == "together"
        parts = (examples, places) if together else (places, examples)
        split = value.reshape(*value.shape[:axis], *parts, *value.shape[axis + 1 :])
        return split.index_select(axis if together else axis + 1, partners).flatten(axis, axis + 1)


@dataclass(frozen=True, slots=True)
class _Seen:
    """An output: its shape, and for each axis in which an example may have several positions the sums over all other
    axes.
    """

    shape: tuple[int, ...]
    sums: Mapping[int, Tensor]


@dataclass(slots=True)
class _Outputs:
    """The tensors that the outermost calls gave, in order, and the modules that were called."""

    tensors: list[_Seen] = field(default_factory=list)
    modules: list[nn.Module] = field(default_factory=list)

    def covers(self, model: nn.Module) -> bool:
        """Whether all parameters of the model belong to the modules that were called."""
        called = {id(parameter) for module in self.modules for parameter in module.parameters()}
        return all(id(parameter) in called for parameter in model.parameters())


def _axes(evaluator: Evaluator, most: int, seen: Sequence[_Seen], examples: int) -> list[_Axis | None]:
    """The positions of the examples in each output: along the axis that is shorter for a smaller batch.

    The length alone is not enough: a sequence may be as long as the batch, or there may be as many classes. Where the
    model does not accept a batch of another size, the length decides, if only one axis has it.
    """
    fewer = max(2, examples // 8) if examples > 2 else 1
    try:
        with _outputs_seen(evaluator.workload.model, fewer) as cut:
            _losses(evaluator, fixed_batch(evaluator, most, fewer))
    except Exception:
        return [_axis_by_length(item.shape, examples) for item in seen]
    if len(cut.tensors) != len(seen):
        return [_axis_by_length(item.shape, examples) for item in seen]
    return [
        _axis(whole, part, examples, fewer) if len(whole.shape) == len(part.shape) else None
        for whole, part in zip(seen, cut.tensors, strict=True)
    ]


def _axis_by_length(shape: Sequence[int], examples: int) -> _Axis | None:
    found = [axis for axis, size in enumerate(shape) if size == examples]
    return _Axis(found[0]) if len(found) == 1 else None


def _axis(whole: _Seen, part: _Seen, examples: int, fewer: int) -> _Axis | None:
    sizes = list(enumerate(zip(whole.shape, part.shape, strict=True)))
    one = next((axis for axis, size in sizes if size == (examples, fewer)), None)
    if one is not None:
        return _Axis(one)
    for axis, (size, less) in sizes:
        count = size // examples
        if count > 1 and (size, less) == (count * examples, count * fewer) and axis in whole.sums and axis in part.sums:
            known, shown = whole.sums[axis], part.sums[axis]
            together = float((known[: count * fewer] - shown).abs().sum())
            apart = float((known.view(count, -1)[:, :fewer] - shown.view(count, -1)).abs().sum())
            # A NaN in the outputs gives NaN losses, which are found later.
            return _Axis(axis, "apart" if apart < together else "together")
    return None


@contextlib.contextmanager
def _outputs_seen(model: nn.Module, examples: int) -> Iterator[_Outputs]:
    """Within the block the outputs of every outermost call of the model, or of a module in it, are noted."""
    outputs = _Outputs()

    def note(value: Tensor) -> Tensor:
        # Nothing is summed where the first axis is the batch's, as in most models.
        first = value.shape[0] == examples
        several = [
            axis for axis, size in enumerate(value.shape) if not first and size > examples and size % examples == 0
        ]
        outputs.tensors.append(_Seen(tuple(value.shape), {axis: _sums_along(value, axis) for axis in several}))
        return value

    def leave(module: nn.Module, output: Any) -> None:
        outputs.modules.append(module)
        _with_tensors(output, note)

    with _at_outermost_calls(model, leave):
        yield outputs


@contextlib.contextmanager
def _outputs_exchanged(model: nn.Module, axes: Sequence[_Axis | None], partners: Tensor) -> Iterator[None]:
    """Within the block every outermost call of the model, or of a module in it, gives each example its partner's
    output.
    """
    coming = iter(axes)

    def exchanged(value: Tensor) -> Tensor:
        axis = next(coming, None)
        return value if axis is None else axis.exchanged(value, partners)

    with _at_outermost_calls(model, lambda _module, output: _with_tensors(output, exchanged)):
        yield


def _sums_along(value: Tensor, axis: int) -> Tensor:
    """The sums over all axes but one, in float64, shape [size of that axis]."""
    others = [other for other in range(value.ndim) if other != axis]
    values = value.detach().real
    return values.sum(dim=others, dtype=torch.float64) if others else values.to(torch.float64)


@contextlib.contextmanager
def _at_outermost_calls(model: nn.Module, leave: Callable[[nn.Module, Any], Any]) -> Iterator[None]:
    """Within the block `leave` is called with every outermost module and its output, and may give another output."""
    depth = 0

    def entered(*_: Any) -> None:
        nonlocal depth
        depth += 1

    def left(module: nn.Module, _arguments: Any, output: Any) -> Any:
        nonlocal depth
        depth -= 1
        return leave(module, output) if depth == 0 else None

    handles: list[RemovableHandle] = []
    try:
        for module in model.modules():
            handles += [module.register_forward_pre_hook(entered), module.register_forward_hook(left)]
        yield
    finally:
        for handle in handles:
            handle.remove()


def _with_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The output with `change` applied to each of its tensors that has an axis."""
    if isinstance(value, Tensor):
        return change(value) if value.ndim else value
    if isinstance(value, Mapping):
        changed: Any = copy.copy(value)
        for key in value:
            changed[key] = _with_tensors(value[key], change)
        return changed
    if isinstance(value, (tuple, list)):
        items = [_with_tensors(item, change) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = {
            field.name: _with_tensors(getattr(value, field.name), change)
            for field in dataclasses.fields(value)
            if field.init
        }
        return dataclasses.replace(value, **named)
    return value
