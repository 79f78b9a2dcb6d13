"""That all ranks of a trial have the same data: the batch of an update is made of the parts that each of them reads.

Data differ where a process draws a split or a shuffle of its own, or lists files in another order. Some examples of
every split are compared, drawn in the same random state on every rank, and the order in which a sampler gives them.
That nothing is another one since it was compared, the generators that a data set or a sampler has for itself are as
before afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from tunectl.core.errors import LostRankError, WorkloadError
from tunectl.core.wording import listed
from tunectl.training.collation import drawn, plain_tensors
from tunectl.training.data_order import order_digest, sampled_epoch
from tunectl.training.example_values import (
    Digests,
    Values,
    are_close,
    differ_by_numbers,
    digests,
    example_values,
    texts_alone_differ,
)
from tunectl.training.model_generators import GeneratorStates
from tunectl.training.own_generators import own_generators
from tunectl.training.ranks import Ranks
from tunectl.training.seeds import Purpose, host_randomness, sequence
from tunectl.training.streams import Pass, StreamedExamples
from tunectl.workloads.workload import Workload

COMPARED = 8
"""The number of examples of a split that are compared; of a stream they are the first ones."""

COMPARED_TENSORS = 64
"""The same where the split is in memory as tensors; of small ones, of at most WHOLE_BYTES, all are compared."""

WHOLE_BYTES = 2**24

_DRAWN_AGAIN = 8
"""How often an example is read again that differs between the ranks, to see whether it is another one each time."""

_KEPT_EPOCHS = 1000
_TEXTS = "the texts in its examples differ between the devices, as names of files may; the numbers beside them do not"
_HELP = (
    "each process must have the same data in the same order: draw what is random, as a split, from the factory's"
    " argument `seed`, and sort the names of files"
)
_NOT_COMPARED = "not all data were compared between the devices of the trial"
_OTHERS = "the data are not those of a trial on one device"
_OWN_NUMBERS = "its examples depend on what was read before, as by a random generator of its own"


def refuse_other_data(ranks: Ranks, workload: Workload, seed: int) -> dict[str, str]:
    """Raise WorkloadError where a split has another example on another rank, or the sampler another order.

    To be called by all ranks. Gives notes for the trial: about splits that cannot be compared, whose examples cannot be
    read, are neither numbers nor text, or are drawn anew by random numbers that no seed decides; and about what is not
    the same as on one device, since it depends on how often something was read before.
    """
    if ranks.count == 1:
        return {}
    others = [_compare_orders(ranks, workload, seed)]
    reasons = []
    for name, dataset in workload.data.items():
        kept = own_generators(dataset)
        split = _Split.of(name, dataset, seed)
        own = split.first()
        is_other = split.is_other_again(own, kept)
        reason = _compare(ranks, split, own)
        kept.put_back()
        reasons += [f"{name}: {reason}"] if reason else []
        others += [f"{name}: {_OWN_NUMBERS}"] if ranks.agreed(is_other) and not reason else []
    notes = {_NOT_COMPARED: "; ".join(reasons), _OTHERS: "; ".join(filter(None, others))}
    return {note: why for note, why in notes.items() if why}


@dataclass(frozen=True, slots=True)
class _Split:
    """A split, and the places of the examples that are compared: each a range, of one or of some that follow."""

    name: str
    dataset: Dataset[Any]
    places: Sequence[range]
    seeds: np.random.SeedSequence

    @classmethod
    def of(cls, name: str, dataset: Dataset[Any], seed: int) -> _Split:
        size: int = len(dataset)  # type: ignore[arg-type]
        seeds = sequence(seed, Purpose.AGREEMENT)
        return cls(name, dataset, _places(dataset, size, seeds), seeds)

    def read(self, place: range) -> Values | None:
        """The values of the examples of a place; None where they cannot be read, or have none that can be compared."""
        tensors = plain_tensors(self.dataset)
        try:
            if tensors is not None:
                return example_values([tensor[place.start : place.stop] for tensor in tensors])
            # The same random state for each example, so that none depends on those before it.
            if isinstance(self.dataset, StreamedExamples):
                with host_randomness(self.seeds):
                    return example_values(self._pass().take(place.stop)[-1])
            return example_values(drawn(self.dataset, list(place), self.seeds, lambda found: found))
        except LostRankError:
            raise
        except Exception:
            # If it is one that training needs, the trial ends with the exception when it comes to it.
            return None

    def first(self) -> list[Digests | None]:
        """Digests of the values at all places, one after the other, since each may take much memory."""
        if not isinstance(self.dataset, StreamedExamples):
            return [_digests(self.read(place)) for place in self.places]
        try:
            with host_randomness(self.seeds):
                beginning = self._pass()
                return [_digests(example_values(beginning.take(1)[0])) for _ in self.places]
        except LostRankError:
            raise
        except Exception:
            return [None] * len(self.places)

    def is_other_again(self, first: Sequence[Digests | None], own: GeneratorStates) -> bool:
        """Whether the examples depend on what was read before; `own` are the generators that the data set has for
        itself, as they were before `first` was read.

        A stream is read by all ranks as on one device: it may draw numbers, if it has no other state.
        """
        if plain_tensors(self.dataset) is not None or not first or first[0] is None:
            return False
        has_drawn = own.have_drawn()
        own.put_back()
        is_other = _digests(self.read(self.places[0])) != first[0]
        return is_other or (has_drawn and not isinstance(self.dataset, StreamedExamples))

    def _pass(self) -> Pass:
        assert isinstance(self.dataset, StreamedExamples)
        return Pass(self.dataset.dataset, len(self.dataset), 0)


def _places(dataset: Dataset[Any], size: int, seeds: np.random.SeedSequence) -> list[range]:
    """The first, the last and others between them."""
    tensors = plain_tensors(dataset)
    if isinstance(dataset, StreamedExamples):
        return [range(place, place + 1) for place in range(min(size, COMPARED))]
    if tensors is not None and sum(tensor.numel() * tensor.element_size() for tensor in tensors) <= WHOLE_BYTES:
        step = max(1, -(-size // COMPARED_TENSORS))
        return [range(first, min(size, first + step)) for first in range(0, size, step)]
    most = COMPARED if tensors is None else COMPARED_TENSORS
    generator = np.random.Generator(np.random.PCG64(seeds))
    chosen = {0, size - 1, *generator.integers(0, size, most - 2).tolist()} if size else set()
    return [range(place, place + 1) for place in sorted(chosen)]


def _digests(values: Values | None) -> Digests | None:
    return None if values is None else digests(values)


def _compare(ranks: Ranks, split: _Split, own: Sequence[Digests | None]) -> str:
    """Compare a split; gives why it cannot be, "" where it was."""
    every = ranks.gathered([None if found is None else found.whole for found in own])
    wrong = [rank for rank, found in enumerate(every) if len(found) != len(every[0])]
    if wrong:
        raise WorkloadError(
            f"the split {split.name!r} has tensors of another type or size on {_devices(wrong)} of the trial than on"
            f" device 0; {_HELP}"
        )
    others = [place for place, found in enumerate(zip(*every, strict=True)) if len(set(found)) > 1]
    texts = ""
    for place in others:
        reason = _confirm(ranks, split, place, own)
        if reason and reason != _TEXTS:
            return reason
        texts = texts or reason
    if texts:
        return texts
    unknown = [found for found in zip(*every, strict=True) if None in found]
    return "its examples cannot be read, or are neither numbers nor text" if unknown else ""


def _confirm(ranks: Ranks, split: _Split, place: int, examples: Sequence[Digests | None]) -> str:
    """Refuse the example at a place where its digests differ, but for rounding; gives why that is not certain."""
    own, stays = None, True
    # Each rank reads as often as the others, and no more than one of them is in memory.
    for _ in range(_DRAWN_AGAIN):
        own = split.read(split.places[place])
        stays = stays and examples[place] is not None and _digests(own) == examples[place]
    every = ranks.gathered((stays, own if own is None else own.sample()))
    are_apart = all(ranks.gathered(differ_by_numbers(examples)))
    if any(values is None for _, values in every):
        return "some of its examples can be read on some of the devices only"
    if not all(stays for stays, _ in every):
        return "its examples are drawn by random numbers that no seed decides"
    first = every[0][1]
    wrong = [rank for rank, (_, values) in enumerate(every) if not are_close(values, first)]
    if not wrong:
        return ""
    if are_apart and all(values is not None and texts_alone_differ(values, first) for _, values in every):
        return _TEXTS
    at = split.places[place]
    where = f"another example {at.start}" if len(at) == 1 else f"other examples among {at.start} to {at.stop - 1}"
    raise WorkloadError(
        f"the split {split.name!r} has {where} on {_devices(wrong)} of the trial than on device 0; {_HELP}"
    )


def _compare_orders(ranks: Ranks, workload: Workload, seed: int) -> str:
    """Refuse a sampler that gives another order for the first epoch on another rank; gives why its order is not that
    of one device, "" where it is.
    """
    if workload.sampler is None:
        return ""
    kept, orders = own_generators(workload.sampler), []
    for _ in range(2):
        try:
            order = sampled_epoch(workload.sampler, workload.data["train"], seed, 0)
            orders.append(order_digest(order))
        except Exception as error:  # training raises it again; its words may have an address
            orders.append(type(error).__name__)
        kept.put_back()
    every = ranks.gathered(orders[0])
    is_other = ranks.agreed(orders[0] != orders[1])
    wrong = [rank for rank, found in enumerate(every) if found != every[0]]
    if wrong:
        raise WorkloadError(
            f"sampler: it gives another order of the examples on {_devices(wrong)} of the trial than on device 0; take"
            " random numbers from the generator that a function gets, or from torch's global one"
        )
    return "the sampler gives another order each time it is asked for the same epoch" if is_other else ""


def refuse_other_orders(ranks: Ranks, epochs: dict[int, str]) -> None:
    """Raise WorkloadError where a sampler gave another order for an epoch on another rank; to be called by all ranks.

    `epochs` has the digests of those that this rank has drawn, which may be more than others have. Of very many, the
    last ones are kept.
    """
    if ranks.count == 1:
        return
    for epoch in sorted(epochs)[:-_KEPT_EPOCHS]:
        del epochs[epoch]
    every = ranks.gathered(dict(epochs))
    for epoch in sorted(set().union(*every)):
        drawn_by = {rank: found[epoch] for rank, found in enumerate(every) if epoch in found}
        first = min(drawn_by)
        wrong = [rank for rank, found in drawn_by.items() if found != drawn_by[first]]
        if wrong:
            raise WorkloadError(
                f"sampler: it gave another order of the examples for epoch {epoch} on {_devices(wrong)} of the trial"
                f" than on device {first}; it may depend on nothing that a device has for itself, as the losses of its"
                " share"
            )


def _devices(ranks: Sequence[int]) -> str:
    return f"device{'s' * (len(ranks) > 1)} {listed(list(map(str, ranks)))}"
