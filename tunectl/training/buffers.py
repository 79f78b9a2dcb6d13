"""The buffers of a model with their values, which are put back after a forward that must not count."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tunectl.training.buffer_digests import are_same


class BufferValues:
    """The buffers of a module and of those in it, as they are now, with copies of their values."""

    def __init__(self, module: nn.Module) -> None:
        named = [
            (place, each, name, buffer)
            for place, each in module.named_modules()
            for name, buffer in each._buffers.items()
            if buffer is not None
        ]
        self._names = [f"{place}.{name}" if place else name for place, _, name, _ in named]
        self._taken: list[tuple[nn.Module, str, Tensor, Tensor]] = [
            (each, name, buffer, buffer.detach().clone()) for _, each, name, buffer in named
        ]

    def put_back(self) -> None:
        """Give the modules these buffers again, also where others were assigned, with the values that they had."""
        for module, name, buffer, values in self._taken:
            module._buffers[name] = buffer
            # By .data, so that autograd does not take restoring the values for a change.
            write(buffer.data, values)

    def changed(self) -> list[str]:
        """The names of the buffers that are saved with the module and have other values now, of the same shape."""
        found, differ = set[str](), dict[torch.device, list[tuple[str, Tensor]]]()
        for name, (module, own, _, values) in zip(self._names, self._taken, strict=True):
            now = module._buffers.get(own)
            if now is not None and now.shape == values.shape and own not in module._non_persistent_buffers_set:
                if now.device != values.device or now.layout != values.layout:
                    found.add(name)
                    continue
                if now.layout is not torch.strided:
                    found |= set() if are_same(now, values) else {name}
                    continue
                one, other = _comparable(now), _comparable(values)
                # A NaN that stays one has not changed.
                is_other = ((one != other) & ((one == one) | (other == other))).any()
                differ.setdefault(now.device, []).append((name, is_other))
        for tests in differ.values():
            are_other = torch.stack([is_other for _, is_other in tests]).tolist()
            found |= {name for (name, _), is_other in zip(tests, are_other, strict=True) if is_other}
        return [name for name in self._names if name in found]

    def lend_copies(self) -> None:
        """Give the modules copies of these buffers, with the values that they had, until `put_back`.

        A graph then keeps what it saved of a buffer: nothing writes into a copy after its forward.
        """
        copies: dict[int, Tensor] = {}  # a buffer that two modules share stays one tensor
        for module, name, buffer, values in self._taken:
            module._buffers[name] = copies.setdefault(id(buffer), values.clone())


def repeated_axes(tensor: Tensor) -> list[int]:
    """The axes along which a tensor is one number or row again and again, as `expand` gives it."""
    if tensor.layout is not torch.strided:
        return []
    return [axis for axis, stride in enumerate(tensor.stride()) if stride == 0 and tensor.shape[axis] > 1]


def write(tensor: Tensor, values: Tensor) -> None:
    """Write values into a tensor; into one that repeats its memory they must be repeated like it."""
    for axis in repeated_axes(tensor):
        tensor, values = tensor.narrow(axis, 0, 1), values.narrow(axis, 0, 1)
    tensor.copy_(values)


def _comparable(values: Tensor) -> Tensor:
    """The values in a form that torch can compare: there is no comparison of 8-bit floats."""
    values = values.detach()
    return values.float() if values.is_floating_point() and values.element_size() == 1 else values
