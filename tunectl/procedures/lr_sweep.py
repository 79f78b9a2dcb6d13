"""`lr-sweep`: the best learning rate, and the one at which training becomes unstable.

Deep Learning Tuning Playbook, "Identifying unstable workloads": sweep the learning rate, find the best one lr*, look at
the training loss of the rates just above it and at 5 and 10 times it, and train some 500 steps at 2 lr* with an
evaluation at every step, since an early instability hides between rare evaluations. Before a rate is named the best it
runs under fresh seeds, and it is compared with a constant prediction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tunectl.analysis.curves.learning import Learning, learning
from tunectl.analysis.figures.figures import Figure
from tunectl.analysis.results.runs import Run
from tunectl.analysis.updates.instability import early_updates, instability
from tunectl.core.records import Scalar
from tunectl.procedures import fitting_steps
from tunectl.procedures.curvature_measures import at_the_start, prediction
from tunectl.procedures.lr_options import LrSweep, LrSweepOptions
from tunectl.procedures.lr_phases import ABOVE, EARLY, EDGE, EXTENSIONS, GRID, PHASES, SWEEPS
from tunectl.procedures.lr_verdict import Found, advice, answers, verdict
from tunectl.procedures.procedure import (
    CONSTANT_RATE,
    SEEDS,
    Conclusion,
    OwnCodeNeeds,
    Procedure,
    Results,
    Wish,
    by_majority,
    fewest_seeds,
    has_all,
    majority,
    repeats,
    runs_of,
)
from tunectl.procedures.rate_confirmation import CONTENDERS, Confirmed, chosen, confirmed, confirming, contenders
from tunectl.procedures.rate_grid import POINTS_PER_DECADE, grid_of, grid_problems
from tunectl.procedures.rate_judgements import (
    RateJudgement,
    best_rate,
    judged,
    log_grid,
    next_unstable,
    rounded,
    runs_by_rate,
    with_lost,
)
from tunectl.procedures.recipes import FRESH_SEEDS
from tunectl.procedures.sweep_figures import cadences, curves_above, rate_plot

FAR_ABOVE = (5.0, 10.0)
"""The playbook looks at the training loss at 5 and 10 times the best rate (figure 7b)."""

NEAR_EDGE = 1.5
MOST_AT_EDGE = 2
"""The unstable rate is located to a factor of NEAR_EDGE, since warmup-sweep goes on from multiples of it; for that at
most MOST_AT_EDGE rates are trained between it and the next rate below.
"""

EARLY_STEPS = 500
EARLY_FACTOR = 2.0
"""The playbook's abbreviated run: some 500 steps at twice the current best."""


def default_grid(spec: LrSweep) -> tuple[float, float, int]:
    """The lowest and the highest rate, and the number of rates."""
    return grid_of(spec, spec.options.low, spec.options.high, spec.options.points)


def next_trials(spec: LrSweep, results: Results) -> Sequence[Wish]:
    """The grid, its extensions where it was too narrow, and the constant rates that were asked for; then, of a network
    that learns, the edge more closely, the best rates under fresh seeds, and the follow-ups.
    """
    wishes = _grid(spec, results, GRID, log_grid(*default_grid(spec)))
    for phases in EXTENSIONS:
        if not has_all(results, wishes):
            return wishes
        extension = _extension(spec, results, phases)
        if not extension:
            break
        wishes = [*wishes, *extension]
    if not has_all(results, wishes):
        return wishes
    fits = _fitting(spec, _before(results, EDGE), results)
    if not spec.options.follow_up or not _learns(spec, _before(results, EDGE)):
        return [*wishes, *fits]
    wishes = [*wishes, *_at_edge(spec, results)]
    if not has_all(results, wishes):
        return [*wishes, *fits]
    wishes = [*wishes, *confirming(results, _swept(results), spec.objective, _schedule(spec), _training(spec))]
    best = _candidate(spec, results)
    if best is not None and has_all(results, wishes) and _learned(spec, best).better is not False:
        # Own code decides itself when it evaluates.
        wishes = [*wishes, *_above(spec, results, best.rate), *(_early(spec, best.rate) if not spec.own_code else [])]
    return [*wishes, *fits]


def _schedule(spec: LrSweep) -> Mapping[str, Scalar | None]:
    return CONSTANT_RATE if spec.options.constant else {}


def _training(spec: LrSweep) -> dict[str, int]:
    steps = spec.options.steps
    return {} if steps is None else {"max_train_steps": steps, "eval_every": min(spec.eval_every, steps)}


def _grid(spec: LrSweep, results: Results, phase: int, rates: Sequence[float]) -> list[Wish]:
    wishes = [
        wish
        for point, rate in enumerate(rates)
        for wish in repeats(phase, point, {**_schedule(spec), "learning_rate": rate}, _training(spec))
    ]
    if phase == GRID and not spec.own_code:
        # Where training begins it is the same at every rate: once for each seed is enough.
        measured = at_the_start(spec, dict(spec.values), spec.options.steps or spec.max_train_steps)
        wishes = [
            replace(wish, curvature=measured, curvature_needed=False) if wish.point == 0 else wish for wish in wishes
        ]
    return by_majority(results, wishes)


def _swept(results: Results) -> dict[float, list[Run]]:
    return runs_by_rate(results, *SWEEPS)


def _judgements(spec: LrSweep, swept: Mapping[float, Sequence[Run]]) -> list[RateJudgement]:
    steps = spec.options.steps or spec.max_train_steps
    judgements = judged(swept, spec.objective, None if spec.own_code else steps + spec.prepended_warmup)
    return with_lost(judgements, swept, spec.objective) if spec.own_code else judgements


def _learns(spec: LrSweep, results: Results) -> bool:
    """Whether the best rate of the sweep may be better than a constant prediction: what is not known may be."""
    swept = _swept(results)
    best = best_rate(_judgements(spec, swept))
    return best is not None and learning(swept[best.rate], spec.objective).better is not False


def _candidate(spec: LrSweep, results: Results) -> Confirmed | None:
    """The best rate, by its runs under fresh seeds where there are some; None where none is feasible."""
    swept = _swept(results)
    again = confirmed(results, swept)
    best = best_rate(_judgements(spec, swept))
    if again or best is None:
        return chosen(again, spec.objective)
    return Confirmed(best.rate, (), swept[best.rate])


def _learned(spec: LrSweep, candidate: Confirmed | None) -> Learning:
    return learning([] if candidate is None else candidate.fresh or candidate.runs, spec.objective)


def _before(results: Results, phase: int) -> Results:
    """The results without those of a phase and what came after it: what the phase was decided by."""
    return {key: run for key, run in results.items() if key[0] < phase}


def _extension(spec: LrSweep, results: Results, phases: tuple[int, int]) -> list[Wish]:
    """More rates on the side on which the sweep was too narrow, as far again as one decade."""
    judgements = _judgements(spec, _swept(_before(results, phases[0])))
    step = _step(spec)
    count = max(1, round(math.log(10) / math.log(step)))
    low, high = judgements[0].rate, judgements[-1].rate
    best = best_rate(judgements)
    if best is None or best.rate == low:
        lower = [rounded(low / step ** (index + 1)) for index in range(count)]
        return _grid(spec, results, phases[0], lower)
    if next_unstable(judgements, best.rate) is None:
        higher = [rounded(high * step ** (index + 1)) for index in range(count)]
        return _grid(spec, results, phases[1], higher)
    return []


def _step(spec: LrSweep) -> float:
    """The ratio of two neighbouring rates."""
    low, high, points = default_grid(spec)
    return float((high / low) ** (1 / max(1, points - 1))) if high > low else 10 ** (1 / POINTS_PER_DECADE)


def _at_edge(spec: LrSweep, results: Results) -> list[Wish]:
    """Rates between the smallest unstable one above the best and the rate below it, evenly on a logarithmic axis."""
    judgements = _judgements(spec, _swept(_before(results, EDGE)))
    best = best_rate(judgements)
    unstable = next_unstable(judgements, best.rate) if best is not None else None
    if unstable is None:
        return []
    below = max(item.rate for item in judgements if item.rate < unstable.rate)
    # Slightly less, since the ratio of rounded rates may be slightly too large.
    parts = math.ceil(math.log(unstable.rate / below) / math.log(NEAR_EDGE) - 1e-3)
    return _grid(spec, results, EDGE, log_grid(below, unstable.rate, min(parts, MOST_AT_EDGE + 1) + 1)[1:-1])


def _above(spec: LrSweep, results: Results, best: float) -> list[Wish]:
    """The rates far above the best one at which the sweep did not train."""
    trained = list(_swept(results))
    wanted = [rounded(best * factor) for factor in FAR_ABOVE]
    missing = [rate for rate in wanted if not any(abs(math.log(rate / other)) < math.log(1.1) for other in trained)]
    return _grid(spec, results, ABOVE, missing)


def _early(spec: LrSweep, best: float) -> list[Wish]:
    """The beginning of a full-length run: its schedule is the study's, its warmup runs before and is not counted."""
    training = {"stop_after": EARLY_STEPS, "eval_every": 1, "eval_from": spec.prepended_warmup, "keep_checkpoints": 1}
    changes = {**_schedule(spec), "learning_rate": rounded(best * EARLY_FACTOR)}
    return repeats(EARLY, 0, changes, {**_training(spec), **training})


def _early_runs(results: Results, best: float) -> list[Run]:
    """The runs at twice the best rate; a folder may hold those of an earlier version, under another schedule."""
    runs = [run for runs in runs_of(results, EARLY).values() for run in runs]
    rate = rounded(best * EARLY_FACTOR)
    return [r for r in runs if r.plan.hyperparameters["learning_rate"] == rate and "stop_after" in r.plan.training]


def _fitting(spec: LrSweep, swept: Results, results: Results) -> list[Wish]:
    """The constant rates that show how soon the training set can be fitted, at the rates of the sweep."""
    runs = [run for runs in _swept(swept).values() for run in runs]
    if not spec.options.find_max_train_steps or not fitting_steps.is_measured(spec, runs):
        return []
    return fitting_steps.fitting(spec, results, list(_swept(swept)), _step(spec), spec.options.steps)


def problems(spec: LrSweep) -> list[str]:
    """What is wrong with the options, a line for each."""
    return [*grid_problems(default_grid(spec)), *fitting_steps.problems(spec)]


def conclude(spec: LrSweep, results: Results) -> Conclusion:
    """The best rate, the smallest unstable one above it, and what that means."""
    swept = _swept(results)
    again = confirmed(results, swept)
    # By all runs of a rate, those under fresh seeds included.
    judgements = _judgements(spec, {**swept, **{item.rate: item.runs for item in again}})
    nominal = best_rate(_judgements(spec, swept))
    candidate = _candidate(spec, results)
    learned = _learned(spec, candidate)
    best = candidate if learned.better is not False else None
    found = Found(
        judgements=judgements,
        candidate=candidate,
        nominal=nominal,
        unstable=_unstable(judgements, candidate, learns=best is not None),
        learning=learned,
        again=again,
        as_good=_as_good(spec, results, best),
        early=_early_instability(spec, results, best.rate) if best is not None else None,
        extended=any(key[0] in phases for key in results for phases in EXTENSIONS),
        guess=fitting_steps.first_guess(spec, results) if spec.options.find_max_train_steps else None,
        predicted=None if spec.own_code else prediction(runs_of(results, GRID)[0]),
    )
    return Conclusion(
        verdict=verdict(spec, found),
        answers=answers(found),
        header=("learning_rate", "runs", spec.objective.metric, "stability"),
        rows=[(item.rate, item.runs, item.best, item.stability) for item in judgements],
        figures=_figures(spec, results, found),
        advice=advice(spec, found),
    )


def _unstable(
    judgements: Sequence[RateJudgement], candidate: Confirmed | None, *, learns: bool
) -> RateJudgement | None:
    """The smallest unstable rate above the best; where nothing is learned, a loss that does not move is no sign."""
    if candidate is None:
        return None
    return next_unstable([item for item in judgements if learns or item.when], candidate.rate)


def _as_good(spec: LrSweep, results: Results, best: Confirmed | None) -> list[float]:
    """The other rates that the seeds cannot distinguish from the best one: the fresh ones, without them the sweep's."""
    if best is None:
        return []
    again = confirmed(results, _swept(results))
    level = [item.rate for item in again if item.is_as_good_as(best, spec.objective)]
    level = level if best.fresh else contenders(_swept(results), spec.objective)
    return sorted(rate for rate in level if rate != best.rate)


def _early_instability(spec: LrSweep, results: Results, best: float) -> bool | None:
    runs = _early_runs(results, best)
    return majority([_goes_up_early(run, spec.prepended_warmup) for run in runs]) if runs else None


def _goes_up_early(run: Run, warmup: int) -> bool:
    """Whether the loss, evaluated at every step, goes up for a period in the first steps after the warmup, or ends."""
    steps, losses = run.curve("train/loss")
    counted = losses[steps >= warmup]
    ended = run.infeasible_step if not run.feasible and run.reason != "no_progress" else None
    return any(period.when == "early" for period in instability(counted, baseline=run.baseline_loss)) or (
        ended is not None and ended - warmup < early_updates(EARLY_STEPS)
    )


def _figures(spec: LrSweep, results: Results, found: Found) -> list[Figure]:
    again = {item.rate: item.runs for item in found.again}
    swept = {**_swept(results), **again}
    best = found.best
    marks = {"best": best.rate if best else None, "unstable": found.unstable.rate if found.unstable else None}
    figures: list[Figure] = [
        rate_plot("learning-rate", "Best value by learning rate", {"": swept}, spec.objective, marks=marks)
    ]
    if best is None:
        return figures
    above = {**swept, **runs_by_rate(results, ABOVE)}
    figures.append(curves_above(above, best.rate, FAR_ABOVE))
    early = _early_runs(results, best.rate)
    if early:
        figures += cadences(above, early, EARLY_FACTOR, spec.prepended_warmup, spec.eval_every)
    return figures


def trainings(spec: LrSweep) -> tuple[int, int]:
    """The least and the most for a grid that is wide enough, without --find-max-train-steps."""
    *_, points = default_grid(spec)
    fewest, most = fewest_seeds(points), SEEDS * points
    if not spec.options.follow_up:
        return fewest, most
    follow_ups = SEEDS * (MOST_AT_EDGE + len(FAR_ABOVE) + 1)
    return fewest + FRESH_SEEDS, most + FRESH_SEEDS * CONTENDERS + follow_ups


LR_SWEEP = Procedure(
    "lr-sweep",
    frozenset({"learning_rate"}),
    PHASES,
    LrSweepOptions,
    next_trials,
    conclude,
    problems,
    OwnCodeNeeds(("learning_rate",)),
    trainings=trainings,
    by_metric=True,
)
