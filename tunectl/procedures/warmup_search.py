"""The search for the shortest warmup after which training is stable at a rate far above the unstable one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tunectl.analysis.results.runs import Run
from tunectl.core.records import Scalar
from tunectl.procedures.curvature_measures import measured_steps, settings_at
from tunectl.procedures.levers import Levers, earlier
from tunectl.procedures.procedure import (
    CONSTANT_RATE,
    SEEDS,
    ProcedureOptions,
    Results,
    SweepSpec,
    Wish,
    has_all,
    repeats,
    runs_of,
)
from tunectl.procedures.rate_judgements import rounded

LADDER = (2.0, 3.0, 5.0, 10.0, 30.0, 100.0)
"""Factors over the unstable rate, tried from 10 downwards until a warmup is stable, and upwards up to --factor."""

START_FACTOR = 10.0

ITSELF = 1.0
"""The factor of the unstable rate itself."""

LONGEST_PART = 0.1
"""The playbook: the longest warmup to try is 10 % of max_train_steps."""

SHORTEST_STRETCH = 500
"""The number of updates at the base rate after a warmup is at least this, and twice the warmup: instability may come
late.
"""


@dataclass(frozen=True)
class WarmupSweepOptions(ProcedureOptions):
    """The options of `warmup-sweep`: the rate at which training is unstable, where no lr-sweep says so, and how many
    times that rate a warmup is to make trainable.
    """

    unstable_lr: float | None = None
    factor: float = START_FACTOR


WarmupSweep = SweepSpec[WarmupSweepOptions]


@dataclass(frozen=True, slots=True)
class Search:
    """Where warmups are looked for: the phases of the coarse lengths and of shorter ones, and the levers beside."""

    coarse: int
    refined: int
    levers: Levers


@dataclass(frozen=True, slots=True)
class Held:
    """A factor over the unstable rate, the base rate, and the shortest stable warmup there with these levers."""

    factor: float
    base: float
    warmup: int
    levers: Levers


def lengths(max_train_steps: int) -> list[int]:
    """Warmup lengths over orders of magnitude, up to a tenth of max_train_steps, which is the last."""
    longest = max(1, int(max_train_steps * LONGEST_PART))
    found = [10**power for power in range(1, 12) if 10**power <= longest]
    # Not a second one of nearly the same length.
    return found if found and longest < 1.5 * found[-1] else [*found, longest]


def stretch(warmup: int) -> int:
    """How long to train at the base rate after a warmup."""
    return max(2 * warmup, SHORTEST_STRETCH)


def unstable_rate(spec: WarmupSweep) -> float | None:
    """The rate at which training becomes unstable: as the user said, or as the procedure before found."""
    rate = spec.options.unstable_lr or earlier(spec).unstable_rate
    return None if rate is None else float(rate)


def is_edge_open(spec: WarmupSweep) -> bool:
    """Whether it is not known that an instability keeps the best rate down: the seeds of lr-sweep did not say, and the
    user named no unstable rate.
    """
    return spec.options.unstable_lr is None and earlier(spec).is_at_edge is None


def factors(spec: WarmupSweep) -> tuple[list[float], list[float]]:
    """The factors to try downwards, and those to try upwards once a warmup is stable at the first one.

    Where the edge is open, the unstable rate itself comes last: if training is stable there with a warmup, the rates
    below it with the warmup show whether an instability kept the best one down.
    """
    asked = spec.options.factor
    start = min(asked, START_FACTOR)
    down = [start, *(factor for factor in reversed(LADDER) if factor < start)]
    up = sorted({factor for factor in (*LADDER, asked) if start < factor <= asked})
    return ([*down, ITSELF] if is_edge_open(spec) else down), up


def search(spec: WarmupSweep, results: Results, start: Search) -> tuple[list[Wish], Held | None]:
    """The trials that look for a warmup, and the shortest stable one; None while that is open, and without one."""
    wishes, coarse = _coarse(spec, results, start)
    if coarse is None:
        return wishes, None
    wishes = [*wishes, *_refined(spec, results, start, coarse)]
    if not has_all(results, wishes):
        return wishes, None
    refined = _holding(results, start.refined, coarse.base)
    shortest = min([coarse.warmup, *(warmup for warmup, holds_all in refined.items() if holds_all)])
    return wishes, replace(coarse, warmup=shortest)


def _coarse(spec: WarmupSweep, results: Results, start: Search) -> tuple[list[Wish], Held | None]:
    down, up = factors(spec)
    wishes: list[Wish] = []
    held = None
    for factor in down:
        wishes += _lengths_at(spec, results, start, factor)
        if not has_all(results, wishes):
            return wishes, None
        held = _held_at(spec, results, start, factor)
        if held is not None:
            break
    if held is None or held.factor != down[0]:
        return wishes, held
    for factor in up:
        wishes += _lengths_at(spec, results, start, factor)
        if not has_all(results, wishes):
            return wishes, None
        higher = _held_at(spec, results, start, factor)
        if higher is None:
            break
        held = higher
    return wishes, held


def _base(spec: WarmupSweep, factor: float) -> float:
    return rounded((unstable_rate(spec) or math.nan) * factor)


def _warmed_up(spec: WarmupSweep, phase: int, place: tuple[int, float], levers: Levers) -> list[Wish]:
    """A warmup under all seeds; `place` is the point in the phase, and the base rate."""
    point, base = place
    changes: Mapping[str, Scalar | None] = {**levers.changes, **CONSTANT_RATE, "learning_rate": base}
    warmup = levers.warmup or 0
    steps = stretch(warmup)
    every = max(1, (steps + warmup) // 20)
    wishes = repeats(phase, point, changes, {"max_train_steps": steps, "eval_every": every, "keep_checkpoints": 1})
    if spec.own_code:
        return wishes
    measured = settings_at(spec, measured_steps(steps + warmup, warmup), dict(spec.values))
    # One seed of each: the others would show the same, and be as expensive.
    return [replace(wish, curvature=measured, curvature_needed=False) if wish.repeat == 0 else wish for wish in wishes]


def _lengths_at(spec: WarmupSweep, results: Results, start: Search, factor: float) -> list[Wish]:
    tried = lengths(spec.max_train_steps)
    down, up = factors(spec)
    first = sorted([*down, *up], key=lambda item: item == ITSELF).index(factor) * len(tried)
    base = _base(spec, factor)
    wishes = [
        wish
        for index, warmup in enumerate(tried)
        for wish in _warmed_up(spec, start.coarse, (first + index, base), replace(start.levers, warmup=warmup))
    ]
    return _until_one_is_lost(results, wishes)


def _until_one_is_lost(results: Results, wishes: Sequence[Wish]) -> list[Wish]:
    """The first seed of each warmup, then the others where it is stable: one seed that is not rejects a warmup."""
    first = [wish for wish in wishes if wish.repeat == 0]
    if not has_all(results, first):
        return first
    held = {wish.point for wish in first if has_learned(results[wish.phase, wish.point, 0])}
    return [wish for wish in wishes if wish.repeat == 0 or wish.point in held]


def _holding(results: Results, phase: int, base: float) -> dict[int, bool]:
    """For each warmup that was tried at a base rate whether all of its runs have learned."""
    found: dict[int, bool] = {}
    for runs in runs_of(results, phase).values():
        values = runs[0].plan.hyperparameters
        if values["learning_rate"] == base:
            found[int(values["warmup_steps"])] = all_have_learned(runs)
    return found


def _held_at(spec: WarmupSweep, results: Results, start: Search, factor: float) -> Held | None:
    base = _base(spec, factor)
    holding = [warmup for warmup, held in _holding(results, start.coarse, base).items() if held]
    return Held(factor, base, min(holding), start.levers) if holding else None


def _refined(spec: WarmupSweep, results: Results, start: Search, held: Held) -> list[Wish]:
    """Warmups a third and a ninth as long, if they are longer than the last coarse one that was not stable."""
    tried = lengths(spec.max_train_steps)
    below = max((warmup for warmup in tried if warmup < held.warmup), default=0)
    shorter = dict.fromkeys(round(held.warmup / 3**power) for power in (1, 2))
    wishes = [
        wish
        for point, warmup in enumerate(warmup for warmup in shorter if warmup > below)
        for wish in _warmed_up(spec, start.refined, (point, held.base), replace(start.levers, warmup=warmup))
    ]
    return _until_one_is_lost(results, wishes)


CLEARLY_BELOW = 0.9
"""A loss below this part of the baseline has been learned, not guessed: a dead network stays within 2 % of it."""

LEARNED_PART = 0.5
"""Where the workload has no baseline_loss: this part of the loss at step 0."""

LIKE_THE_OTHERS = 0.75
"""A run whose loss has fallen by less than this part of another seed's fall was damaged: half of its units may be dead.
It is below the baseline, but it was not stable.
"""


def has_learned(run: Run) -> bool:
    """Whether a run ended with a loss clearly below that of a constant prediction, not only without a NaN."""
    _, losses = run.curve("train/loss")
    if not run.feasible or len(losses) == 0 or not math.isfinite(losses[-1]):
        return False
    if run.baseline_loss is not None and run.baseline_loss > 0:
        return bool(losses[-1] < CLEARLY_BELOW * run.baseline_loss)
    return bool(losses[-1] < LEARNED_PART * losses[0])


def all_have_learned(runs: Sequence[Run]) -> bool:
    """Whether a warmup is stable: each of SEEDS runs has learned, and none is far behind the one that has learned most.

    How far a run has come is the fall of its evaluated training loss, from the loss of a constant prediction where that
    is known, else from step 0.
    """
    if len(runs) < SEEDS or not all(has_learned(run) for run in runs):
        return False
    falls = [_fall(run) for run in runs]
    return min(falls) >= LIKE_THE_OTHERS * max(falls)


def _fall(run: Run) -> float:
    _, losses = run.curve("train/loss")
    known = run.baseline_loss is not None and run.baseline_loss > 0
    return float((run.baseline_loss if known else losses[0]) - losses[-1])
