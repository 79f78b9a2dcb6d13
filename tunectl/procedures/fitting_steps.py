"""A first guess for max_train_steps: how soon the fastest constant rate fits the training set, without regularisation.

Deep Learning Tuning Playbook, "Algorithm for picking an initial candidate for max_train_steps using a learning rate
sweep": a sweep of constant rates without regularisation and augmentation; the steps of its fastest trial to perfect
training performance; and a check that the fastest rate is not at the boundary of *this* sweep.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tunectl.analysis.results.runs import Run
from tunectl.analysis.updates.detection import PerfectFit, fits_perfectly, misfit
from tunectl.core.records import Scalar
from tunectl.core.wording import as_text, nearest
from tunectl.language.configuration import FIELDS
from tunectl.language.name_meaning import is_off, off_value, regularises
from tunectl.procedures.lr_options import LrSweep
from tunectl.procedures.lr_phases import FIT_FINER, FIT_FINEST, FIT_WIDER, FIT_WIDEST, FITTING
from tunectl.procedures.procedure import CONSTANT_RATE, Results, Wish, has_all, majority, repeats
from tunectl.procedures.rate_judgements import rounded, runs_by_rate

WHOLE_TRAIN = 10_000
"""A perfect fit is measured on this number of training examples, on all of them where there are no more."""

COARSE_EVALUATIONS = 20
RESOLUTION = 20
"""The answer is wanted more finely than to a twentieth of itself."""

_WIDENED = (FIT_WIDER, FIT_WIDEST)
_FINER = (FIT_FINER, FIT_FINEST)
_COARSE = (FITTING, *_WIDENED)


@dataclass(frozen=True, slots=True)
class FirstGuess:
    """The steps to a perfect fit, the rate that was the fastest, and by how many steps it may have come earlier; or
    why there is none.
    """

    steps: int | None = None
    rate: float | None = None
    resolution: int | None = None
    why_not: str = ""


def switched_off(spec: LrSweep) -> dict[str, Scalar]:
    """The values that turn regularisation and augmentation off: as the user and the study say, else by the names."""
    known = {name: off_value(name, value) for name, value in spec.values.items()}
    by_name = {name: off for name, off in known.items() if off is not None}
    return {**by_name, **spec.off, **spec.options.off}


def problems(spec: LrSweep) -> list[str]:
    """The hyperparameters whose value without regularisation is not known, and what to write."""
    given = spec.options.off
    found = [
        f"--off: no hyperparameter named {name} in this configuration{nearest(name, list(spec.values))}"
        for name in given
        if name not in spec.values
    ]
    for name, value in given.items():
        if name in FIELDS and name in spec.values and not spec.own_code and not FIELDS[name].accepts(value):
            found.append(f"--off: expected {name} to be {FIELDS[name].expectation()}, got {as_text(value)}")
    if given and not spec.options.find_max_train_steps:
        found.append("--off: needs --find-max-train-steps, which turns these off; give both")
    if spec.options.find_max_train_steps:
        off = switched_off(spec)
        found += [
            _question(name, value)
            for name, value in spec.values.items()
            if name not in off and regularises(name) is not False and not is_off(value)
        ]
    return found


def _question(name: str, value: Scalar) -> str:
    text = as_text(value)
    if regularises(name):
        return (
            f"{name}: --find-max-train-steps trains without regularisation and augmentation, but the value that turns "
            f"{name} off is not known; give --off {name}=VALUE, or in the study {name}: {{value: {text}, off: …}}"
        )
    return (
        f"{name}: --find-max-train-steps trains without regularisation and augmentation, but the name {name} does not "
        f"show whether it is one of them; give --off {name}=VALUE with the value that turns it off, or "
        f"--off {name}={text} if it does not regularise"
    )


def fitting(spec: LrSweep, results: Results, rates: Sequence[float], step: float, steps: int | None) -> list[Wish]:
    """The constant rates, those of the sweep, wider where the fastest is at an end; then the fastest once more, with
    evaluations as fine as the answer wants.

    `step` is the ratio of neighbouring rates; `steps` replaces the study's max_train_steps.
    """
    wishes = _constant(spec, FITTING, sorted(rates), steps)
    for phase in _WIDENED:
        if not has_all(results, wishes):
            return wishes
        wider = _wider(spec, _before(results, phase), step)
        if not wider:
            break
        wishes = [*wishes, *_constant(spec, phase, wider, steps)]
    for phase in _FINER:
        if not has_all(results, wishes) or spec.own_code:
            return wishes
        wishes = [*wishes, *_again(spec, _before(results, phase), phase, steps)]
    return wishes


def is_measured(spec: LrSweep, runs: Sequence[Run]) -> bool:
    """Whether these runs measure what a perfect fit is judged by."""
    return any(len(misfit(run, spec.options.fit_metric)[0]) for run in runs)


def first_guess(spec: LrSweep, results: Results) -> FirstGuess:
    """What the constant rates say."""
    fits = _fits(spec, results)
    rates = sorted(runs_by_rate(results, *_COARSE))
    if not rates:
        wanted = spec.options.fit_metric or "train/error_rate or train/accuracy"
        return FirstGuess(why_not=f"{wanted} is not measured; give --fit METRIC=VALUE, such as --fit train/loss=0.01")
    fastest = _fastest(spec, results)
    if fastest and set(fastest) <= {rates[0], rates[-1]} and len(rates) > 1:
        end = "lowest" if rates[0] in fastest else "highest"
        return FirstGuess(
            why_not=f"the constant rate that fits the training set fastest, {fastest[0]:g}, is the {end} one that was "
            "trained, at the boundary of the sweep"
        )
    if not fits:
        return FirstGuess(why_not="no constant rate fits the training set perfectly in these steps; try more --steps")
    finest = max(level for _, _, level, _ in fits)
    step, before, rate = min((fit.step, fit.before, rate) for rate, _, level, fit in fits if level == finest)
    return FirstGuess(step, rate, step - before)


def in_words(spec: LrSweep, guess: FirstGuess) -> str:
    """The answer as sentences."""
    if guess.steps is None:
        return f"No number of steps is given: {guess.why_not}."
    changed = {name: value for name, value in switched_off(spec).items() if spec.values[name] != value}
    off = ", ".join(f"{name} {as_text(value)}" for name, value in changed.items())
    without = f" and without regularisation ({off})" if off else ""
    where = "" if spec.own_code else f" (where it has more examples, a fixed sample of {_examples(spec):,})"
    exact = "" if guess.resolution == 1 else f", or up to {(guess.resolution or 0) - 1} earlier"
    return (
        f"A first guess for max_train_steps is {guess.steps}: at a constant rate of {guess.rate:g}{without} the "
        f"training set{where} is fitted perfectly after {guess.steps} steps{exact}."
    )


def _examples(spec: LrSweep) -> int:
    return max(WHOLE_TRAIN, spec.train_examples or 0)


def _before(results: Results, phase: int) -> Results:
    return {key: run for key, run in results.items() if key[0] < phase}


def _constant(spec: LrSweep, phase: int, rates: Sequence[float], steps: int | None) -> list[Wish]:
    changes = {**switched_off(spec), **CONSTANT_RATE}
    every = min(spec.eval_every, max(1, (steps or spec.max_train_steps) // COARSE_EVALUATIONS))
    training = {**_length(steps), "eval_every": every, "train_examples": _examples(spec), "keep_checkpoints": 1}
    return [
        wish
        for point, rate in enumerate(rates)
        for wish in repeats(phase, point, {**changes, "learning_rate": rate}, training)
    ]


def _length(steps: int | None) -> dict[str, int]:
    return {} if steps is None else {"max_train_steps": steps}


def _coarse(results: Results) -> dict[float, list[Run]]:
    """The runs of the constant rates that are feasible, by rate."""
    swept = runs_by_rate(results, *_COARSE)
    return {
        rate: [run for run in runs if run.feasible]
        for rate, runs in swept.items()
        if majority([run.feasible for run in runs])
    }


def _fit(spec: LrSweep, run: Run) -> PerfectFit | None:
    return fits_perfectly(run, spec.options.fit_metric, spec.options.fit_threshold or 0.0)


def _fits(spec: LrSweep, results: Results) -> list[tuple[float, int, int, PerfectFit]]:
    """The perfect fits as (rate, repeat, level, fit); level 0 are the first, coarse runs, 1 and 2 the finer ones."""
    found = [
        (rate, run.plan.repeat, 0, fit)
        for rate, runs in _coarse(results).items()
        for run in runs
        if (fit := _fit(spec, run))
    ]
    for level, phase in enumerate(_FINER, start=1):
        for rate, runs in runs_by_rate(results, phase).items():
            found += [(rate, run.plan.repeat, level, fit) for run in runs if (fit := _fit(spec, run))]
    return found


def _fastest(spec: LrSweep, results: Results) -> list[float]:
    """The rates that fit first, by the finest evaluations; without a fit the one that comes closest."""
    fits = _fits(spec, results)
    if fits:
        finest = max(level for _, _, level, _ in fits)
        first = min(fit.step for _, _, level, fit in fits if level == finest)
        return sorted({rate for rate, _, level, fit in fits if level == finest and fit.step == first})
    left = {rate: _least_misfit(spec, runs) for rate, runs in _coarse(results).items()}
    least = min(left.values(), default=math.inf)
    return sorted(rate for rate, value in left.items() if value == least < math.inf)


def _least_misfit(spec: LrSweep, runs: Sequence[Run]) -> float:
    curves = [misfit(run, spec.options.fit_metric)[1] for run in runs]
    return min((float(value) for values in curves for value in values if math.isfinite(value)), default=math.inf)


def _wider(spec: LrSweep, results: Results, step: float) -> list[float]:
    """The rates of another decade beyond the end at which the fastest rate is."""
    fastest = _fastest(spec, results)
    rates = sorted(runs_by_rate(results, *_COARSE))
    count = max(1, round(math.log(10) / math.log(step)))
    if rates[-1] in fastest:
        return [rounded(rates[-1] * step ** (index + 1)) for index in range(count)]
    if rates[0] in fastest:
        return [rounded(rates[0] / step ** (index + 1)) for index in range(count)]
    return []


def _again(spec: LrSweep, results: Results, phase: int, steps: int | None) -> list[Wish]:
    """The runs that fitted first, up to there and under the same seeds, evaluated as often as the answer wants."""
    fits = _fits(spec, results)
    if not fits:
        return []
    finest = max(level for _, _, level, _ in fits)
    first = min(fit.step for _, _, level, fit in fits if level == finest)
    again = [(rate, repeat, fit) for rate, repeat, level, fit in fits if level == finest and fit.step == first]
    before = min(fit.before for _, _, fit in again)
    if RESOLUTION * (first - before) < first or first - before == 1:
        return []
    every = before // (RESOLUTION + 1) if before else first // RESOLUTION**2
    training = {
        **_length(steps),
        "stop_after": max(1, first - spec.prepended_warmup),
        "eval_every": max(1, every),
        "train_examples": _examples(spec),
        "keep_checkpoints": 1,
    }
    rates = sorted(runs_by_rate(results, *_COARSE))
    changes = {**switched_off(spec), **CONSTANT_RATE}
    return [
        Wish(phase, rates.index(rate), repeat, {**changes, "learning_rate": rate}, training)
        for rate, repeat, _ in sorted(again, key=lambda item: item[:2])
    ]
