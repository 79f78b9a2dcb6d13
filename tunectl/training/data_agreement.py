"""That all ranks of a trial have the same data: the batch of an update is made of the parts that each of them reads.

Data differ where a process draws a split or a shuffle of its own, or lists files in another order. Some examples of
every split are compared, drawn in the same random state on every rank, and the order in which a sampler gives them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from tunectl.core.errors import LostRankError, WorkloadError
from tunectl.core.wording import listed
from tunectl.training.collation import drawn, plain_tensors
from tunectl.training.data_order import sampled_epoch
from tunectl.training.example_values import (
    Values,
    are_close,
    differ_by_numbers,
    digest,
    example_values,
    texts_alone_differ,
)
from tunectl.training.ranks import Ranks
from tunectl.training.seeds import Purpose, sequence
from tunectl.training.streams import StreamedExamples
from tunectl.workloads.workload import Workload

COMPARED = 8
"""The number of examples of a split that are compared; of a stream they are the first ones."""

COMPARED_TENSORS = 64
"""The same where the split is in memory as tensors; of small ones, of at most WHOLE_BYTES, all are compared."""

WHOLE_BYTES = 2**24

_DRAWN_AGAIN = 8
"""How often an example is read again that differs between the ranks, to see whether it is another one each time."""

_TEXTS = "the texts in its examples differ between the devices, as names of files may; the numbers beside them do not"
_HELP = (
    "each process must have the same data in the same order: draw what is random, as a split, from the factory's"
    " argument `seed`, and sort the names of files"
)
_NOT_COMPARED = "not all data were compared between the devices of the trial"


def refuse_other_data(ranks: Ranks, workload: Workload, seed: int) -> dict[str, str]:
    """Raise WorkloadError where a split has another example on another rank, or the sampler another order.

    To be called by all ranks. Gives a note for the trial about splits that cannot be compared: whose examples cannot be
    read, are neither numbers nor text, or are drawn anew by random numbers that no seed decides.
    """
    if ranks.count == 1:
        return {}
    _compare_orders(ranks, workload, seed)
    reasons = []
    for split, dataset in workload.data.items():
        reason = _compare(ranks, _Split.of(split, dataset, seed))
        reasons += [f"{split}: {reason}"] if reason else []
    return {_NOT_COMPARED: "; ".join(reasons)} if reasons else {}


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
            return example_values(drawn(self.dataset, list(place), self.seeds, list))
        except LostRankError:
            raise
        except Exception:
            # If it is one that training needs, the trial ends with the exception when it comes to it.
            return None

    def first(self) -> list[Values | None]:
        """The values at all places."""
        if not isinstance(self.dataset, StreamedExamples):
            return [self.read(place) for place in self.places]
        try:
            kept = self.dataset.first(len(self.places), self.seeds)
            return [example_values(kept[place]) for place in range(len(self.places))]
        except Exception:
            return [None] * len(self.places)


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


def _compare(ranks: Ranks, split: _Split) -> str:
    """Compare a split; gives why it cannot be, "" where it was."""
    own = split.first()
    every = ranks.gathered([None if values is None else digest(values) for values in own])
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


def _confirm(ranks: Ranks, split: _Split, place: int, examples: Sequence[Values | None]) -> str:
    """Refuse the example at a place where its digests differ, but for rounding; gives why that is not certain."""
    own = examples[place]
    stays = own is not None and all(
        (again := _again(split, place)) is not None and digest(again) == digest(own) for _ in range(_DRAWN_AGAIN)
    )
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


def _again(split: _Split, place: int) -> Values | None:
    return split.first()[place] if isinstance(split.dataset, StreamedExamples) else split.read(split.places[place])


def _compare_orders(ranks: Ranks, workload: Workload, seed: int) -> None:
    """Refuse a sampler that gives another order for the first epoch on another rank."""
    if workload.sampler is None:
        return
    try:
        order = sampled_epoch(workload.sampler, workload.data["train"], seed, 0)
        own = hashlib.blake2b(order.tobytes(), digest_size=16).digest()
    except Exception as error:  # training raises it again
        own = repr(error).encode()
    every = ranks.gathered(own)
    wrong = [rank for rank, found in enumerate(every) if found != every[0]]
    if wrong:
        raise WorkloadError(
            f"sampler: it gives another order of the examples on {_devices(wrong)} of the trial than on device 0; take"
            " random numbers from the generator that a function gets, or from torch's global one"
        )


def _devices(ranks: Sequence[int]) -> str:
    return f"device{'s' * (len(ranks) > 1)} {listed(list(map(str, ranks)))}"
