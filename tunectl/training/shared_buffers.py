"""The buffers that training changes, as running statistics, kept equal on all ranks, which each see other examples.

After each batch they become the averages over the ranks, by the numbers of examples that these had. So they are
functions of the update alone, whenever the trial is saved or evaluated. Whole numbers, as the counts of batches, become
those of rank 0. One whose shape differs between the ranks depends on the examples of each: if it is saved with the
model, it is refused, else each rank keeps its own. A sparse one, such as the edges of a graph, must stay the same.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tunectl.core.errors import WorkloadError
from tunectl.core.wording import first_listed
from tunectl.training.buffer_digests import are_same, digest, quick_digests
from tunectl.training.buffers import repeated_axes, write
from tunectl.training.ranks import Ranks
from tunectl.training.synchronised_batch_norm import batch_norm_layers

_SYNCHRONISED = ("running_mean", "running_var", "num_batches_tracked")
_Kind = tuple[tuple[int, ...], str] | None
"""The shape and the type of a buffer, None where there is none now."""

_Version = tuple[Tensor | None, int]
"""A buffer, and how often torch has written into it."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a buffer is: assigning another tensor keeps the place."""

    module: nn.Module
    own: str

    @property
    def buffer(self) -> Tensor | None:
        return self.module._buffers.get(self.own)

    @property
    def is_saved(self) -> bool:
        return self.own not in self.module._non_persistent_buffers_set

    @property
    def is_statistic(self) -> bool:
        return "running_mean" in self.module._buffers


def own_memory(model: nn.Module) -> None:
    """Give each buffer that is one number or row again and again (`expand`) memory of its own, to be written into."""
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None and repeated_axes(buffer):
                module._buffers[name] = buffer.detach().clone(memory_format=torch.contiguous_format)


class SharedBuffers:
    """Makes the buffers of a model equal on all ranks: when this is made, and again after each batch.

    It is about all buffers, also those that are not saved, and those that a module registers later. The running
    statistics of batch normalisation that is synchronised are equal by themselves. With the `state` of those of a trial
    that was saved, they go on as these would have.
    """

    def __init__(
        self,
        model: nn.Module,
        ranks: Ranks,
        *,
        are_synchronised: bool = False,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self._ranks, self._model = ranks, model
        self._synchronised = list(batch_norm_layers(model).values()) if are_synchronised else []
        self._modules: list[nn.Module] = []
        self._places: dict[str, _Place] = {}
        self._sparse: dict[str, Tensor] = {}
        self._count, self._is_known = 0, ranks.count == 1
        # Of each buffer that is averaged the values that all ranks have had; at first of all buffers.
        self._before: dict[str, Tensor] = {}
        self._versions: dict[str, _Version] = {}
        self._apart = set[str]()
        # The buffers whose values differed between the ranks, and are no statistics of batch normalisation.
        self._differed = set[str]()
        if ranks.count > 1:
            self._begin(state)

    def state(self) -> dict[str, Any]:
        """Which buffers training has changed so far, for `resume.pt`, which has their values elsewhere."""
        averaged = sorted(self._before) if self._is_known else None
        others = self._places.keys() - self._before.keys()
        return {
            "ranks": self._ranks.count,
            "averaged": averaged,
            # Since the last batch, by what is not training.
            "changed": sorted(
                name for name in others if _is_changed(self._places[name].buffer, self._versions.get(name))
            ),
            "differed": sorted(self._differed),
        }

    def _begin(self, state: Mapping[str, Any] | None) -> None:
        self._find_places()
        alike = self._alike(self._ranks.gathered(self._kinds()))
        if state is None or state["averaged"] is None:
            self._copy_first(alike)
            self._versions = self._versions_now()
            return
        averaged = set(state["averaged"])
        # Those that no rank was seen to change may differ, until a look finds that.
        self._copy_first([name for name in alike if name in averaged or state["ranks"] != self._ranks.count])
        self._before = {name: before for name, before in self._before.items() if name in averaged}
        self._is_known, self._differed = True, set(state["differed"])
        changed = set(state["changed"])
        self._versions = {name: version for name, version in self._versions_now().items() if name not in changed}

    def others_change(self) -> bool:
        """Whether this rank has changed a buffer that is not averaged so far, as far as torch counts writes."""
        if self._ranks.count == 1:
            return False
        if not self._is_known or sum(len(module._buffers) for module in self._modules) != self._count:
            return True
        for name, place in self._places.items():
            before = self._before.get(name)
            if before is not None:
                if _kind(place.buffer) != _kind(before):
                    return True
            elif name not in self._apart and _is_changed(place.buffer, self._versions.get(name)):
                return True
        return False

    def agree(self, examples: int, of_all: int, *, others_change: bool = True, are_compared: bool = False) -> None:
        """Make the buffers equal after the forward pass of a batch of `of_all` examples, of which this rank had
        `examples`; to be called by all ranks, where `others_change` says whether any of them gave it.

        With `are_compared` those that differ before that are in `notes`; else only the ones whose first change it is.
        """
        if self._ranks.count == 1:
            return
        new = self._found(has_examples=examples > 0) if others_change else set[str]()
        self._is_known = True
        names = sorted({*self._before, *new})
        values = {name: _there(self._places[name].buffer) for name in names}
        if are_compared:
            self._compare(values, has_examples=examples > 0)
        numbers = [name for name in names if _is_number(values[name])]
        # By the changes from what all had before: what has not changed stays the same bit for bit.
        before = {name: self._before.get(name, torch.zeros_like(values[name])) for name in numbers}
        # What an example has changed that does not count, counts nothing, also where it is not finite.
        changes = [
            (values[name].detach() - before[name]) * (examples / of_all) if examples else torch.zeros_like(before[name])
            for name in numbers
        ]
        # An infinite value, as a running minimum begins with, has no change and no average: it becomes that of rank 0.
        of_first = {name: values[name].detach().clone() for name in numbers if not self._places[name].is_statistic}
        # Whole numbers become those of rank 0: the sum, where those of the others count as 0.
        whole = {name: values[name].detach().clone() for name in names if _is_whole(values[name])}
        for number in whole.values() if self._ranks.rank else ():
            number.zero_()
        self._ranks.sum_([*changes, *whole.values()])
        self._ranks.broadcast_(list(of_first.values()))
        for name, change in zip(numbers, changes, strict=True):
            average = before[name] + change
            if name in of_first:
                infinite = ~(average if name in new else before[name]).isfinite()
                average = torch.where(infinite, of_first[name], average)
            self._set(name, average)
        for name, number in whole.items():
            self._set(name, number)
        self._copy_first([name for name in names if name not in before and name not in whole])

    def notes(self) -> dict[str, str]:
        """What a trial should say of buffers that are other ones than on one device, unless they are averages."""
        names = sorted(name for name in self._differed & self._before.keys())
        whole = [name for name in names if not _is_number(self._before[name])]
        found = {
            "buffers of the model are averaged over the devices after each update, which is right for averages over"
            " examples only": [name for name in names if name not in whole],
            "buffers of the model are those of device 0, which sees its share of the examples": whole,
        }
        return {note: first_listed(which, 5) for note, which in found.items() if which}

    def look(self) -> None:
        """Find buffers that training has changed in a way that torch does not count, which get the values of rank 0 and
        are averaged from then on; to be called by all ranks, before an evaluation.

        Raises WorkloadError where a buffer that is saved with the model has another shape on another rank, or a sparse
        one other values.
        """
        if self._ranks.count == 1:
            return
        self._find_places()
        self._refuse_other_sparse()
        every = self._ranks.gathered(self._kinds())
        alike = self._alike(every)
        for name in sorted(self._apart):
            if any(of_rank.get(name, (None, False))[1] for of_rank in every):
                raise _other_shapes(name, [of_rank.get(name, (None, True))[0] for of_rank in every])
        if not self._is_known:
            return
        self._before = {name: before for name, before in self._before.items() if name in alike}
        others = [name for name in alike if name not in self._before]
        contents = self._ranks.gathered(quick_digests([_there(self._places[name].buffer) for name in others]))
        changed = [name for name, *found in zip(others, *contents, strict=True) if len(set(found)) > 1]
        self._note_differing(changed)
        self._copy_first(changed)
        self._versions = self._versions_now()

    def settle(self, without: Container[str] = ()) -> None:
        """Give the saved buffers that are averaged the values of rank 0, as before the next batch; to be called by all
        ranks after an evaluation, which may have changed them. Those `without` which have other values only meanwhile.
        """
        if self._ranks.count == 1:
            return
        alike = self._alike(self._ranks.gathered(self._kinds()))
        self._copy_first(
            [name for name in alike if name in self._before and name not in without and self._places[name].is_saved]
        )

    def _find_places(self) -> None:
        named = list(self._model.named_modules())
        self._modules = [module for _, module in named]
        self._count = sum(len(module._buffers) for module in self._modules)
        places = {
            f"{name}.{own}" if name else own: _Place(module, own)
            for name, module in named
            for own in module._buffers
            if not (own in _SYNCHRONISED and module in self._synchronised)
        }
        self._sparse = {name: place.buffer for name, place in places.items() if _is_sparse(place.buffer)}  # type: ignore[misc]
        self._places = {name: place for name, place in places.items() if name not in self._sparse}

    def _refuse_other_sparse(self) -> None:
        """Raise WorkloadError where a sparse buffer differs between the ranks."""
        every = self._ranks.gathered({name: digest(buffer) for name, buffer in self._sparse.items()})
        for rank, found in enumerate(every):
            wrong = sorted(name for name in {*found, *every[0]} if found.get(name) != every[0].get(name))
            if wrong:
                raise WorkloadError(
                    f"the buffer {wrong[0]!r} of the model, which is sparse, differs between devices {rank} and 0 of"
                    " the trial, which have other examples: a sparse one cannot be averaged; make it a dense one"
                )

    def _kinds(self) -> dict[str, tuple[_Kind, bool]]:
        """The kinds of all buffers, each with whether it is saved with the model."""
        return {name: (_kind(place.buffer), place.is_saved) for name, place in self._places.items()}

    def _versions_now(self) -> dict[str, _Version]:
        return {name: (place.buffer, _writes(place.buffer)) for name, place in self._places.items()}

    def _alike(self, every: Sequence[Mapping[str, tuple[_Kind, bool]]]) -> list[str]:
        """The buffers that have the same shape and type on all ranks; the others are apart."""
        kinds = {name: [of_rank.get(name, (None, False))[0] for of_rank in every] for name in set().union(*every)}
        self._apart = {name for name, found in kinds.items() if len(set(found)) > 1}
        return sorted(name for name, found in kinds.items() if name not in self._apart and found[0] is not None)

    def _found(self, *, has_examples: bool) -> set[str]:
        """The buffers that a rank has changed, and whose values before are not known."""
        self._find_places()
        changed = {
            name
            for name, place in self._places.items()
            if _is_changed(place.buffer, self._versions.get(name))
            # Torch does not count the writes of its own batch normalisation, nor those by `.data`.
            or (not self._is_known and name in self._before and not _is_same(place.buffer, self._before[name]))
        }
        # Its count of batches, however, is counted.
        moved = {id(self._places[name].module) for name in changed}
        changed |= {name for name, place in self._places.items() if place.is_statistic and id(place.module) in moved}
        self._versions = self._versions_now()
        every = self._ranks.gathered((changed, self._kinds()))
        alike = set(self._alike([kinds for _, kinds in every]))
        found = set[str]().union(*(names for names, _ in every)) & alike
        self._compare({name: _there(self._places[name].buffer) for name in sorted(found)}, has_examples=has_examples)
        kept = found if not self._is_known else alike
        self._before = {
            name: before
            for name, before in self._before.items()
            if name in kept and _kind(before) == _kind(self._places[name].buffer)
        }
        return found - self._before.keys()

    def _compare(self, values: Mapping[str, Tensor], *, has_examples: bool) -> None:
        """Note the buffers that differ between the ranks which had examples."""
        tested = [name for name in values if not self._places[name].is_statistic and name not in self._differed]
        every = self._ranks.gathered(quick_digests([values[name] for name in tested]) if has_examples else None)
        given = [found for found in every if found is not None]
        self._note_differing([name for name, *each in zip(tested, *given, strict=True) if len(set(each)) > 1])

    def _note_differing(self, names: Sequence[str]) -> None:
        self._differed |= {name for name in names if not self._places[name].is_statistic}

    def _copy_first(self, names: Sequence[str]) -> None:
        own_memory(self._model)
        buffers = [_there(self._places[name].buffer) for name in names]
        self._ranks.broadcast_(buffers)
        for name, buffer in zip(names, buffers, strict=True):
            self._before[name] = buffer.detach().clone()
            # Sending is a write that torch counts; it is no change by training.
            self._versions[name] = (buffer, _writes(buffer))

    @torch.no_grad()
    def _set(self, name: str, values: Tensor) -> None:
        self._before[name] = values
        write(_there(self._places[name].buffer), values)


def _other_shapes(name: str, kinds: Sequence[_Kind]) -> WorkloadError:
    wrong = next(rank for rank, kind in enumerate(kinds) if kind != kinds[0])
    first, other = (
        "missing" if kind is None else f"{kind[1]}, shape {list(kind[0])}," for kind in (kinds[0], kinds[wrong])
    )
    return WorkloadError(
        f"the buffer {name!r} of the model is {first.rstrip(',')} on device 0 of the trial and {other.rstrip(',')} on"
        f" device {wrong}, which has other examples: nothing can be saved of it; register it with persistent=False, or"
        " give it one shape"
    )


def _there(buffer: Tensor | None) -> Tensor:
    assert buffer is not None
    return buffer


def _is_number(values: Tensor) -> bool:
    """Whether it is a type in which averages can be computed: not so those of one byte."""
    return values.is_complex() or (values.is_floating_point() and values.element_size() > 1)


def _is_whole(values: Tensor) -> bool:
    return not values.is_complex() and not values.is_floating_point()


def _is_same(buffer: Tensor | None, before: Tensor) -> bool:
    return _kind(buffer) == _kind(before) and are_same(_there(buffer), before)


def _is_sparse(buffer: Tensor | None) -> bool:
    return buffer is not None and buffer.layout is not torch.strided


def _kind(buffer: Tensor | None) -> _Kind:
    return None if buffer is None else (tuple(buffer.shape), str(buffer.dtype))


def _writes(buffer: Tensor | None) -> int:
    return 0 if buffer is None else buffer._version


def _is_changed(buffer: Tensor | None, version: _Version | None) -> bool:
    return version is None or version[0] is not buffer or version[1] != _writes(buffer)
