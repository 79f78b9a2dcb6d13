"""`warmup-sweep`: the shortest warmup that lets training bear rates beyond the unstable one, and whether to adopt it.

Deep Learning Tuning Playbook, "How to apply learning rate warmup": ramp up from 0 to a base rate of about ten times the
unstable one, train at it for a while, and look for the shortest ramp that does not blow up; then put that ramp before
the study's own schedule, sweep the learning rate again, and compare with the sweep without it. The shortest ramp is by
its nature close to the edge: one three times as long is swept, too, and `warmup_recipe` chooses among both. Where that
would be too long, one a third as long is: it does not hold the base rate, but it may be the better one below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tunectl.analysis.runs import Run
from tunectl.core.records import Scalar
from tunectl.procedures.procedure import (
    CONSTANT_RATE,
    Conclusion,
    OwnCodeNeeds,
    Procedure,
    Results,
    SweepSpec,
    Wish,
    by_majority,
    has_all,
    repeats,
    runs_of,
)
from tunectl.procedures.rates import log_grid, rounded
from tunectl.procedures.warmup_figures import length_figures, sweeps_figure
from tunectl.procedures.warmup_holding import hold, holds
from tunectl.procedures.warmup_recipe import (
    Judged,
    Recipe,
    candidates,
    chosen,
    fresh_runs,
    is_safer,
    judged_again,
    recipe_lines,
    sweep_rows,
)

LENGTHS, REFINED, WITHOUT, WITH, OTHER, AGAIN = range(6)
PHASES = (
    "warmup lengths",
    "shorter warmups",
    "learning rates without warmup",
    "learning rates with warmup",
    "learning rates with another warmup",
    "the safest of each under fresh seeds",
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

RATES = 6
"""Rates of each of the two sweeps that are compared."""

HIGHER_RATES = 3
"""The highest of them, for another warmup: for a longer one, since the lower rates bear the shorter one; for a shorter
one without the base rate, which it does not hold.
"""


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
    """Warmup lengths at falling factors until one holds; shorter ones; the sweeps; the safest of each again."""
    if not is_needed(spec):
        return ()
    wishes, held = _search(spec, results)
    if held is None:
        return wishes
    refined = _refined(spec, results, held)
    wishes = [*wishes, *refined]
    if not has_all(results, wishes):
        return wishes
    sweeps = _sweeps(spec, _shortest(results, held))
    swept = [wish for phase in sweeps for wish in _sweep(spec, phase, held, sweeps)]
    wishes = [*wishes, *by_majority(results, swept)]
    if not has_all(results, wishes):
        return wishes
    return [*wishes, *fresh_runs(AGAIN, [*_without(spec, results), *_with(spec, results, sweeps)])]


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
        wishes += _lengths_at(spec, results, factor)
        if not has_all(results, wishes):
            return wishes, None
        held = _held_at(spec, results, factor)
        if held is not None:
            break
    if held is None or held.factor != down[0]:
        return wishes, held
    for factor in up:
        wishes += _lengths_at(spec, results, factor)
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


def _lengths_at(spec: SweepSpec, results: Results, factor: float) -> list[Wish]:
    tried = lengths(spec.max_train_steps)
    first = _all_factors(spec).index(factor) * len(tried)
    base = _base(spec, factor)
    wishes = [wish for index, warmup in enumerate(tried) for wish in _warmed_up(LENGTHS, first + index, base, warmup)]
    return _until_one_is_lost(results, wishes)


def _until_one_is_lost(results: Results, wishes: Sequence[Wish]) -> list[Wish]:
    """The first seed of each warmup, and the others of those that hold it: one lost seed settles that one does not."""
    first = [wish for wish in wishes if wish.repeat == 0]
    if not has_all(results, first):
        return first
    held = {wish.point for wish in first if holds(results[wish.phase, wish.point, 0])}
    return [wish for wish in wishes if wish.repeat == 0 or wish.point in held]


def _holding(results: Results, phase: int, base: float) -> dict[int, bool]:
    """For each warmup that was tried at a base rate whether all of its runs hold."""
    found: dict[int, bool] = {}
    for runs in runs_of(results, phase).values():
        values = runs[0].plan.hyperparameters
        if values["learning_rate"] == base:
            found[int(values["warmup_steps"])] = hold(runs)
    return found


def _held_at(spec: SweepSpec, results: Results, factor: float) -> _Held | None:
    base = _base(spec, factor)
    holding = [warmup for warmup, held in _holding(results, LENGTHS, base).items() if held]
    return _Held(factor, base, min(holding)) if holding else None


def _refined(spec: SweepSpec, results: Results, held: _Held) -> list[Wish]:
    """Warmups a third and a ninth as long, as far as they are longer than the last coarse one that did not hold."""
    tried = lengths(spec.max_train_steps)
    below = max((warmup for warmup in tried if warmup < held.warmup), default=0)
    candidates = dict.fromkeys(round(held.warmup / 3**power) for power in (1, 2))
    wishes = [
        wish
        for point, warmup in enumerate(warmup for warmup in candidates if warmup > below)
        for wish in _warmed_up(REFINED, point, held.base, warmup)
    ]
    return _until_one_is_lost(results, wishes)


def _shortest(results: Results, held: _Held) -> int:
    refined = _holding(results, REFINED, held.base)
    return min([held.warmup, *(warmup for warmup, holds_all in refined.items() if holds_all)])


def _longer(spec: SweepSpec, warmup: int) -> int | None:
    """About three times this warmup, as far as a tenth of max_train_steps allows; None where that is hardly more."""
    longest = lengths(spec.max_train_steps)[-1]
    # One that was tried before rather than one of nearly the same length.
    near = [tried for tried in lengths(spec.max_train_steps) if 2.5 * warmup <= tried <= 3.5 * warmup]
    wanted = min(near[0] if near else 3 * warmup, longest)
    return wanted if wanted >= 1.5 * warmup else None


def _sweeps(spec: SweepSpec, shortest: int) -> dict[int, int | None]:
    """The phases of the sweeps that are compared, with the warmup of each, None for none."""
    other = _longer(spec, shortest) or round(shortest / 3)
    return {WITHOUT: None, WITH: shortest} | ({OTHER: other} if other > 0 else {})


def _rates(spec: SweepSpec, held: _Held) -> list[float]:
    """From the best rate without warmup, below which nothing is gained, up to the base rate."""
    best = spec.before.get("best_learning_rate")
    low = float(best) if best else (unstable_rate(spec) or held.base) / 6
    return [rounded(rate) for rate in log_grid(rounded(low), held.base, RATES)]


def _sweep(spec: SweepSpec, phase: int, held: _Held, sweeps: dict[int, int | None]) -> list[Wish]:
    rates = list(enumerate(_rates(spec, held)))
    warmup = sweeps[phase]
    if phase == OTHER:
        longer = (warmup or 0) > (sweeps[WITH] or 0)
        rates = rates[-HIGHER_RATES:] if longer else rates[-HIGHER_RATES - 1 : -1]
    return [wish for point, rate in rates for wish in repeats(phase, point, Recipe(warmup, rate).changes)]


def _without(spec: SweepSpec, results: Results) -> list[Recipe]:
    return candidates(results, {WITHOUT: None}, spec.objective)


def _with(spec: SweepSpec, results: Results, sweeps: dict[int, int | None]) -> list[Recipe]:
    warmups = {phase: warmup for phase, warmup in sweeps.items() if warmup is not None}
    return candidates(results, warmups, spec.objective)


def _best_of_each(
    spec: SweepSpec, results: Results, sweeps: dict[int, int | None]
) -> tuple[Judged | None, Judged | None]:
    """The recipe without warmup and the one with it, by their runs under fresh seeds."""
    recipes = [*_without(spec, results), *_with(spec, results, sweeps)]
    judged = judged_again(results, AGAIN, recipes)
    without, with_it = (
        chosen([item for item in judged if (item.recipe.warmup is None) is bare], spec.objective)
        for bare in (True, False)
    )
    return without, with_it


def conclude(spec: SweepSpec, results: Results) -> Conclusion:
    """The warmup, what it opens, and whether to adopt it."""
    _, held = _search(spec, results) if is_needed(spec) else ([], None)
    if held is None:
        return _nothing_held(spec, results)
    sweeps = _sweeps(spec, _shortest(results, held))
    without, with_it = _best_of_each(spec, results, sweeps)
    adopt = with_it is not None and is_safer(with_it, without, spec.objective)
    warmup = _shortest(results, held)
    adopted = with_it.recipe.warmup if adopt and with_it is not None and with_it.recipe.warmup else warmup
    too_long = adopted > LONG_PART * spec.max_train_steps
    answers = {
        "base_learning_rate": held.base,
        "warmup_steps": adopted,
        "post_warmup_steps": stretch(adopted),
        "baseline_best": without.median(spec.objective) if without else None,
        "warmup_best": with_it.median(spec.objective) if with_it else None,
        "adopt": adopt,
        "raise_max_train_steps": too_long,
    }
    parts = [_opened(spec, held, warmup), _comparison(spec, with_it, without, adopt=adopt)]
    if too_long:
        parts.append(f"It takes more than {LONG_PART:.0%} of max_train_steps: consider raising max_train_steps.")
    return Conclusion(
        verdict=" ".join(parts),
        answers=answers,
        header=("learning_rate", "without_warmup", *(f"with_{steps}_steps" for steps in sweeps.values() if steps)),
        rows=sweep_rows(results, list(sweeps), spec.objective),
        figures=[
            *length_figures(_length_runs(results)),
            sweeps_figure(results, sweeps, spec.objective, unstable_rate(spec)),
        ],
        advice=recipe_lines(spec, with_it, without) if adopt and with_it is not None else "",
    )


def _opened(spec: SweepSpec, held: _Held, warmup: int) -> str:
    text = f"A warmup of {warmup} steps lets training bear {held.base:g}, {held.factor:g} times the unstable rate"
    asked = float(spec.options.get("factor", START_FACTOR))
    return f"{text}; {asked:g} times it is out of reach." if held.factor < asked else f"{text}."


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


def _comparison(spec: SweepSpec, with_it: Judged | None, without: Judged | None, *, adopt: bool) -> str:
    if with_it is None:
        return "But no learning rate with it is feasible: that is no reason to adopt it."
    other = without.in_words(spec.objective) if without else "no feasible rate without warmup"
    judgement = "adopt it" if adopt else "that is no reason to adopt it"
    found = f"{with_it.in_words(spec.objective)}, against {other}"
    return f"Under fresh seeds {spec.objective.metric} reaches {found}: {judgement}."


def _length_runs(results: Results) -> list[Run]:
    return [run for phase in (LENGTHS, REFINED) for runs in runs_of(results, phase).values() for run in runs]


WARMUP_SWEEP = Procedure(
    "warmup-sweep",
    frozenset({"learning_rate", "warmup_steps"}),
    PHASES,
    next_trials,
    conclude,
    problems,
    OwnCodeNeeds(("learning_rate", "warmup_steps"), ("train/loss",)),
)
