"""The changes that `profile` tries, and what each of them brought."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tunectl.core.records import PREFETCHED, Scalar
from tunectl.language.configuration import EVAL_BATCH_SIZE
from tunectl.procedures.procedure import SweepSpec
from tunectl.procedures.profile_parts import NAMES, Parts, seconds_of_parts, seconds_of_update

WORTH_TRYING = 0.05
"""A change is tried where the part of the time that it is about is at least this large: it can save no more."""

CLEAR = 0.03
"""A gain of less than this is none, however small the noise: nothing is worth changing for it."""

CHANCE = 0.015
"""A gain is one of noise where it would be as clear by chance more often than this: of four and four trials all must be
faster (1/70), of eight and eight most.
"""

FEWEST_EVALUATIONS = 10
"""A trial keeps at least this many evaluations: of fewer, the best one says little."""

MORE_PREFETCHED = 4
MORE_AT_ONCE = 4
"""How many times as many batches are made in advance, and examples evaluated at once."""

WAITING, COPYING, COMPUTING, EVALUATING, SAVING = NAMES


@dataclass(frozen=True, slots=True)
class Proposal:
    """A change of the study: `name` is the line of YAML, in the section `section` ("" for a hyperparameter).

    `key` is what it changes: of several proposals for one key, one can be adopted. `about` are the parts of the
    time that it is about. `hyperparameters` and `training` are the changes of a trial.
    """

    name: str
    key: str
    section: str
    about: tuple[str, ...] = ()
    hyperparameters: Mapping[str, Scalar] = field(default_factory=dict)
    training: Mapping[str, int] = field(default_factory=dict)


ALL_OF_THEM = Proposal("all that help", "", "")
"""All changes that help at once."""


def proposals(spec: SweepSpec[Any], measured: Parts) -> list[Proposal]:
    """The changes that are worth trying on this trial; they depend on nothing else."""
    seconds = seconds_of_parts(spec, measured)
    total = sum(seconds.values())
    found = [*_of_data(measured), *_of_evaluation(spec, measured, seconds)]
    return [change for change in found if sum(seconds[part] for part in change.about) >= WORTH_TRYING * total]


def _of_data(measured: Parts) -> list[Proposal]:
    """More loader processes, more batches in advance, examples kept in memory."""
    if measured.kept("train") == "in memory" and measured.kept("valid") == "in memory":
        return []
    cores, workers = int(measured.facts["cores"]), measured.workers
    found = []
    if measured.kept("train") != "in memory":
        # Of an iterable data set one process makes the batches, however many there are to be.
        is_one = measured.kept("train") == "in order"
        counts = {1} if is_one else {max(1, cores // 2), cores} | ({2 * workers} if workers else set())
        found += [
            _of_resources("data_workers", count, (WAITING,))
            for count in sorted(counts)
            if workers < count <= max(cores, 2 * workers)
        ]
        if workers:
            found.append(_of_resources("prefetch_batches", MORE_PREFETCHED * PREFETCHED, (WAITING,)))
    about = [part for part, split in ((WAITING, "train"), (EVALUATING, "valid")) if measured.kept(split) == ""]
    if about:
        change = _of_resources("cache_examples", 1, tuple(about))
        found.append(Proposal("cache_examples: true", *(change.key, change.section, change.about, {}, change.training)))
    return found


def _of_resources(name: str, value: int, about: tuple[str, ...]) -> Proposal:
    return Proposal(f"{name}: {value}", name, "resources", about, training={name: value})


def _of_evaluation(spec: SweepSpec[Any], measured: Parts, seconds: Mapping[str, float]) -> list[Proposal]:
    """Fewer evaluations, and with them checkpoints; larger batches in them."""
    found = []
    every = _rarer(spec, seconds)
    if every > spec.eval_every:
        found.append(
            Proposal(
                f"eval_every: {every}", "eval_every", "training", (EVALUATING, SAVING), training={"eval_every": every}
            )
        )
    size = int(spec.values.get("eval_batch_size") or max(EVAL_BATCH_SIZE, int(spec.values.get("batch_size", 0))))
    if measured.facts["evaluated_examples"] > size:
        larger = MORE_AT_ONCE * size
        found.append(
            Proposal(f"eval_batch_size: {larger}", "eval_batch_size", "", (EVALUATING,), {"eval_batch_size": larger})
        )
    return found


def _rarer(spec: SweepSpec[Any], seconds: Mapping[str, float]) -> int:
    """The study's eval_every, doubled until evaluating and saving take little, or few evaluations are left."""
    steps, factor = spec.max_train_steps + spec.prepended_warmup, 1
    part, rest = seconds[EVALUATING] + seconds[SAVING], sum(seconds.values())
    rest -= part
    while part / factor >= WORTH_TRYING * (rest + part / factor):
        if steps < FEWEST_EVALUATIONS * spec.eval_every * 2 * factor:
            break
        factor *= 2
    return spec.eval_every * factor


@dataclass(frozen=True, slots=True)
class TimedChange:
    """A change, and what was measured without and with it, each several times; `reason` is why it does not work."""

    spec: SweepSpec[Any]
    change: Proposal
    without: Sequence[Parts]
    measured: Sequence[Parts]
    reason: str = ""

    @property
    def before(self) -> list[float]:
        """Seconds of an update without the change."""
        return [seconds_of_update(self.spec, item) for item in self.without]

    @property
    def after(self) -> list[float]:
        """Seconds of an update with it."""
        return [seconds_of_update(self.spec, item) for item in self.measured]

    @property
    def works(self) -> bool:
        """Whether a trial with it could be timed each time."""
        return not self.reason and len(self.measured) > 0

    @property
    def gain(self) -> float:
        """The part of the time that it saves, by the medians; negative where it costs time."""
        return 1 - float(np.median(self.after)) / float(np.median(self.before)) if self.works else -math.inf

    @property
    def helps(self) -> bool:
        """Whether the trials with it are faster than those without, beyond chance and by enough to be worth it."""
        return self.works and self.gain >= CLEAR and chance_of_less(self.after, self.before) <= CHANCE

    @property
    def harms(self) -> bool:
        """Whether the trials with it are slower than those without, beyond chance."""
        return self.works and self.gain <= -CLEAR and chance_of_less(self.before, self.after) <= CHANCE

    @property
    def is_open(self) -> bool:
        """Whether more trials could show that it helps."""
        return self.works and self.gain >= CLEAR and not self.helps


def chance_of_less(less: Sequence[float], more: Sequence[float]) -> float:
    """How often the first numbers would be below the second ones at least as clearly, if all came from one source.

    By ranks (Mann and Whitney, "On a test of whether one of two random variables is stochastically larger than the
    other", 1947), exactly: an outlier counts no more than any other number. Equal numbers count for one half.
    """
    inversions = sum(1.0 if one > other else 0.5 if one == other else 0.0 for one in less for other in more)
    # ways[n, u]: of the orders of n of the first and m of the second numbers, those with u inversions; m from 0 on.
    first, second = len(less), len(more)
    ways = np.zeros((first + 1, first * second + 1))
    ways[:, 0] = 1.0
    for m in range(1, second + 1):
        for n in range(1, first + 1):
            # The largest of all is one of the second (no inversion with those of the first), or one of the first.
            ways[n, m:] += ways[n - 1, : ways.shape[1] - m]
    return float(ways[first, : math.ceil(inversions) + 1].sum() / ways[first].sum())


def helpful(found: Sequence[TimedChange]) -> list[TimedChange]:
    """Those that help, the best first."""
    return sorted((item for item in found if item.helps), key=lambda item: -item.gain)


def together(found: Sequence[TimedChange]) -> list[Proposal]:
    """The changes that can be made together: of those for one key the best."""
    best: dict[str, Proposal] = {}
    for item in found:
        best.setdefault(item.change.key, item.change)
    return list(best.values())
