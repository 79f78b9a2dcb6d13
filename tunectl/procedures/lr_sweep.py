"""`lr-sweep`: the best learning rate, and the one at which training becomes unstable.

Deep Learning Tuning Playbook, "Identifying unstable workloads": sweep the learning rate, find the best one lr*, look at
the training loss of the rates just above it and at 5 and 10 times it, and train some 500 steps at 2 lr* with an
evaluation at every step, since an early instability hides between rare evaluations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain

from tunectl.analysis.detection import fits_perfectly
from tunectl.analysis.figures import Figure
from tunectl.analysis.instability import instability
from tunectl.analysis.regularisation import KNOWN_REGULARISATION
from tunectl.analysis.runs import Run
from tunectl.core.errors import UsageError
from tunectl.core.records import Scalar
from tunectl.procedures.lr_figures import curves_above, first_steps
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
    majority,
    repeats,
    runs_of,
)
from tunectl.procedures.rate_plot import rate_plot
from tunectl.procedures.rates import (
    RateJudgement,
    best_rate,
    judged,
    log_grid,
    next_unstable,
    rounded,
    runs_by_rate,
    with_lost,
)
from tunectl.spec.document import scalar

GRID, LOWER, HIGHER, AGAIN_LOWER, AGAIN_HIGHER, EDGE, ABOVE, EARLY, FITTING = range(9)
PHASES = (
    "learning rates",
    "lower learning rates",
    "higher learning rates",
    "still lower learning rates",
    "still higher learning rates",
    "rates just below the unstable one",
    "curves above the best rate",
    "the first steps at twice the best rate",
    "constant rates without regularisation",
)
_EXTENSIONS = ((LOWER, HIGHER), (AGAIN_LOWER, AGAIN_HIGHER))
_SWEEPS = (GRID, *chain(*_EXTENSIONS), EDGE)

REACH = 100.0
"""Without a range of its own, the sweep reaches so far below and above the study's learning rate."""

POINTS_PER_DECADE = 3
"""Near the edge outcomes are chaotic: a factor of about 2 between rates is what a judgement can carry."""

FAR_ABOVE = (5.0, 10.0)
"""The playbook looks at the training loss at 5 and 10 times the best rate (figure 7b)."""

NEAR_EDGE = 1.5
MOST_AT_EDGE = 2
"""The unstable rate is wanted to this factor, since warmup-sweep goes on from multiples of it; between it and the
next rate below so many rates at most are trained for that.
"""

AT_EDGE = 5.0
"""The best rate is at the edge where training is unstable within this factor above it. The playbook looks at 5 and 10
times the best rate; noise of the seeds moves the best rate by a factor of 2 or 3.
"""

EARLY_STEPS = 500
EARLY_FACTOR = 2.0
"""The playbook's abbreviated run: some 500 steps at twice the current best."""


def default_grid(spec: SweepSpec) -> tuple[float, float, int]:
    """The lowest and the highest rate, and the number of rates, where the user gave none."""
    given_low, given_high, points = (spec.options.get(name) for name in ("low", "high", "points"))
    low, high = spec.learning_rates or (None, None)
    if (low is None or high is None) and "learning_rate" in spec.values:
        centre = float(spec.values["learning_rate"])
        low, high = centre / REACH, centre * REACH
    low, high = given_low or low, given_high or high
    if low is None or high is None:
        raise UsageError("no learning_rate has a value or a range here; give --low and --high")
    decades = math.log10(high / low) if 0 < low < high else 0.0
    return low, high, points or max(2, math.ceil(decades * POINTS_PER_DECADE) + 1)


def next_trials(spec: SweepSpec, results: Results) -> Sequence[Wish]:
    """The grid; its extensions where it was too narrow; the edge more closely; then the follow-ups."""
    wishes = _grid(spec, results, GRID, log_grid(*default_grid(spec)))
    for phases in _EXTENSIONS:
        if not has_all(results, wishes):
            return wishes
        extension = _extension(spec, results, phases)
        if not extension:
            break
        wishes = [*wishes, *extension]
    if not has_all(results, wishes):
        return wishes
    if spec.options.get("follow_up", True):
        wishes = [*wishes, *_at_edge(spec, results)]
    if not has_all(results, wishes):
        return wishes
    best = best_rate(_judgements(spec, results))
    if best is not None and spec.options.get("follow_up", True):
        # Own code is not to be made to evaluate every step.
        wishes = [*wishes, *_above(spec, results, best), *(_early(spec, best) if not spec.own_code else [])]
    if best is not None and spec.options.get("find_max_train_steps") and not _at_boundary(spec, results):
        wishes = [*wishes, *_fitting(spec, results)]
    return wishes


def _schedule(spec: SweepSpec) -> Mapping[str, Scalar | None]:
    return CONSTANT_RATE if spec.options.get("constant") else {}


def _training(spec: SweepSpec) -> dict[str, int]:
    steps = spec.options.get("steps")
    return {} if steps is None else {"max_train_steps": steps, "eval_every": min(spec.eval_every, steps)}


def _grid(spec: SweepSpec, results: Results, phase: int, rates: Sequence[float]) -> list[Wish]:
    wishes = [
        wish
        for point, rate in enumerate(rates)
        for wish in repeats(phase, point, {**_schedule(spec), "learning_rate": rate}, _training(spec))
    ]
    return by_majority(results, wishes)


def _swept(results: Results) -> dict[float, list[Run]]:
    return runs_by_rate(results, *_SWEEPS)


def _judgements(spec: SweepSpec, results: Results) -> list[RateJudgement]:
    swept = _swept(results)
    judgements = judged(swept, spec.objective)
    return with_lost(judgements, swept, spec.objective) if spec.own_code else judgements


def _before(results: Results, phase: int) -> Results:
    """The results without those of a phase and what came after it: what the phase was decided by."""
    return {key: run for key, run in results.items() if key[0] < phase}


def _extension(spec: SweepSpec, results: Results, phases: tuple[int, int]) -> list[Wish]:
    """More rates on the side on which the sweep was too narrow, as far again as one decade."""
    judgements = _judgements(spec, _before(results, phases[0]))
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


def _step(spec: SweepSpec) -> float:
    """The ratio of two neighbouring rates."""
    low, high, points = default_grid(spec)
    return float((high / low) ** (1 / max(1, points - 1))) if high > low else 10 ** (1 / POINTS_PER_DECADE)


def _at_edge(spec: SweepSpec, results: Results) -> list[Wish]:
    """Rates between the smallest unstable one above the best and the rate below it, evenly on a logarithmic axis."""
    judgements = _judgements(spec, _before(results, EDGE))
    best = best_rate(judgements)
    unstable = next_unstable(judgements, best.rate) if best is not None else None
    if unstable is None:
        return []
    below = max(item.rate for item in judgements if item.rate < unstable.rate)
    # A hair less: the ratio of rounded rates must not count as more than it is.
    parts = math.ceil(math.log(unstable.rate / below) / math.log(NEAR_EDGE) - 1e-3)
    return _grid(spec, results, EDGE, log_grid(below, unstable.rate, min(parts, MOST_AT_EDGE + 1) + 1)[1:-1])


def _above(spec: SweepSpec, results: Results, best: RateJudgement) -> list[Wish]:
    """The rates far above the best one that the sweep did not train at."""
    trained = list(_swept(results))
    wanted = [rounded(best.rate * factor) for factor in FAR_ABOVE]
    missing = [rate for rate in wanted if not any(_close(rate, other) for other in trained)]
    return _grid(spec, results, ABOVE, missing)


def _close(rate: float, other: float) -> bool:
    return abs(math.log(rate / other)) < math.log(1.1)


def _early(spec: SweepSpec, best: RateJudgement) -> list[Wish]:
    steps = min(EARLY_STEPS, spec.options.get("steps") or spec.max_train_steps)
    changes = {**_schedule(spec), "learning_rate": rounded(best.rate * EARLY_FACTOR)}
    return repeats(EARLY, 0, changes, {"max_train_steps": steps, "eval_every": 1, "keep_checkpoints": 1})


def _fitting(spec: SweepSpec, results: Results) -> list[Wish]:
    return [
        wish
        for point, rate in enumerate(sorted(_swept(results)))
        for wish in repeats(FITTING, point, {**spec.off, **CONSTANT_RATE, "learning_rate": rate}, _training(spec))
    ]


def fit_of(text: str | None) -> tuple[str | None, float | None]:
    """The metric and the threshold of `--fit METRIC=VALUE`; raises UsageError where it is none."""
    if text is None:
        return None, None
    metric, _, value = text.partition("=")
    threshold = scalar(value)
    if "/" not in metric or isinstance(threshold, (bool, str)) or threshold is None:
        raise UsageError(f"--fit {text}: write METRIC=VALUE, such as train/loss=0.01")
    return metric, float(threshold)


def problems(spec: SweepSpec) -> list[str]:
    """What is wrong with what was asked."""
    low, high, points = default_grid(spec)
    found = []
    if not 0 < low < high:
        found.append(f"--low {low:g} --high {high:g}: 0 < low < high is due")
    if points < 2:
        found.append(f"--points {points}: at least 2 are due")
    if spec.options.get("find_max_train_steps"):
        found += [
            f"{name}: --find-max-train-steps trains without regularisation and augmentation, and the study does not "
            f"say when {name} is off; write {name}: {{value: {value}, off: …}}"
            for name, value in spec.values.items()
            if name in KNOWN_REGULARISATION and name not in spec.off and value not in (0, False, "none")
        ]
    return found


def _at_boundary(spec: SweepSpec, results: Results) -> bool:
    judgements = _judgements(spec, results)
    best = best_rate(judgements)
    return best is None or best.rate in (judgements[0].rate, judgements[-1].rate)


def conclude(spec: SweepSpec, results: Results) -> Conclusion:
    """The best rate, the smallest unstable one above it, and what that means."""
    judgements = _judgements(spec, results)
    best = best_rate(judgements)
    unstable = next_unstable(judgements, best.rate) if best is not None else None
    early = _early_instability(results)
    steps, why_no_steps = _max_train_steps(spec, results)
    answers = {
        "best_learning_rate": best.rate if best else None,
        "unstable_base_learning_rate": unstable.rate if unstable else None,
        "edge_of_stability": _is_at_edge(best, unstable) if best else None,
        "at_boundary": _at_boundary(spec, results),
        "early_instability": early,
        "max_train_steps": steps,
    }
    return Conclusion(
        verdict=_verdict(spec, answers, best, unstable, _extended(results), why_no_steps),
        answers=answers,
        header=("learning_rate", "runs", spec.objective.metric, "stability"),
        rows=[(item.rate, item.runs, item.best, item.kind or "stable") for item in judgements],
        figures=_figures(spec, results, judgements, best),
    )


def _is_at_edge(best: RateJudgement, unstable: RateJudgement | None) -> bool:
    return unstable is not None and unstable.rate <= AT_EDGE * best.rate


def _extended(results: Results) -> int:
    return sum(any(key[0] in phases for key in results) for phases in _EXTENSIONS)


def _early_instability(results: Results) -> bool | None:
    runs = [run for runs in runs_of(results, EARLY).values() for run in runs]
    if not runs:
        return None
    return majority([_goes_up_early(run) for run in runs])


def _goes_up_early(run: Run) -> bool:
    """Whether the loss, evaluated at every step, goes up for a period in the first steps."""
    _, losses = run.curve("train/loss")
    return any(period.when == "early" for period in instability(losses, baseline=run.baseline_loss))


def _max_train_steps(spec: SweepSpec, results: Results) -> tuple[int | None, str]:
    if not spec.options.get("find_max_train_steps"):
        return None, ""
    if _at_boundary(spec, results):
        return None, "no number of steps is given: the best learning rate lies at the boundary of the sweep"
    metric, threshold = spec.options.get("fit_metric"), spec.options.get("fit_threshold") or 0.0
    feasible = [runs for runs in runs_of(results, FITTING).values() if majority([run.feasible for run in runs])]
    fits = [step for runs in feasible for run in runs if (step := fits_perfectly(run, metric, threshold)) is not None]
    if not fits:
        return None, "no number of steps is given: no rate fits the training set perfectly in these steps"
    return min(fits), ""


def _verdict(
    spec: SweepSpec,
    answers: Mapping[str, object],
    best: RateJudgement | None,
    unstable: RateJudgement | None,
    extended: int,
    why_no_steps: str,
) -> str:
    if best is None:
        return "No learning rate in the sweep is feasible: go lower, or look at the model's initialisation."
    parts = [f"The best learning rate is {best.rate:g} ({spec.objective.metric} {best.best:.4g})"]
    if unstable is None:
        parts[0] += "; no rate in the sweep is unstable."
    elif answers["edge_of_stability"]:
        parts[0] += (
            f", at the edge of stability: at {unstable.rate:g} training is unstable ({unstable.kind}). Stabilising it "
            "would allow higher rates: try warmup-sweep, then clip-sweep."
        )
    else:
        parts[0] += f", away from the edge: training becomes unstable at {unstable.rate:g} ({unstable.kind})."
    if answers["early_instability"]:
        parts.append(f"At {EARLY_FACTOR:g} times it the loss goes up in the first steps, between ordinary evaluations.")
    if answers["at_boundary"]:
        parts.append("It lies at the boundary of the sweep: a wider one may find a better rate.")
    elif extended:
        parts.append("The sweep was too narrow at first and was extended.")
    if why_no_steps:
        parts.append(f"{why_no_steps[0].upper()}{why_no_steps[1:]}.")
    elif answers["max_train_steps"] is not None:
        parts.append(f"A first guess for max_train_steps is {answers['max_train_steps']}.")
    return " ".join(parts)


def _figures(
    spec: SweepSpec, results: Results, judgements: Sequence[RateJudgement], best: RateJudgement | None
) -> list[Figure]:
    swept = _swept(results)
    unstable = next_unstable(judgements, best.rate) if best is not None else None
    marks = {"best": best.rate if best else None, "unstable": unstable.rate if unstable else None}
    plot = rate_plot("learning-rate", "Best value by learning rate", {"": swept}, spec.objective, marks=marks)
    figures: list[Figure] = [plot]
    if best is not None:
        above = {**swept, **runs_by_rate(results, ABOVE)}
        figures.append(curves_above(above, best.rate, FAR_ABOVE))
    early = [run for runs in runs_of(results, EARLY).values() for run in runs]
    return [*figures, first_steps(early, EARLY_FACTOR)] if early else figures


_NEEDS = OwnCodeNeeds(("learning_rate",))

LR_SWEEP = Procedure("lr-sweep", frozenset({"learning_rate"}), PHASES, next_trials, conclude, problems, _NEEDS)
