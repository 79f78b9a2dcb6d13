"""`warmup-sweep`: the shortest warmup that lets training bear rates beyond the unstable one, and whether to adopt it.

Deep Learning Tuning Playbook, "How to apply learning rate warmup": ramp up from 0 to a base rate of about ten times the
unstable one, train at it for a while, and look for the shortest ramp that does not blow up; then put that ramp before
the study's own schedule, sweep the learning rate again, and compare with the sweep without it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tunectl.analysis.figures import PointsFigure
from tunectl.analysis.runs import Run
from tunectl.core.records import Scalar
from tunectl.procedures.procedure import (
    CONSTANT_RATE,
    SEEDS,
    Conclusion,
    Procedure,
    Results,
    SweepSpec,
    Wish,
    has_all,
    repeats,
    runs_of,
)
from tunectl.procedures.rate_plot import rate_plot
from tunectl.procedures.rates import best_rate, judged, log_grid, rounded, runs_by_rate
from tunectl.procedures.warmup_figures import length_figures

LENGTHS, REFINED, WITHOUT, WITH, AGAIN = range(5)
PHASES = (
    "warmup lengths",
    "shorter warmups",
    "learning rates without warmup",
    "learning rates with warmup",
    "the best of each under fresh seeds",
)

LADDER = (2.0, 3.0, 5.0, 10.0, 30.0, 100.0)
"""Factors over the unstable rate, tried from 10 downwards until a warmup holds one, and upwards where asked."""

START_FACTOR = 10.0

LONGEST_PART = 0.1
"""The playbook: the longest warmup to try is 10 % of max_train_steps."""

LONG_PART = 0.05
"""The playbook: a warmup of more than 5 % of max_train_steps may call for more steps."""

SHORTEST_STRETCH = 500
"""Updates at the base rate after a warmup: twice the warmup, and at least so many, since blow-ups come late."""

CLEARLY_BELOW = 0.9
"""A loss below this part of the baseline has been learned, not guessed: a dead network stays within 2 % of it."""

LEARNED_PART = 0.5
"""Where the workload has no baseline_loss: this part of the loss at step 0."""

RATES = 7
"""Rates of each of the two sweeps that are compared."""


@dataclass(frozen=True, slots=True)
class _Held:
    """A factor over the unstable rate, the base rate, and the shortest warmup of the coarse ones that holds it."""

    factor: float
    base: float
    warmup: int


def lengths(max_train_steps: int) -> list[int]:
    """Warmup lengths over orders of magnitude, up to a tenth of max_train_steps, which is the last."""
    longest = max(1, int(max_train_steps * LONGEST_PART))
    found = [10**power for power in range(1, 12) if 10**power <= longest]
    # Not a second one of nearly the same length.
    return found if found and longest < 1.5 * found[-1] else [*found, longest]


def stretch(warmup: int) -> int:
    """How long to train at the base rate after a warmup."""
    return max(2 * warmup, SHORTEST_STRETCH)


def holds(run: Run) -> bool:
    """Whether a run ended with a loss clearly below that of a constant prediction, not merely without a NaN."""
    _, losses = run.curve("train/loss")
    if not run.feasible or len(losses) == 0 or not math.isfinite(losses[-1]):
        return False
    if run.baseline_loss is not None and run.baseline_loss > 0:
        return bool(losses[-1] < CLEARLY_BELOW * run.baseline_loss)
    return bool(losses[-1] < LEARNED_PART * losses[0])


def unstable_rate(spec: SweepSpec) -> float | None:
    """The rate at which training becomes unstable: as the user said, or as the lr-sweep before found."""
    rate = spec.options.get("unstable_lr") or spec.before.get("unstable_base_learning_rate")
    return None if rate is None else float(rate)


def problems(spec: SweepSpec) -> list[str]:
    """What is wrong with what was asked."""
    found = []
    if not spec.before and spec.options.get("unstable_lr") is None:
        found.append(
            "the rate at which training becomes unstable is not known; give --from LR_SWEEP_DIR or --unstable-lr"
        )
    elif spec.before and "unstable_base_learning_rate" not in spec.before:
        found.append("--from: that folder's conclusion.json is no lr-sweep's")
    rate, factor = unstable_rate(spec), spec.options.get("factor", START_FACTOR)
    if rate is not None and not rate > 0:
        found.append(f"--unstable-lr {rate:g}: a rate above 0 is due")
    if not factor > 1:
        found.append(f"--factor {factor:g}: more than 1 is due")
    return found


def is_needed(spec: SweepSpec) -> bool:
    """Whether there is an instability to fix: one that keeps the best rate down, or one that the user named."""
    if spec.options.get("unstable_lr") is not None:
        return True
    return unstable_rate(spec) is not None and spec.before.get("edge_of_stability") is not False


def next_trials(spec: SweepSpec, results: Results) -> Sequence[Wish]:
    """Warmup lengths at falling factors until one holds; shorter ones; two sweeps; the best of each again."""
    if not is_needed(spec):
        return ()
    wishes, held = _search(spec, results)
    if held is None:
        return wishes
    refined = _refined(spec, held)
    wishes = [*wishes, *refined]
    if not has_all(results, wishes):
        return wishes
    warmup = _shortest(results, held)
    wishes = [*wishes, *_sweep(spec, WITHOUT, held, None), *_sweep(spec, WITH, held, warmup)]
    if not has_all(results, wishes):
        return wishes
    return [*wishes, *_again(spec, results, warmup)]


def _factors(spec: SweepSpec) -> tuple[list[float], list[float]]:
    """The factors to go down through, and those to go up through once the first one holds."""
    asked = float(spec.options.get("factor", START_FACTOR))
    start = min(asked, START_FACTOR)
    down = [start, *(factor for factor in reversed(LADDER) if factor < start)]
    up = sorted({factor for factor in (*LADDER, asked) if start < factor <= asked})
    return down, up


def _search(spec: SweepSpec, results: Results) -> tuple[list[Wish], _Held | None]:
    """The trials that look for a warmup, and what holds; None while that is open, and where nothing holds."""
    down, up = _factors(spec)
    wishes: list[Wish] = []
    held = None
    for factor in down:
        wishes += _lengths_at(spec, factor)
        if not has_all(results, wishes):
            return wishes, None
        held = _held_at(spec, results, factor)
        if held is not None:
            break
    if held is None or held.factor != down[0]:
        return wishes, held
    for factor in up:
        wishes += _lengths_at(spec, factor)
        if not has_all(results, wishes):
            return wishes, None
        higher = _held_at(spec, results, factor)
        if higher is None:
            break
        held = higher
    return wishes, held


def _base(spec: SweepSpec, factor: float) -> float:
    return rounded((unstable_rate(spec) or math.nan) * factor)


def _warmed_up(phase: int, point: int, base: float, warmup: int) -> list[Wish]:
    changes: dict[str, Scalar | None] = {
        **CONSTANT_RATE,
        "learning_rate": base,
        "warmup_steps": warmup,
        "warmup": None,
        "post_warmup_steps": None,
    }
    steps = stretch(warmup)
    every = max(1, (steps + warmup) // 20)
    return repeats(phase, point, changes, {"max_train_steps": steps, "eval_every": every, "keep_checkpoints": 1})


def _all_factors(spec: SweepSpec) -> list[float]:
    down, up = _factors(spec)
    return [*down, *up]


def _lengths_at(spec: SweepSpec, factor: float) -> list[Wish]:
    tried = lengths(spec.max_train_steps)
    first = _all_factors(spec).index(factor) * len(tried)
    base = _base(spec, factor)
    return [wish for index, warmup in enumerate(tried) for wish in _warmed_up(LENGTHS, first + index, base, warmup)]


def _holding(results: Results, phase: int, base: float) -> dict[int, bool]:
    """For each warmup that was tried at a base rate whether all of its runs hold."""
    found: dict[int, bool] = {}
    for runs in runs_of(results, phase).values():
        values = runs[0].plan.hyperparameters
        if values["learning_rate"] == base:
            found[int(values["warmup_steps"])] = len(runs) >= SEEDS and all(holds(run) for run in runs)
    return found


def _held_at(spec: SweepSpec, results: Results, factor: float) -> _Held | None:
    base = _base(spec, factor)
    holding = [warmup for warmup, held in _holding(results, LENGTHS, base).items() if held]
    return _Held(factor, base, min(holding)) if holding else None


def _refined(spec: SweepSpec, held: _Held) -> list[Wish]:
    """Warmups a third and a ninth as long, as far as they are longer than the last coarse one that did not hold."""
    tried = lengths(spec.max_train_steps)
    below = max((warmup for warmup in tried if warmup < held.warmup), default=0)
    candidates = dict.fromkeys(round(held.warmup / 3**power) for power in (1, 2))
    return [
        wish
        for point, warmup in enumerate(warmup for warmup in candidates if warmup > below)
        for wish in _warmed_up(REFINED, point, held.base, warmup)
    ]


def _shortest(results: Results, held: _Held) -> int:
    refined = _holding(results, REFINED, held.base)
    return min([held.warmup, *(warmup for warmup, holds_all in refined.items() if holds_all)])


def _rates(spec: SweepSpec, held: _Held) -> list[float]:
    """From below the best rate without warmup up to the base rate: the same for both sweeps."""
    best = spec.before.get("best_learning_rate")
    low = float(best) / 2 if best else (unstable_rate(spec) or held.base) / 6
    return [rounded(rate) for rate in log_grid(rounded(low), held.base, RATES)]


def _own_schedule(warmup: int | None) -> dict[str, Scalar | None]:
    """The study's own schedule, with this warmup before it; None leaves the study as it is."""
    return {} if warmup is None else {"warmup_steps": warmup, "warmup": None, "post_warmup_steps": None}


def _sweep(spec: SweepSpec, phase: int, held: _Held, warmup: int | None) -> list[Wish]:
    return [
        wish
        for point, rate in enumerate(_rates(spec, held))
        for wish in repeats(phase, point, {**_own_schedule(warmup), "learning_rate": rate})
    ]


def _again(spec: SweepSpec, results: Results, warmup: int) -> list[Wish]:
    """The best of each sweep under seeds that had no part in choosing it: the one that was chosen was lucky."""
    wishes = []
    for point, (phase, steps) in enumerate(((WITHOUT, None), (WITH, warmup))):
        best = best_rate(judged(runs_by_rate(results, phase), spec.objective))
        if best is not None:
            changes = {**_own_schedule(steps), "learning_rate": best.rate}
            wishes += [Wish(AGAIN, point, SEEDS + repeat, changes) for repeat in range(SEEDS)]
    return wishes


def conclude(spec: SweepSpec, results: Results) -> Conclusion:
    """The warmup, what it opens, and whether to adopt it."""
    _, held = _search(spec, results) if is_needed(spec) else ([], None)
    if held is None:
        return _nothing_held(spec, results)
    warmup = _shortest(results, held)
    without = best_rate(judged(runs_by_rate(results, WITHOUT), spec.objective))
    with_it = best_rate(judged(runs_by_rate(results, WITH), spec.objective))
    again = runs_of(results, AGAIN)
    adopt = _is_better(spec, again.get(1, []), again.get(0, [])) if with_it is not None else False
    too_long = warmup > LONG_PART * spec.max_train_steps
    answers = {
        "base_learning_rate": held.base,
        "warmup_steps": warmup,
        "post_warmup_steps": stretch(warmup),
        "baseline_best": without.best if without else None,
        "warmup_best": with_it.best if with_it else None,
        "adopt": adopt,
        "raise_max_train_steps": too_long,
    }
    parts = [
        f"A warmup of {warmup} steps lets training bear {held.base:g}, {held.factor:g} times the unstable rate"
        + (
            f"; {spec.options.get('factor', START_FACTOR):g} times it is out of reach."
            if _is_short_of(spec, held)
            else "."
        ),
        _comparison(spec, again, adopt),
    ]
    if too_long:
        parts.append(f"It takes more than {LONG_PART:.0%} of max_train_steps: consider raising max_train_steps.")
    rate = with_it.rate if with_it is not None else held.base
    return Conclusion(
        verdict=" ".join(parts),
        answers=answers,
        header=("learning_rate", "without_warmup", f"with_{warmup}_steps"),
        rows=_rows(spec, results),
        figures=[*length_figures(_length_runs(results)), _axis_plot(spec, results, warmup)],
        advice=f"learning_rate: {rate:g}\nwarmup_steps: {warmup}" if adopt else "",
    )


def _is_short_of(spec: SweepSpec, held: _Held) -> bool:
    return held.factor < float(spec.options.get("factor", START_FACTOR))


def _nothing_held(spec: SweepSpec, results: Results) -> Conclusion:
    names = ("base_learning_rate", "warmup_steps", "post_warmup_steps", "baseline_best", "warmup_best")
    answers = {**dict.fromkeys(names), "adopt": False, "raise_max_train_steps": None}
    if is_needed(spec):
        lowest = _factors(spec)[0][-1]
        verdict = (
            f"No warmup of up to {LONGEST_PART:.0%} of max_train_steps holds even {lowest:g} times the unstable rate. "
            "Go to clip-sweep, then try another optimizer, the initialisation, and a lower learning rate last."
        )
    else:
        verdict = "A warmup is not needed: no instability keeps the best learning rate down."
    return Conclusion(verdict, answers, figures=length_figures(_length_runs(results)))


def _losses(spec: SweepSpec, runs: Sequence[Run]) -> list[float]:
    return [run.loss(spec.objective) for run in runs]


def _is_better(spec: SweepSpec, runs: Sequence[Run], others: Sequence[Run]) -> bool:
    """Whether fresh runs are better: by their medians, and in two thirds of all pairs."""
    if not runs:
        return False
    losses, other = _losses(spec, runs), _losses(spec, others) or [math.inf]
    pairs = [first < second for first in losses for second in other]
    return statistics.median(losses) < statistics.median(other) and 3 * sum(pairs) >= 2 * len(pairs)


def _comparison(spec: SweepSpec, again: dict[int, list[Run]], adopt: bool) -> str:
    def described(runs: Sequence[Run]) -> str:
        values = [
            f"{run.best_value:.4g}" if run.feasible and run.best_value is not None else run.reason for run in runs
        ]
        return ", ".join(values) or "no feasible rate"

    found = f"{described(again.get(1, []))} with it against {described(again.get(0, []))} without"
    metric = spec.objective.metric
    if adopt:
        return f"Under fresh seeds the best rate reaches {metric} {found}: adopt it."
    return f"Under fresh seeds the best rate reaches {metric} {found}: that is no reason to adopt it."


def _rows(spec: SweepSpec, results: Results) -> list[tuple[object, ...]]:
    without, with_it = (runs_by_rate(results, phase) for phase in (WITHOUT, WITH))
    both = {rate: (without.get(rate, []), with_it.get(rate, [])) for rate in sorted({*without, *with_it})}
    return [(rate, *(_cell(spec, rate, runs) for runs in pair)) for rate, pair in both.items()]


def _cell(spec: SweepSpec, rate: float, runs: Sequence[Run]) -> object:
    if not runs:
        return None
    (judgement,) = judged({rate: runs}, spec.objective)
    return judgement.best if judgement.feasible else judgement.kind


def _length_runs(results: Results) -> list[Run]:
    return [run for phase in (LENGTHS, REFINED) for runs in runs_of(results, phase).values() for run in runs]


def _axis_plot(spec: SweepSpec, results: Results, warmup: int) -> PointsFigure:
    series = {
        "without warmup": runs_by_rate(results, WITHOUT),
        f"{warmup} steps of warmup": runs_by_rate(results, WITH),
    }
    return rate_plot(
        "learning-rate-with-and-without",
        "Best value by learning rate, with and without warmup",
        series,
        spec.objective,
        marks={"unstable": unstable_rate(spec)},
        legend="schedule",
    )


WARMUP_SWEEP = Procedure(
    "warmup-sweep", frozenset({"learning_rate", "warmup_steps"}), PHASES, next_trials, conclude, problems
)
