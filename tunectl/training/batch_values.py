"""The tensors in a batch, whatever holds them: moved, copied, changed, and watched for writes.

A batch is nested at will: mappings, lists, tuples, named tuples, dataclasses, and batch objects, which are those with a
method `to(device)`, as torch's PackedSequence, the batches of graphs, and the encodings of tokenizers.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tunectl.core.errors import WorkloadError


def moved(batch: Any, device: torch.device) -> Any:
    """The batch on a device: its tensors and batch objects are moved, other values stay as they are.

    Raises WorkloadError where the `to` of a batch object gives nothing.
    """
    if device.type == "cpu":
        return batch

    def move(tensor: Tensor) -> Tensor:
        pinned = tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor
        return pinned.to(device, non_blocking=True)

    def move_object(item: Any) -> Any:
        there = item.to(device)
        if there is None:
            raise WorkloadError(
                f"the batch has a {type(item).__name__} whose to(device) gives None: expected the batch on that device"
            )
        return there

    return _mapped(batch, move, move_object)


def copied(batch: Any) -> Any:
    """The batch with its own memory: tensors and what holds them are copied, other values are shared."""
    return mapped_tensors(batch, Tensor.clone)


def in_double(batch: Any) -> Any:
    """The batch with its floating-point tensors in float64."""
    return mapped_tensors(batch, lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)


def mapped_tensors(batch: Any, change: Callable[[Tensor], Any]) -> Any:
    """The batch with `change(tensor)` for each tensor in it, in copies of what holds them."""
    return _mapped(batch, change, lambda item: _with_changed(item, change))


def _mapped(batch: Any, change: Callable[[Tensor], Any], change_object: Callable[[Any], Any]) -> Any:
    if isinstance(batch, Tensor):
        return change(batch)
    if is_batch_object(batch):
        return change_object(batch)
    if isinstance(batch, Mapping):
        items = {key: _mapped(item, change, change_object) for key, item in batch.items()}
        return items if type(batch) is dict else type(batch)(items)  # type: ignore[call-arg]
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_mapped(item, change, change_object) for item in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(_mapped(item, change, change_object) for item in batch)
    if _is_dataclass(batch):
        changed = copy.copy(batch)
        for field in dataclasses.fields(batch):
            if hasattr(batch, field.name):
                # The class may be frozen.
                object.__setattr__(changed, field.name, _mapped(getattr(batch, field.name), change, change_object))
        return changed
    return batch


def is_batch_object(value: Any) -> bool:
    """Whether a value that holds tensors moves them by its own `to(device)`."""
    return not isinstance(value, (Tensor, nn.Module, type)) and callable(getattr(value, "to", None))


def has_batch_objects(batch: Any) -> bool:
    """Whether a batch is one, or has one among what it holds."""
    return is_batch_object(batch) or (
        not isinstance(batch, Tensor) and any(map(has_batch_objects, _held_by(batch) or ()))
    )


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _with_changed(item: Any, change: Callable[[Tensor], Any]) -> Any:
    """A copy of a batch object, of which nothing is known but its attributes, with the changed tensors in it."""
    memory = {id(tensor): change(tensor) for tensor in tensors_in(item)}
    return copy.deepcopy(item, memory)


def tensors_in(batch: Any) -> Iterator[Tensor]:
    """The tensors in a batch; of a batch object those that are in its attributes."""
    yield from _tensors_in(batch, set())


def _tensors_in(batch: Any, seen: set[int]) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
        return
    held = _held_by(batch)
    if held is None or id(batch) in seen:  # a batch object may refer to itself
        return
    seen.add(id(batch))
    for item in held:
        yield from _tensors_in(item, seen)


def _held_by(value: Any) -> list[Any] | None:
    """The values in something that holds values; None for one that does not."""
    if isinstance(value, Mapping):
        return [*value.values(), *(vars(value).values() if hasattr(value, "__dict__") else ())]
    if isinstance(value, (list, tuple)):
        return list(value)
    if not is_batch_object(value) and not _is_dataclass(value):
        return None
    slots = [name for kind in type(value).__mro__ for name in _slots(kind) if hasattr(value, name)]
    return [*getattr(value, "__dict__", {}).values(), *(getattr(value, name) for name in slots)]


def _slots(kind: type) -> tuple[str, ...]:
    own = getattr(kind, "__slots__", ())
    names = (own,) if isinstance(own, str) else tuple(own)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


@contextmanager
def unwritten(batch: Any, what: str) -> Iterator[None]:
    """Raise WorkloadError where the block writes into a tensor of the batch; `what` is the call in the message.

    Torch counts the writes of its own operations, but not those through numpy or `.data`.
    """
    # Inference tensors do not count writes.
    watched = [(tensor, tensor._version) for tensor in tensors_in(batch) if not tensor.is_inference()]
    yield
    if any(tensor._version != version for tensor, version in watched):
        raise WorkloadError(f"{what} writes into its batch; work on a copy")
