"""`clip-sweep`: a threshold for the gradient's norm from those of a stable run, with the learning rate tuned again.

Deep Learning Tuning Playbook, "Gradient clipping": the threshold lies just above the typical norm; the 90th percentile
of the unclipped norms is a starting point, a smaller one is to be tried where it does not help. One that clips more
than half of the updates is a strange way of lowering the learning rate.

After a warmup-sweep, all trials have its warmup. Where the model takes `init_scale`, a quarter of it is tried as well,
with a threshold from the norms there, and where no run is stable without it, from the start.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tunectl.analysis.figures.figures import Figure
from tunectl.analysis.results.runs import Run
from tunectl.core.objective import Objective
from tunectl.procedures.clip_thresholds import PERCENTILE, SMALLER, median_clipped, most_stable, thresholds
from tunectl.procedures.levers import Levers, earlier, problems_before, quartered
from tunectl.procedures.procedure import (
    SEEDS,
    Conclusion,
    OwnCodeNeeds,
    Procedure,
    ProcedureOptions,
    Results,
    SweepSpec,
    Wish,
    by_majority,
    fewest_seeds,
    has_all,
)
from tunectl.procedures.quarter_initialisation import QuarterPhases, best_with_quarter, quarter_trials, safer_of, swept
from tunectl.procedures.rate_judgements import (
    RateJudgement,
    best_rate,
    judged,
    log_grid,
    next_unstable,
    rounded,
    runs_by_rate,
)
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
)
from tunectl.procedures.sweep_figures import norms_by_threshold, rates_by_threshold, typical_norms

NORMS, WITHOUT, FIRST_THRESHOLD = range(3)
SMALL_NORMS, AGAIN, SMALL, SMALL_AGAIN = range(FIRST_THRESHOLD + len(SMALLER), FIRST_THRESHOLD + len(SMALLER) + 4)
PHASES = (
    "gradient norms without clipping",
    "learning rates without clipping",
    "learning rates at the first threshold",
    "learning rates at a third of it",
    "learning rates at a tenth of it",
    "gradient norms with a quarter of the initialisation",
    "the safest of each under fresh seeds",
    "learning rates with a quarter of the initialisation",
    "the safest with a quarter of the initialisation under fresh seeds",
)
_QUARTER = QuarterPhases(SMALL, SMALL_AGAIN)

NEAR = (1.0, 1 / 3, 1 / 10)
"""The rates at which the norms are measured, as parts of the best rate: a stable run near it is wanted."""

RATES = 6
BEYOND = 10.0
"""The rates reach this factor above the unstable one, or above the best one where none is known."""

TOO_AGGRESSIVE = 0.5
"""The playbook: clipping more than half of the updates."""


@dataclass(frozen=True)
class ClipSweepOptions(ProcedureOptions):
    """`clip-sweep` has no options of its own."""


ClipSweep = SweepSpec[ClipSweepOptions]


def centre(spec: ClipSweep) -> float | None:
    """The best rate that was found before, or the study's own; None where neither is known."""
    rate = earlier(spec).best_rate or spec.values.get("learning_rate")
    return None if rate is None else float(rate)


def problems(spec: ClipSweep) -> list[str]:
    """What is wrong with the options, a line for each."""
    found = problems_before(spec.before, "grad_clip_norm")
    if not found and centre(spec) is None:
        found.append("no learning rate is known to be good; give --from LR_SWEEP_DIR, or fix learning_rate")
    return found


def next_trials(spec: ClipSweep, results: Results) -> Sequence[Wish]:
    """The norms near the best rate; the sweep without clipping; a sweep at each threshold; the safest of each again;
    the same with a quarter of the initialisation.
    """
    wishes, typical = _typical(spec, results)
    if typical is None:
        return wishes
    sweeps = typical.sweeps
    rates = _rates(spec)
    wishes = [
        *wishes,
        *by_majority(results, [wish for phase, levers in sweeps.items() for wish in swept(phase, levers, rates)]),
    ]
    if not has_all(results, wishes):
        return wishes
    wishes = [
        *wishes,
        *fresh_runs(AGAIN, [*_without(spec, results, sweeps), *_with(spec, results, sweeps)], fresh_repeats(spec)),
    ]
    if not has_all(results, wishes):
        return wishes
    norms, smaller = _on_top(spec, results, typical)
    return [*wishes, *norms, *quarter_trials(spec, results, _QUARTER, smaller, rates)]


@dataclass(frozen=True, slots=True)
class _Typical:
    """The run whose norms are taken as typical, the thresholds from it, and the phases of the sweeps with their levers:
    those of `bare` without clipping, the others with the levers of the typical run.
    """

    run: Run
    thresholds: list[float]
    bare: Levers
    levers: Levers

    @property
    def sweeps(self) -> dict[int, Levers]:
        """The levers of each sweep, the one without clipping first."""
        clipped = {
            FIRST_THRESHOLD + index: replace(self.levers, clip=clip) for index, clip in enumerate(self.thresholds)
        }
        return {WITHOUT: self.bare, **clipped}

    @property
    def clips(self) -> dict[int, float | None]:
        """The threshold of each sweep, None for none."""
        return {phase: None if phase == WITHOUT else levers.clip for phase, levers in self.sweeps.items()}


def _typical(spec: ClipSweep, results: Results) -> tuple[list[Wish], _Typical | None]:
    """The trials that show which norms are typical, with a quarter of the initialisation where none is stable without;
    None while that is open, and where none is.
    """
    best = centre(spec)
    if best is None:
        return [], None
    bare = replace(earlier(spec).levers, clip=math.inf)
    wishes: list[Wish] = []
    for phase, levers in ((NORMS, bare), (SMALL_NORMS, quartered(spec, bare))):
        if levers is None:
            break
        wishes += _near(phase, levers, best)
        if not has_all(results, wishes):
            break
        run = most_stable(results, phase)
        found = thresholds(run) if run is not None else []
        if run is not None and found:
            return wishes, _Typical(run, found, bare, levers)
    return wishes, None


def _near(phase: int, levers: Levers, best: float) -> list[Wish]:
    return swept(phase, levers, [rounded(best * part) for part in NEAR])


def _rates(spec: ClipSweep) -> list[float]:
    """From half the best rate on, the best itself, and up to far beyond the unstable one."""
    best = centre(spec) or math.nan
    highest = rounded(float(earlier(spec).unstable_rate or best) * BEYOND)
    return [rounded(best / 2), *(rounded(rate) for rate in log_grid(rounded(best), highest, RATES - 1))]


def _without(spec: ClipSweep, results: Results, sweeps: dict[int, Levers]) -> list[Recipe]:
    return candidates(results, {WITHOUT: sweeps[WITHOUT]}, spec.objective)


def _with(spec: ClipSweep, results: Results, sweeps: dict[int, Levers]) -> list[Recipe]:
    phases = {phase: levers for phase, levers in sweeps.items() if phase != WITHOUT}
    return candidates(results, phases, spec.objective)


def _best_of_each(spec: ClipSweep, results: Results, sweeps: dict[int, Levers]) -> tuple[Judged | None, Judged | None]:
    """The recipe without clipping and the one with it, by their runs under fresh seeds.

    One that clips too much is taken only where no other is safer than the recipe without.
    """
    recipes = [*_without(spec, results, sweeps), *_with(spec, results, sweeps)]
    again = judged_again(results, AGAIN, recipes)
    without = chosen([item for item in again if item.recipe.levers == sweeps[WITHOUT]], spec.objective)
    clipped = [item for item in again if item.recipe.levers != sweeps[WITHOUT]]
    gentle = _largest(spec.objective, [item for item in clipped if not _is_too_aggressive(item)])
    if gentle is not None and safer_of(spec, gentle, without) is gentle:
        return without, gentle
    return without, _largest(spec.objective, clipped)


def _largest(objective: Objective, again: Sequence[Judged]) -> Judged | None:
    """The largest threshold that does as well as the best one under one of its seeds: it changes least."""
    best = chosen(again, objective)
    if best is None:
        return None
    worst = max(best.costs(objective))
    as_good = [
        item
        for item in again
        if (item.recipe.levers.clip or 0.0) > (best.recipe.levers.clip or 0.0)
        and all(math.isfinite(cost) for cost in item.costs(objective))
        and statistics.median(item.costs(objective)) <= worst
    ]
    largest = max((item.recipe.levers.clip or 0.0 for item in as_good), default=None)
    return chosen([item for item in as_good if item.recipe.levers.clip == largest], objective) or best


def _is_too_aggressive(item: Judged) -> bool:
    return (median_clipped(item.runs) or 0.0) > TOO_AGGRESSIVE


def _safer_with(spec: ClipSweep, with_it: Judged | None, without: Judged | None) -> Judged | None:
    """The recipe with clipping where it is safer and more than a lower rate, else the one without."""
    return without if with_it is None or _is_too_aggressive(with_it) else safer_of(spec, with_it, without)


def _levers_so_far(spec: ClipSweep, results: Results, typical: _Typical) -> Levers:
    """Those of the best recipe before a quarter of the initialisation is tried on top."""
    if typical.levers != typical.bare:
        return typical.levers
    without, with_it = _best_of_each(spec, results, typical.sweeps)
    best = _safer_with(spec, with_it, without)
    return best.recipe.levers if best is not None else typical.sweeps[FIRST_THRESHOLD]


def _on_top(spec: ClipSweep, results: Results, typical: _Typical) -> tuple[list[Wish], Levers | None]:
    """The levers of the best recipe so far with a quarter of the initialisation, and the trials that show which norms
    are typical with it: where the recipe clips, the threshold is the same part of those.

    The levers are None while that is open, and where the quarter cannot be tried or was there from the start.
    """
    levers = _levers_so_far(spec, results, typical)
    smaller = quartered(spec, levers)
    if smaller is None or levers.clip not in typical.thresholds:
        return [], smaller
    wishes = _near(SMALL_NORMS, replace(smaller, clip=math.inf), centre(spec) or math.nan)
    if not has_all(results, wishes):
        return wishes, None
    run = most_stable(results, SMALL_NORMS)
    found = thresholds(run) if run is not None else []
    index = typical.thresholds.index(levers.clip)
    return wishes, replace(smaller, clip=found[index]) if found else None


def conclude(spec: ClipSweep, results: Results) -> Conclusion:
    """The recipe with the largest threshold that does as well as any, and whether it is more than a lower rate."""
    _, typical = _typical(spec, results)
    if typical is None:
        smaller = ", with a quarter of the initialisation or without" if spec.init_scale is not None else ""
        return Conclusion(
            f"No trial near the best learning rate completed{smaller}, so no gradient norm is typical: "
            "lower the rate first.",
            {**staying(spec), "compared": [], "clipped_fraction": None, "too_aggressive": None},
        )
    without, with_it = _best_of_each(spec, results, typical.sweeps)
    _, smaller_levers = _on_top(spec, results, typical)
    small = best_with_quarter(spec, results, _QUARTER, smaller_levers, may_be=lambda item: not _is_too_aggressive(item))
    best = safer_of(spec, small, _safer_with(spec, with_it, without))
    every = typical.sweeps if smaller_levers is None else {**typical.sweeps, SMALL: smaller_levers}
    adopted = best if best is not without else None
    shown = adopted or with_it
    fraction = median_clipped(shown.runs) if shown is not None else None
    found = _Found(without, with_it, small if smaller_levers is not None else None, adopted, fraction)
    going = going_on(spec, results, best, without, every)
    return Conclusion(
        verdict=" ".join([_verdict(spec, found, tried_quarter=smaller_levers is not None), *remarks(going, adopted)]),
        answers={
            **going,
            "compared": compared(spec, [without, with_it, small]),
            "clipped_fraction": fraction,
            "too_aggressive": None if fraction is None else fraction > TOO_AGGRESSIVE,
        },
        header=("grad_clip_norm", "init_scale", "learning_rate", f"best {spec.objective.metric}", "clipped"),
        rows=[_row(spec, results, phase, levers) for phase, levers in every.items()],
        figures=_figures(spec, results, typical, adopted),
        advice=recipe_lines(spec, adopted, without) if adopted is not None else "",
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """The best of each kind under fresh seeds, what is adopted of them, and the part of the updates that are clipped by
    it, or by the best one with clipping where nothing is.
    """

    without: Judged | None
    with_it: Judged | None
    small: Judged | None
    adopted: Judged | None
    fraction: float | None


def _verdict(spec: ClipSweep, found: _Found, *, tried_quarter: bool) -> str:
    shown = found.adopted or found.with_it
    if shown is None:
        return (
            "No threshold makes any of the learning rates feasible: rare large gradients do not cause the instability."
        )
    against = found.without.in_words(spec.objective) if found.without else "no feasible rate without clipping"
    text = f"Under fresh seeds {spec.objective.metric} reaches {shown.in_words(spec.objective)}, against {against}"
    part = "an unknown part of the updates" if found.fraction is None else f"{found.fraction:.0%} of the updates"
    more = " A quarter of the initialisation does not improve it." if tried_quarter else ""
    if found.adopted is None:
        too_much = found.fraction is not None and found.fraction > TOO_AGGRESSIVE
        if too_much and safer_of(spec, shown, found.without) is shown:
            return (
                f"{text}; but it clips {part}, which is in effect a lower learning rate: lower the rate instead.{more}"
            )
        return f"{text}: clipping does not help here.{more}"
    if shown is found.small:
        beside = found.with_it.in_words(spec.objective) if found.with_it else "no feasible rate"
        return f"{text}, and {beside} without the quarter of the initialisation: adopt all of it; it clips {part}."
    return f"{text}: adopt all of it; it clips {part}.{more}"


def _row(spec: ClipSweep, results: Results, phase: int, levers: Levers) -> tuple[object, ...]:
    """The best rate of a sweep and what it reached."""
    runs = runs_by_rate(results, phase)
    best = best_rate(judged(runs, spec.objective))
    threshold = levers.clip if levers.clip is not None and math.isfinite(levers.clip) else None
    fraction = median_clipped(runs[best.rate]) if best is not None and threshold is not None else None
    init_scale = levers.init_scale if levers.init_scale is not None else spec.init_scale
    return (threshold, init_scale, best.rate if best else None, best.best if best else None, fraction)


def _figures(spec: ClipSweep, results: Results, typical: _Typical, adopted: Judged | None) -> list[Figure]:
    rate = _rate_to_draw(spec, results, adopted)
    return [
        *typical_norms(typical.run, typical.thresholds[0], f"{PERCENTILE:g}th percentile"),
        *([norms_by_threshold(typical.clips, results, rate)] if rate is not None else []),
        rates_by_threshold(typical.clips, results, spec.objective, SMALL),
    ]


def _rate_to_draw(spec: ClipSweep, results: Results, adopted: Judged | None) -> float | None:
    """Where clipping shows: the smallest rate that is unstable without it, else the swept one next to the recipe's."""
    without: list[RateJudgement] = judged(runs_by_rate(results, WITHOUT), spec.objective)
    unstable = next_unstable(without, 0.0)
    if unstable is not None:
        return unstable.rate
    wanted = adopted.recipe.rate if adopted is not None else centre(spec)
    rates = [item.rate for item in without]
    return min(rates, key=lambda rate: abs(math.log(rate / wanted)), default=None) if wanted else None


def trainings(spec: ClipSweep) -> tuple[int, int]:
    """The least: one threshold is enough; the most: all of them, and a quarter of the initialisation."""
    near = SEEDS * len(NEAR)
    fewest = near + fewest_seeds(2 * RATES) + 2 * FRESH_SEEDS
    most = near + SEEDS * (1 + len(SMALLER)) * RATES + 2 * CANDIDATES * FRESH_SEEDS
    quarter = 0 if spec.init_scale is None else near + SEEDS * RATES + CANDIDATES * FRESH_SEEDS
    return fewest, most + quarter


CLIP_SWEEP = Procedure(
    "clip-sweep",
    frozenset({"learning_rate", "grad_clip_norm"}),
    PHASES,
    ClipSweepOptions,
    next_trials,
    conclude,
    problems,
    OwnCodeNeeds(("learning_rate", "grad_clip_norm"), ("gradient_norm",)),
    trainings=trainings,
    by_metric=True,
)
