"""Which weights are a model's output layer: some rules of training leave it out.

Where the workload declares it, that is certain. Else it is the layer that the model defines last, which the probe
compares with the layer that the loss is really computed from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from tunectl.core.errors import WorkloadError
from tunectl.core.wording import listed

_OF_ONE_WEIGHT = frozenset(
    f"{name}Backward0"
    for name in (
        "T",
        "Transpose",
        "Permute",
        "View",
        "UnsafeView",
        "ReshapeAlias",
        "ToCopy",
        "Expand",
        "Clone",
        "Slice",
    )
)
"""Operations by which a layer makes what it multiplies by of its weight alone."""

_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class OutputLayer:
    """The parameters of the output layer, weights and biases; none where the model has no weight with two axes."""

    parameters: tuple[nn.Parameter, ...]
    is_declared: bool

    def __contains__(self, parameter: object) -> bool:
        return any(parameter is own for own in self.parameters)


def is_weight(parameter: Tensor) -> bool:
    """Whether a parameter has two axes or more that are longer than 1."""
    return sum(size > 1 for size in parameter.shape) >= 2


def output_layer(model: nn.Module, declared: Sequence[nn.Module | nn.Parameter] = ()) -> OutputLayer:
    """The declared output layer, or the last module in the order of definition that has a weight of its own.

    A weight that other layers have, too, as a tied embedding, counts where it is used last.
    """
    if declared:
        return OutputLayer(tuple(_parameters(declared)), is_declared=True)
    last: tuple[nn.Parameter, ...] = ()
    for module in model.modules():
        own = tuple(module.parameters(recurse=False))
        if any(map(_may_be_last, own)):
            last = own
    return OutputLayer(last, is_declared=False)


def _may_be_last(parameter: Tensor) -> bool:
    # A layer with one output has a weight of one row.
    return parameter.ndim >= 2


def _parameters(declared: Sequence[nn.Module | nn.Parameter]) -> Iterable[nn.Parameter]:
    for item in declared:
        if isinstance(item, nn.Module):
            yield from item.parameters()
        else:
            yield item


def weights_of_loss(losses: Tensor) -> list[Tensor]:
    """The weights with two axes or more from which a loss is computed without passing through another of them."""
    found: list[Tensor] = []
    seen: set[Any] = set()
    todo: list[Any] = [losses.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        inputs = [following for following, _ in node.next_functions if following is not None]
        weights = [weight for weight in map(_weight_of, inputs) if weight is not None]
        found += [weight for weight in weights if not any(weight is known for known in found)]
        if not weights:
            todo += inputs
    return found


def _weight_of(node: Any) -> Tensor | None:
    """The weight that a node of the graph passes on; None where it passes on something else."""
    while node is not None and node.name() in _OF_ONE_WEIGHT:
        following = [after for after, _ in node.next_functions if after is not None]
        node = following[0] if len(following) == 1 else None
    variable = getattr(node, "variable", None)
    return variable if isinstance(variable, Tensor) and _may_be_last(variable) else None


def check_output_layer(model: nn.Module, layer: OutputLayer, losses: Tensor, why: str) -> None:
    """Raise WorkloadError where it is not certain that a layer that was not declared is the output layer.

    `losses` are those of a batch, with their graph; `why` says what needs to know the layer.
    """
    if layer.is_declared:
        return
    seen = weights_of_loss(losses)
    if len(seen) == 1 and seen[0] in layer:
        return
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    defined = listed([names.get(id(item), "") for item in layer.parameters if _may_be_last(item)]) or "none"
    used = [names.get(id(item), "a tensor outside the model") for item in seen]
    more = [f"{len(used) - _MOST_NAMED} more"] if len(used) > _MOST_NAMED else []
    raise WorkloadError(
        f"{why} needs to know the output layer, and it is not certain: the last weight of the model is {defined}, and "
        f"the loss is computed from {listed([*used[:_MOST_NAMED], *more]) or 'no weight'}; declare it, as in "
        "Workload(..., output=[model.head])"
    )
