"""The buffers that training changes, as running statistics, kept equal on all ranks, which each see other examples.

After each batch they become the averages over the ranks, by the numbers of examples that these had. So they are
functions of the update alone, whenever the trial is saved or evaluated. Whole numbers, as the counts of batches, become
those of rank 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tunectl.training.ranks import Ranks
from tunectl.training.synchronised_batch_norm import batch_norm_layers


class SharedBuffers:
    """Makes the buffers of a model equal again after each batch; they must be equal when this is made.

    It is about buffers that are saved with the model: others are no state. Those of batch normalisation that is
    synchronised are equal by themselves.
    """

    def __init__(self, model: nn.Module, ranks: Ranks, *, are_synchronised: bool = False) -> None:
        self._ranks = ranks
        left_out = list(batch_norm_layers(model).values()) if are_synchronised else []
        self._places: dict[str, tuple[nn.Module, str]] = {
            f"{name}.{own}" if name else own: (module, own)
            for name, module in model.named_modules()
            if ranks.count > 1 and not any(module is each for each in left_out)
            for own, buffer in module._buffers.items()
            if buffer is not None and own not in module._non_persistent_buffers_set
        }
        # Torch does not count the writes of its own batch normalisation.
        self._statistics = {name for name, (module, _) in self._places.items() if "running_mean" in module._buffers}
        self._versions = {name: _version(self._buffer(name)) for name in self._places}
        # At first of all of them, then of those that training changes.
        self._before = {name: self._buffer(name).detach().clone() for name in self._places}
        self._is_known = False

    def agree(self, examples: int, of_all: int) -> None:
        """Make the buffers equal after the forward pass of a batch of `of_all` examples, of which this rank had
        `examples`; to be called by all ranks.
        """
        if not self._places:
            return
        if not self._is_known:
            self._before = {name: self._before[name] for name in self._changed()}
            self._is_known = True
        numbers = {name: before for name, before in self._before.items() if _is_number(before)}
        # By the changes from what all had before: what has not changed stays the same bit for bit.
        changes = [self._change(name, before) * (examples / of_all) for name, before in numbers.items()]
        # An infinite value, as a running minimum begins with, has no change and no average: it becomes that of rank 0.
        infinite = {name: ~before.isfinite() for name, before in numbers.items() if name not in self._statistics}
        of_first = [self._buffer(name).detach().clone() for name in infinite]
        self._ranks.sum_(changes)
        self._ranks.broadcast_(of_first)
        for before, change in zip(numbers.values(), changes, strict=True):
            before += change
        for (name, places), values in zip(infinite.items(), of_first, strict=True):
            if values.shape == places.shape:
                self._before[name] = torch.where(places, values, self._before[name])
        for name in numbers:
            self._set(name, self._before[name])
        self._copy_first([name for name in self._before if name not in numbers])

    def look(self) -> None:
        """Find buffers that training has changed for the first time, which get the values of rank 0 and are averaged
        from then on; to be called by all ranks, before an evaluation.
        """
        if self._is_known:
            self._copy_first([name for name in self._changed() if name not in self._before])

    def _copy_first(self, names: list[str]) -> None:
        buffers = [self._buffer(name) for name in names]
        self._ranks.broadcast_(buffers)
        for name, buffer in zip(names, buffers, strict=True):
            self._before[name] = buffer.detach().clone()
            self._versions[name] = _version(buffer)

    def _changed(self) -> list[str]:
        """The buffers that any rank has changed since the last call, and that have the same shape on all of them."""
        own = {name: _version(self._buffer(name)) for name in self._places}
        kinds = {name: (tuple(self._buffer(name).shape), str(self._buffer(name).dtype)) for name in self._places}
        changed = {name for name, version in own.items() if version != self._versions[name]} | self._statistics
        self._versions = own
        every = self._ranks.gathered((changed, kinds))
        # One that depends on the examples, as a table that is made for the longest of them, has no average.
        return sorted(
            name
            for name in set[str]().union(*(names for names, _ in every))
            if all(of_rank.get(name) == kinds[name] for _, of_rank in every)
        )

    def _buffer(self, name: str) -> Tensor:
        module, own = self._places[name]
        buffer = module._buffers[own]
        return torch.zeros(0) if buffer is None else buffer

    def _change(self, name: str, before: Tensor) -> Tensor:
        buffer = self._buffer(name).detach()
        return buffer - before if buffer.shape == before.shape else torch.zeros_like(before)

    @torch.no_grad()
    def _set(self, name: str, values: Tensor) -> None:
        buffer = self._buffer(name)
        if buffer.shape == values.shape:
            buffer.copy_(values)


def _is_number(values: Tensor) -> bool:
    return values.is_floating_point() or values.is_complex()


def _version(buffer: Tensor) -> tuple[int, int]:
    return id(buffer), buffer._version
