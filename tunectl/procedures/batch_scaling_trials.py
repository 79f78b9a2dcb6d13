"""The trials of `batch-scaling` in one setting: one batch size after the other, the smallest first.

A larger batch, tuned, never takes more steps than a smaller one, and with perfect scaling half of those of half the
batch. So the steps that one batch size took say how long the trials of the next one train, and how often they are
evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from tunectl.procedures.batch_scaling_options import (
    AGAIN,
    FINER,
    MOST_BATCHES,
    MOST_POINTS,
    SEARCH,
    WIDER,
    BatchScaling,
    Candidate,
    batch_sizes,
    candidates_in,
    largest_batch,
    longest_steps,
    ratio_of_rates,
    target_of,
)
from tunectl.procedures.batch_scaling_outcomes import BatchOutcome, Scaling, Tried, is_useful, reached, tried_as
from tunectl.procedures.procedure import CONSTANT_RATE, Results, Wish, changes_to, covered_settings, has_all
from tunectl.procedures.rate_judgements import rounded

MARGIN = 2.0
"""A trial is as long as this many times the steps of the smaller batch: enough also for rates near the best one."""

FEWEST_STEPS = 20
"""No trial is shorter: how it ends is judged from its last updates."""

RESOLUTION = 20
"""With perfect scaling this many evaluations come before the target, so that its step is known to 5 % ..."""

COARSE = 10
"""... and where it was reached within fewer evaluations, the best are trained again and evaluated more often."""

FIRST_EVALUATIONS = 50
"""At least this many evaluations at the smallest batch, whose steps are not known before."""

CONTENDERS = 3
"""As many of the best run under the other seeds: one seed alone would name the best by luck."""

MOST_WIDER = 4
"""So often the rates are extended by a decade where the best one is at the end of them."""

PATIENCE = 2
"""No larger batch is tried after this many in a row that were not useful, as in `batch-size`, and where the target was
not reached at this many and the first one.
"""


@dataclass
class Explored:
    """What is known of a setting: the trials that its results call for, and the batch sizes that are complete.

    `why_ended` says why no larger batch is tried, "" where trials are missing.
    """

    wishes: list[Wish] = field(default_factory=list)
    found: list[BatchOutcome] = field(default_factory=list)
    why_ended: str = ""

    @property
    def scaling(self) -> Scaling:
        """How the batch sizes compare."""
        return Scaling(tuple(self.found), self.why_ended)


def explored(spec: BatchScaling, results: Results, place: int) -> Explored:
    """What the results so far say about the setting at this place, and call for."""
    state = Explored()
    sizes = batch_sizes(spec)
    for index, size in enumerate(sizes):
        examples = next((item.train_examples for item in state.found if item.train_examples is not None), None)
        if examples is not None and size > examples:
            state.why_ended = f"it would be larger than the training set ({examples:,} examples)"
            return state
        search = _Search(spec, results, place, index, *_length(spec, state.found))
        outcome = search.outcome()
        state.wishes += search.wishes
        if outcome is None:
            return state
        state.found.append(outcome)
        why = _why_no_larger(spec, state.found)
        if why and size != sizes[-1]:
            state.why_ended = why
            return state
    state.why_ended = f"--high is {largest_batch(spec):g}" if spec.options.high else "it would not be in the study"
    return state


def _why_no_larger(spec: BatchScaling, found: Sequence[BatchOutcome]) -> str:
    """Why no larger batch is tried, in words; "" where it is."""
    if found[-1].out_of_memory:
        return f"a batch of {found[-1].batch_size} runs out of memory"
    if spec.options.all_batches or len(found) <= PATIENCE:
        return ""
    last = range(len(found) - PATIENCE, len(found))
    if not reached(found):
        return f"the target was not reached at the first {len(found)} (--all-batches goes on)"
    if not any(is_useful(found, place) for place in last):
        return f"the last {PATIENCE} took not clearly fewer steps (--all-batches goes on)"
    return ""


def _length(spec: BatchScaling, found: Sequence[BatchOutcome]) -> tuple[int, int]:
    """How many steps the trials of the next batch size train, and after how many each is evaluated."""
    longest, before = longest_steps(spec), reached(found)
    if spec.own_code:
        return longest, spec.eval_every
    if not before:
        return longest, min(spec.eval_every, max(1, longest // FIRST_EVALUATIONS))
    steps = before[-1].steps_to_target
    return min(longest, max(FEWEST_STEPS, math.ceil(MARGIN * steps))), max(1, int(steps / (2 * RESOLUTION)))


@dataclass
class _Search:
    """The search for the best candidate at one batch size, which collects its `wishes`."""

    spec: BatchScaling
    results: Results
    place: int
    index: int
    steps: int
    every: int
    wishes: list[Wish] = field(default_factory=list)

    @property
    def batch_size(self) -> int:
        return batch_sizes(self.spec)[self.index]

    def outcome(self) -> BatchOutcome | None:
        """The outcome; None where trials are missing."""
        searched = self._searched()
        if searched is None:
            return None
        ranked = sorted(enumerate(searched), key=lambda pair: pair[1].rank)
        contenders = [(place, item.candidate) for place, item in ranked if math.isfinite(item.median)][:CONTENDERS]
        seeds = range(self.spec.options.seeds)
        if not self._have([self._wish(AGAIN, item, repeat) for item in contenders for repeat in seeds[1:]]):
            return None
        best, every = self._best(contenders, (*self._first_phases, AGAIN)), self.every
        finer = self._finer_every(best)
        if best is not None and finer is not None:
            if not self._have(
                [self._wish(FINER, item, repeat, every=finer, best=best) for item in contenders for repeat in seeds]
            ):
                return None
            best, every = self._best(contenders, (FINER,)), finer
        return BatchOutcome(self.batch_size, searched, best, self.steps, every)

    def _searched(self) -> list[Tried] | None:
        """Every candidate under the first seed, with those beyond the range; None where one is missing."""
        setting = covered_settings(self.spec)[self.place]
        candidates, more, phase = list[Candidate](), candidates_in(self.spec, setting), SEARCH
        for wider in range(MOST_WIDER + 1):
            places = enumerate(more, start=len(candidates))
            if not self._have([self._wish(phase, item, 0) for item in places]):
                return None
            candidates += more
            searched = [self._tried(item, self._first_phases, 1) for item in enumerate(candidates)]
            more, phase = _beyond(searched, ratio_of_rates(self.spec, setting)) if wider < MOST_WIDER else [], WIDER
            if not more:
                break
        return searched

    _first_phases = (SEARCH, WIDER)

    def _best(self, contenders: Sequence[tuple[int, Candidate]], phases: Sequence[int]) -> Tried | None:
        """The best of these by their runs in some phases."""
        tried = [self._tried(item, phases, self.spec.options.seeds) for item in contenders]
        return min(tried, key=lambda item: item.rank, default=None)

    def _finer_every(self, best: Tried | None) -> int | None:
        """The distance of evaluations that is fine enough, where that of the search is not; else None."""
        if best is None or not math.isfinite(best.median) or self.spec.own_code:
            return None
        if self.every == 1 or best.median / self.every >= COARSE:
            return None
        return max(1, int(best.median / RESOLUTION))

    def _tried(self, item: tuple[int, Candidate], phases: Sequence[int], seeds: int) -> Tried:
        keys = [(phase, self._point(item[0]), repeat) for repeat in range(seeds) for phase in phases]
        runs = [self.results[key] for key in keys if key in self.results]
        return tried_as(item[1], runs, self.spec.objective, target_of(self.spec) or 0.0)

    def _point(self, candidate: int) -> int:
        return (self.place * MOST_BATCHES + self.index) * MOST_POINTS + candidate

    def _wish(
        self,
        phase: int,
        item: tuple[int, Candidate],
        repeat: int,
        *,
        every: int | None = None,
        best: Tried | None = None,
    ) -> Wish:
        """A trial; with `every` and the `best` so far one that is evaluated more often, and as long as that needs."""
        setting, steps = covered_settings(self.spec)[self.place], self.steps
        changes = {**changes_to(self.spec, setting), **item[1].changes, "batch_size": self.batch_size, **CONSTANT_RATE}
        if best is not None:
            steps = min(steps, max(FEWEST_STEPS, math.ceil(MARGIN * best.median)))
        training = {"max_train_steps": steps, "eval_every": min(every or self.every, steps), "keep_checkpoints": 1}
        return Wish(phase, self._point(item[0]), repeat, changes, training)

    def _have(self, wishes: Sequence[Wish]) -> bool:
        """Whether all of these have ended; they are added to what is wished."""
        self.wishes += wishes
        return has_all(self.results, wishes)


def _beyond(searched: Sequence[Tried], ratio: float) -> list[Candidate]:
    """The rates of another decade beyond the end at which the best candidate is, with its other values."""
    best = min(searched, key=lambda item: item.rank)
    rates = sorted({item.candidate.rate for item in searched})
    count = max(1, round(math.log(10) / math.log(ratio)))
    feasible = any(run.feasible for run in best.runs)
    if not feasible and all(item.runs[0].reason == "out_of_memory" for item in searched):
        return []
    if feasible and best.candidate.rate == rates[-1]:
        return [Candidate(rounded(rates[-1] * ratio ** (i + 1)), best.candidate.others) for i in range(count)]
    # Where all are infeasible, a rate that is too large is the usual reason.
    if not feasible or best.candidate.rate == rates[0]:
        return [Candidate(rounded(rates[0] / ratio ** (i + 1)), best.candidate.others) for i in range(count)]
    return []
