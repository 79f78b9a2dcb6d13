"""The buffers of a model with their values, which are put back after a forward that must not count."""

from __future__ import annotations

from torch import Tensor, nn


class BufferValues:
    """The buffers of a module and of those in it, as they are now, with copies of their values."""

    def __init__(self, module: nn.Module) -> None:
        self._taken: list[tuple[nn.Module, str, Tensor, Tensor]] = [
            (each, name, buffer, buffer.detach().clone())
            for each in module.modules()
            for name, buffer in each._buffers.items()
            if buffer is not None
        ]

    def put_back(self) -> None:
        """Give the modules these buffers again, also where others were assigned, with the values that they had."""
        for module, name, buffer, values in self._taken:
            module._buffers[name] = buffer
            # By .data, so that autograd does not take restoring the values for a change.
            buffer.data.copy_(values)

    def lend_copies(self) -> None:
        """Give the modules copies of these buffers, with the values that they had, until `put_back`.

        A graph then keeps what it saved of a buffer: nothing writes into a copy after its forward.
        """
        copies: dict[int, Tensor] = {}  # a buffer that two modules share stays one tensor
        for module, name, buffer, values in self._taken:
            module._buffers[name] = copies.setdefault(id(buffer), values.clone())
