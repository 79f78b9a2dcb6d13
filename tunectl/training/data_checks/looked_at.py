"""Reads the examples of a split, within a time, and keeps of them what the checks need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from tunectl.training.cached_examples import read_twice
from tunectl.training.collation import fetched
from tunectl.training.data_checks.fingerprints import Fingerprint, Fingerprints
from tunectl.training.data_checks.leaves import Array, Example, UnreadableExampleError, example
from tunectl.training.seeds import Purpose, host_randomness, sequence
from tunectl.training.streams import StreamedExamples

_AT_ONCE = 64


@dataclass(slots=True)
class Span:
    """The lowest and the highest value of each feature of an input that has one shape; None where shapes differ."""

    low: Array | None
    high: Array | None

    def add(self, leaf: Array) -> None:
        """Include an example."""
        if self.low is None or self.high is None:
            return
        if self.low.shape != leaf.shape:
            self.low = self.high = None
            return
        np.minimum(self.low, leaf, out=self.low)
        np.maximum(self.high, leaf, out=self.high)


@dataclass(slots=True)
class LookedAt:
    """A split of `size` examples, and what was seen of those in `examples`, by their order there.

    `random`: its examples are not the same each time, so that their fingerprints say nothing. `unread` says what could
    not be read. `not_finite` are by place the examples with NaN or infinite values.
    """

    dataset: Dataset[Any]
    size: int
    random: bool = False
    unread: str = ""
    examples: list[int] = field(default_factory=list)
    fingerprints: list[Fingerprint] = field(default_factory=list)
    labels: dict[str, list[int]] = field(default_factory=dict)
    spans: dict[str, Span] = field(default_factory=dict)
    not_finite: dict[str, list[int]] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether all of it was looked at."""
        return len(self.examples) == self.size

    def add(self, index: int, found: Example, fingerprints: Fingerprints) -> None:
        """Note an example."""
        self.examples.append(index)
        if not self.random:
            made = fingerprints.of(found.inputs)
            # Examples that are only similar are read again, which would take a pass of a stream for each.
            is_stream = isinstance(self.dataset, StreamedExamples)
            self.fingerprints.append(replace(made, numbers=None, has_text=False) if is_stream else made)
        for place, label in found.labels.items():
            self.labels.setdefault(place, []).append(label)
        for place, leaf in (*found.inputs.items(), *found.targets.items()):
            if isinstance(leaf, str):
                continue
            if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
                self.not_finite.setdefault(place, []).append(index)
            elif place in found.inputs and place not in self.spans:
                self.spans[place] = Span(leaf.copy(), leaf.copy())
            elif place in found.inputs:
                self.spans[place].add(leaf)


def look_at(
    dataset: Dataset[Any], fingerprints: Fingerprints, *, seed: int, until: float, now: Callable[[], float]
) -> LookedAt:
    """Look at the examples of a split until the time `until`: all of them, or a random sample, at least one chunk.

    An exception of the data set passes.
    """
    size = len(dataset)  # type: ignore[arg-type]
    found = LookedAt(dataset, size, random=read_twice(dataset, seed) is None)
    is_stream = isinstance(dataset, StreamedExamples)
    # To read a stream in another order takes a pass for each example.
    order = np.arange(size) if is_stream else np.random.default_rng(seed).permutation(size)
    for number, first in enumerate(range(0, size, _AT_ONCE)):
        if first and now() >= until:
            break
        try:
            with host_randomness(sequence(seed, Purpose.EXAMPLES, number)):
                for index in order[first : first + _AT_ONCE].tolist():
                    # One at a time: a data set may give the same buffer each time.
                    (item,) = fetched(dataset, [index])
                    found.add(index, example(item), fingerprints)
        except UnreadableExampleError as error:
            found.unread = str(error)
            break
    return found


def reread(split: LookedAt, place: int, seed: int) -> Example:
    """The example at a place of what was looked at, read again."""
    with host_randomness(sequence(seed, Purpose.EXAMPLES, place)):
        (item,) = fetched(split.dataset, [split.examples[place]])
    return example(item)
