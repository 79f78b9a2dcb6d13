"""`warmup-sweep`: the shortest warmup with which rates above the unstable one train, and whether to adopt it.

Deep Learning Tuning Playbook, "How to apply learning rate warmup": ramp up from 0 to a base rate of about ten times the
unstable one, train at it for a while, and look for the shortest ramp that does not blow up; then put that ramp before
the study's own schedule, sweep the learning rate again, and compare with the sweep without it. The shortest ramp is
always close to the edge: one three times as long is swept, too, and `recipes` chooses among both. Where that would be
too long, one a third as long is swept: it is not stable at the base rate, but it may be better at lower ones.

After a clip-sweep, all trials have its threshold. Where the model takes `init_scale`, a quarter of it is tried as well,
and where no warmup is stable without it, from the start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tunectl.analysis.figures.figures import Figure
from tunectl.analysis.results.runs import Run
from tunectl.procedures.levers import Levers, earlier, problems_before, quartered
from tunectl.procedures.procedure import (
    SEEDS,
    Conclusion,
    OwnCodeNeeds,
    Procedure,
    Results,
    Wish,
    by_majority,
    fewest_seeds,
    has_all,
    runs_of,
)
from tunectl.procedures.quarter_initialisation import QuarterPhases, best_with_quarter, quarter_trials, safer_of, swept
from tunectl.procedures.rate_judgements import log_grid, rounded
from tunectl.procedures.recipe_conclusion import going_on, remarks, staying
from tunectl.procedures.recipes import (
    CANDIDATES,
    FRESH_SEEDS,
    Judged,
    Recipe,
    candidates,
    chosen,
    compared,
    fresh_repeats,
    fresh_runs,
    judged_again,
    recipe_lines,
    sweep_rows,
)
from tunectl.procedures.sweep_figures import length_curvatures, length_figures, sweeps_figure
from tunectl.procedures.warmup_search import (
    ITSELF,
    LONGEST_PART,
    Held,
    Search,
    WarmupSweep,
    WarmupSweepOptions,
    factors,
    is_edge_open,
    lengths,
    search,
    stretch,
    unstable_rate,
)

LENGTHS, REFINED, WITHOUT, WITH, OTHER, AGAIN, SMALL_LENGTHS, SMALL_REFINED, SMALL, SMALL_AGAIN = range(10)
PHASES = (
    "warmup lengths",
    "shorter warmups",
    "learning rates without warmup",
    "learning rates with warmup",
    "learning rates with another warmup",
    "the safest of each under fresh seeds",
    "warmup lengths with a quarter of the initialisation",
    "shorter warmups with a quarter of the initialisation",
    "learning rates with a quarter of the initialisation",
    "the safest with a quarter of the initialisation under fresh seeds",
)
_QUARTER = QuarterPhases(SMALL, SMALL_AGAIN)

LONG_PART = 0.05
"""The playbook: a warmup of more than 5 % of max_train_steps may call for more steps."""

RATES = 6
"""Rates of each of the two sweeps that are compared."""

HIGHER_RATES = 3
"""The highest of them, for another warmup: for a longer one, since the lower rates train with the shorter one; for a
shorter one without the base rate, where it is not stable.
"""


def problems(spec: WarmupSweep) -> list[str]:
    """What is wrong with the options, a line for each."""
    found = problems_before(spec.before, "warmup_steps")
    if found:
        return found
    rate, factor = unstable_rate(spec), spec.options.factor
    if not spec.before and rate is None:
        found.append(
            "the rate at which training becomes unstable is not known; give --from LR_SWEEP_DIR or --unstable-lr"
        )
    if rate is not None and not rate > 0:
        found.append(f"--unstable-lr {rate:g}: expected a rate above 0")
    if not factor > 1:
        found.append(f"--factor {factor:g}: expected more than 1")
    return found


def is_needed(spec: WarmupSweep) -> bool:
    """Whether there is an instability to fix: one that keeps the best rate down, or one that the user named."""
    if spec.options.unstable_lr is not None:
        return True
    return unstable_rate(spec) is not None and earlier(spec).is_at_edge is not False


def next_trials(spec: WarmupSweep, results: Results) -> Sequence[Wish]:
    """Warmup lengths at falling factors until one is stable; shorter ones; the sweeps; the safest of each again; the
    same with a quarter of the initialisation.
    """
    if not is_needed(spec):
        return ()
    wishes, held = _search(spec, results)
    if held is None:
        return wishes
    sweeps = _sweeps(spec, held)
    wishes = [*wishes, *by_majority(results, [wish for phase in sweeps for wish in _sweep(spec, phase, held, sweeps)])]
    if not has_all(results, wishes):
        return wishes
    wishes = [
        *wishes,
        *fresh_runs(AGAIN, [*_without(spec, results), *_with(spec, results, sweeps)], fresh_repeats(spec)),
    ]
    if not has_all(results, wishes):
        return wishes
    smaller = quartered(spec, _levers_so_far(spec, results, held, sweeps))
    return [*wishes, *quarter_trials(spec, results, _QUARTER, smaller, _rates(spec, held))]


def _search(spec: WarmupSweep, results: Results) -> tuple[list[Wish], Held | None]:
    """The trials that look for a warmup, with a quarter of the initialisation where none is stable without."""
    levers = earlier(spec).levers
    wishes, held = search(spec, results, Search(LENGTHS, REFINED, levers))
    smaller = quartered(spec, levers)
    if held is not None or smaller is None or not has_all(results, wishes):
        return wishes, held
    more, held = search(spec, results, Search(SMALL_LENGTHS, SMALL_REFINED, smaller))
    return [*wishes, *more], held


def _longer(spec: WarmupSweep, warmup: int) -> int | None:
    """About three times this warmup, as far as a tenth of max_train_steps allows; None where that is hardly more."""
    longest = lengths(spec.max_train_steps)[-1]
    # One that was tried before rather than one of nearly the same length.
    near = [tried for tried in lengths(spec.max_train_steps) if 2.5 * warmup <= tried <= 3.5 * warmup]
    wanted = min(near[0] if near else 3 * warmup, longest)
    return wanted if wanted >= 1.5 * warmup else None


def _sweeps(spec: WarmupSweep, held: Held) -> dict[int, Levers]:
    """The phases of the sweeps that are compared, with the levers of each."""
    other = _longer(spec, held.warmup) or round(held.warmup / 3)
    warmups = {WITH: held.warmup} | ({OTHER: other} if other > 0 else {})
    with_warmup = {phase: replace(held.levers, warmup=warmup) for phase, warmup in warmups.items()}
    return {WITHOUT: earlier(spec).levers, **with_warmup}


def _rates(spec: WarmupSweep, held: Held) -> list[float]:
    """From the best rate without warmup, below which nothing is gained, up to the base rate."""
    low = earlier(spec).best_rate or (unstable_rate(spec) or held.base) / 6
    return [rounded(rate) for rate in log_grid(rounded(low), held.base, RATES)]


def _sweep(spec: WarmupSweep, phase: int, held: Held, sweeps: Mapping[int, Levers]) -> list[Wish]:
    wishes = swept(phase, sweeps[phase], _rates(spec, held))
    if phase != OTHER:
        return wishes
    longer = (sweeps[OTHER].warmup or 0) > (sweeps[WITH].warmup or 0)
    first = RATES - HIGHER_RATES - (0 if longer else 1)
    return [wish for wish in wishes if first <= wish.point < first + HIGHER_RATES]


def _without(spec: WarmupSweep, results: Results) -> list[Recipe]:
    return candidates(results, {WITHOUT: earlier(spec).levers}, spec.objective)


def _with(spec: WarmupSweep, results: Results, sweeps: Mapping[int, Levers]) -> list[Recipe]:
    phases = {phase: levers for phase, levers in sweeps.items() if phase != WITHOUT}
    return candidates(results, phases, spec.objective)


def _best_of_each(
    spec: WarmupSweep, results: Results, sweeps: Mapping[int, Levers]
) -> tuple[Judged | None, Judged | None]:
    """The recipe without warmup and the one with it, by their runs under fresh seeds."""
    recipes = [*_without(spec, results), *_with(spec, results, sweeps)]
    judged = judged_again(results, AGAIN, recipes)
    without, with_it = (
        chosen([item for item in judged if (item.recipe.levers.warmup is None) is bare], spec.objective)
        for bare in (True, False)
    )
    return without, with_it


def _levers_so_far(spec: WarmupSweep, results: Results, held: Held, sweeps: Mapping[int, Levers]) -> Levers:
    """Those of the best recipe before a quarter of the initialisation is tried."""
    if held.levers.init_scale is not None:
        return held.levers
    without, with_it = _best_of_each(spec, results, sweeps)
    best = safer_of(spec, with_it, without)
    return best.recipe.levers if best is not None else sweeps[WITH]


def conclude(spec: WarmupSweep, results: Results) -> Conclusion:
    """The recipe with a warmup, which rates it makes trainable, and whether to adopt it."""
    _, held = _search(spec, results) if is_needed(spec) else ([], None)
    if held is None:
        return _without_warmup(spec, results)
    sweeps = _sweeps(spec, held)
    without, with_it = _best_of_each(spec, results, sweeps)
    smaller = quartered(spec, _levers_so_far(spec, results, held, sweeps))
    small = best_with_quarter(spec, results, _QUARTER, smaller)
    best = safer_of(spec, small, safer_of(spec, with_it, without))
    every = sweeps if smaller is None else {**sweeps, SMALL: smaller}
    found = _Found(without, with_it, small, best, smaller is not None)
    too_long = found.adopt and best is not None and (best.recipe.levers.warmup or 0) > LONG_PART * spec.max_train_steps
    with_warmup = Recipe(replace(held.levers, warmup=held.warmup), held.base)
    answers = {
        **going_on(spec, results, best, without, every, unstable=spec.options.unstable_lr),
        "held": {**with_warmup.settings(spec), "post_warmup_steps": stretch(held.warmup)},
        "compared": compared(spec, [without, with_it, small]),
        "raise_max_train_steps": too_long,
    }
    parts = [_opened(spec, held), _comparison(spec, found)]
    if is_edge_open(spec) and not found.adopt:
        parts.append(
            "The seeds of lr-sweep do not show whether an instability keeps the best learning rate down; with a warmup "
            "the higher rates train and are no better: a warmup is not needed."
        )
    # A rate above those of the sweep with this initialisation is known to be unstable.
    is_highest = best is not small and _is_out_of_reach(spec, held)
    parts += remarks({**answers, "at_boundary": answers["at_boundary"] and not is_highest}, best)
    if too_long:
        parts.append(
            f"The warmup takes more than {LONG_PART:.0%} of max_train_steps: consider raising max_train_steps."
        )
    return Conclusion(
        verdict=" ".join(parts),
        answers=answers,
        header=("learning_rate", *(_column(phase, every[phase]) for phase in every)),
        rows=sweep_rows(results, list(every), spec.objective),
        figures=[*_length_figures(results), sweeps_figure(results, every, spec.objective, unstable_rate(spec))],
        advice=recipe_lines(spec, best, without) if found.adopt and best is not None else "",
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """The best of each kind under fresh seeds, None where none is feasible, and the best of all.

    `tried_quarter` says whether a quarter of the initialisation was tried on top of the others.
    """

    without: Judged | None
    with_it: Judged | None
    small: Judged | None
    best: Judged | None
    tried_quarter: bool

    @property
    def adopt(self) -> bool:
        """Whether the best is another than the one without warmup."""
        return self.best is not None and self.best is not self.without


def _column(phase: int, levers: Levers) -> str:
    if phase == SMALL:
        return "with_quarter_init"
    return f"with_{levers.warmup}_steps" if levers.warmup is not None else "without_warmup"


def _opened(spec: WarmupSweep, held: Held) -> str:
    beside = ""
    if held.levers != earlier(spec).levers:
        beside = (
            f", with a quarter of the initialisation (init_scale {held.levers.init_scale:g}); without that, "
            "no warmup is enough"
        )
    text = f"With a warmup, training is stable at {held.base:g}, {_times(held.factor)}{beside}"
    return (
        f"{text}; at {spec.options.factor:g} times that rate it is not." if _is_out_of_reach(spec, held) else f"{text}."
    )


def _is_out_of_reach(spec: WarmupSweep, held: Held) -> bool:
    return held.factor < spec.options.factor


def _comparison(spec: WarmupSweep, found: _Found) -> str:
    shown = found.best if found.adopt else found.with_it or found.small
    if shown is None:
        return "But no learning rate is feasible with it: do not adopt it."
    other = found.without.in_words(spec.objective) if found.without else "no feasible rate without it"
    judgement = "adopt all of it" if found.adopt else "do not adopt it"
    text = f"Under fresh seeds {spec.objective.metric} reaches {shown.in_words(spec.objective)}, against {other}"
    if not found.tried_quarter:
        return f"{text}: {judgement}."
    if found.adopt and shown is found.small:
        beside = found.with_it.in_words(spec.objective) if found.with_it else "no feasible rate"
        return f"{text}, and {beside} without the quarter of the initialisation: {judgement}."
    return f"{text}: {judgement}. A quarter of the initialisation does not improve it."


def _without_warmup(spec: WarmupSweep, results: Results) -> Conclusion:
    if is_needed(spec):
        verdict = _no_stable_warmup(spec)
    else:
        verdict = (
            "A warmup is not needed: no instability keeps the best learning rate down. Give --unstable-lr to try one "
            "anyway."
        )
    answers = {
        **staying(spec, unstable=spec.options.unstable_lr),
        "held": None,
        "compared": [],
        "raise_max_train_steps": None,
    }
    return Conclusion(verdict, answers, figures=_length_figures(results))


def _no_stable_warmup(spec: WarmupSweep) -> str:
    levers = earlier(spec).levers
    lowest = _times(factors(spec)[0][-1])
    text = f"No warmup of up to {LONGEST_PART:.0%} of max_train_steps makes training stable at {lowest}"
    smaller = quartered(spec, levers)
    if smaller is not None:
        text += f", with a quarter of the initialisation (init_scale {smaller.init_scale:g}) or without"
    first = "Go to clip-sweep, then try" if levers.clip is None else "Try"
    last = "another optimizer, the initialisation, and a lower learning rate last."
    if not is_edge_open(spec):
        return f"{text}. {first} {last}"
    return (
        f"{text}: it does not help here. The seeds of lr-sweep do not show whether an instability keeps the best "
        f"learning rate down; it may be the best one even without an instability. {first} {last}"
    )


def _times(factor: float) -> str:
    return "the unstable rate itself" if factor == ITSELF else f"{factor:g} times the unstable rate"


def _length_figures(results: Results) -> list[Figure]:
    def runs(*phases: int) -> list[Run]:
        return [run for phase in phases for runs in runs_of(results, phase).values() for run in runs]

    every = {"": runs(LENGTHS, REFINED), "a quarter of the initialisation": runs(SMALL_LENGTHS, SMALL_REFINED)}
    return [
        *(figure for beside, found in every.items() for figure in length_figures(found, beside)),
        *(figure for beside, found in every.items() for figure in length_curvatures(found, beside)),
    ]


def trainings(spec: WarmupSweep) -> tuple[int, int] | None:
    """The least: the first warmup that is tried is stable; the most: one is stable only at the lowest factor."""
    if not is_needed(spec):
        return None
    tried, compared = len(lengths(spec.max_train_steps)), 2 * RATES + HIGHER_RATES
    fewest = fewest_seeds(1 + compared) + 2 * FRESH_SEEDS
    most = SEEDS * (sum(map(len, factors(spec))) * tried + compared) + 2 * CANDIDATES * FRESH_SEEDS
    quarter = 0 if spec.init_scale is None else SEEDS * RATES + CANDIDATES * FRESH_SEEDS
    return fewest, most + quarter


WARMUP_SWEEP = Procedure(
    "warmup-sweep",
    frozenset({"learning_rate", "warmup_steps"}),
    PHASES,
    WarmupSweepOptions,
    next_trials,
    conclude,
    problems,
    OwnCodeNeeds(("learning_rate", "warmup_steps"), ("train/loss",)),
    trainings=trainings,
    by_metric=True,
)
