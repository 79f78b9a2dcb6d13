"""Simulated trials with measured curvature: each shows one phenomenon, or looks like one and is none.

The largest eigenvalue follows a formula, with noise that lasts from line to line; some lines are lower bounds because
Lanczos did not converge. The minibatch loss falls with noise, and rises where the phenomenon says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from builders import NUISANCE_RATE, study
from numpy.typing import ArrayLike

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.runs import Floats, Run, UpdateSeries
from tunectl.core.records import PlannedTrial
from tunectl.space.trial_plan import plan_trials

PHENOMENA = (
    "above-stability-bound",
    "left-the-stable-region",
    "catapult",
    "progressive-sharpening",
    "edge-of-stability",
)
"""The findings about single trials."""

MOST_LINES = 100


@dataclass
class Drawn:
    """How a trial goes: the updates, the steps of its lines, and by step the ratio, the rate and the minibatch loss.

    `ratio` and `rate` have a value for each step from 0 to `updates`, `loss` for each update. `ended` is the update
    with the first loss that is not finite.
    """

    generator: np.random.Generator
    updates: int
    steps: np.ndarray
    ratio: Floats
    rate: Floats
    loss: Floats
    noise: float
    ended: int | None = None
    reason: str = ""
    unconverged: float = 0.0


def calm(generator: np.random.Generator) -> Drawn:
    """A trial whose ratio stays far below 1, at a constant rate or with a warmup."""
    updates = int(np.exp(generator.uniform(np.log(300), np.log(4000))))
    lines = int(generator.integers(12, MOST_LINES))
    every = max(1, updates // lines)
    steps = np.arange(0, updates + 1, every)
    level = np.exp(generator.uniform(np.log(0.03), np.log(0.6)))
    rate = np.full(updates + 1, np.exp(generator.uniform(np.log(1e-3), np.log(1.0))))
    t = np.arange(updates)
    floor = 10 ** generator.uniform(-2, -0.3)
    fall = floor + (2.3 - floor) * np.exp(-t / (updates * generator.uniform(0.03, 0.4)))
    loss = fall * np.exp(generator.uniform(0.01, 0.25) * generator.normal(size=updates))
    return Drawn(
        generator, updates, steps, np.full(updates + 1, level), rate, loss,
        noise=float(generator.uniform(0.01, 0.12)), unconverged=float(generator.choice([0.0, 0.0, 0.1, 0.3])),
    )  # fmt: skip


def run_of(drawn: Drawn, trial: int = 0) -> Run:
    """The trial as findings read it."""
    generator, last = drawn.generator, drawn.updates if drawn.ended is None else drawn.ended
    steps = drawn.steps[drawn.steps <= last]
    factors = np.exp(drawn.noise * correlated(generator, len(steps), float(generator.uniform(0, 0.7))))
    rate, ratio = drawn.rate[steps], drawn.ratio[steps] * factors
    bound = 2 / np.maximum(rate, 1e-300)
    eigenvalue = ratio * bound
    # A lower bound: Lanczos stopped early.
    stopped = generator.uniform(size=len(steps)) < drawn.unconverged
    eigenvalue = np.where(stopped, eigenvalue * generator.uniform(0.7, 1.0, size=len(steps)), eigenvalue)
    residual = np.where(stopped, 0.15, 5e-4) * eigenvalue
    at = steps.astype(float)
    metrics = {
        "lambda_1": eigenvalue, "residual": residual, "converged": (~stopped).astype(float), "bound": bound,
        "ratio": eigenvalue / bound, "learning_rate": rate,
    }  # fmt: skip
    curves = {f"curvature/{name}": (at, values) for name, values in metrics.items()}
    loss = drawn.loss[:last].copy()
    if drawn.ended is not None and drawn.reason != "diverged":
        loss = np.append(loss, np.nan)
    count = len(loss)
    rates = drawn.rate[:count]
    updates = UpdateSeries(
        loss=loss, gradient_norm=np.ones(count), learning_rate=rates,
        clipped=np.zeros(count, dtype=bool), skipped=np.zeros(count, dtype=bool),
    )  # fmt: skip
    plan = PlannedTrial(trial, 0, trial, 0, (), {"learning_rate": float(drawn.rate[-1])}, 0)
    if drawn.ended is None:
        return Run(plan, "completed", best_value=0.1, curves=curves, updates=updates)
    return Run(plan, "infeasible", drawn.reason, drawn.ended, curves=curves, updates=updates)


def correlated(generator: np.random.Generator, count: int, share: float) -> Floats:
    """Normal values of deviation 1 that last: each has this share of the one before."""
    values: Floats = generator.normal(size=count)
    for place in range(1, count):
        values[place] = share * values[place - 1] + np.sqrt(1 - share**2) * values[place]
    return values


def _done(drawn: Drawn) -> Floats:
    return np.arange(drawn.updates + 1) / drawn.updates


def _grown(drawn: Drawn, low: float, high: float, begin: float, end: float) -> Floats:
    """A ratio that grows from low to high, evenly on a logarithmic axis, between two parts of training."""
    part = np.clip((_done(drawn) - begin) / (end - begin), 0, 1)
    return np.asarray(low * (high / low) ** part)


def at_edge(generator: np.random.Generator) -> Drawn:
    """λ1 grows until the bound and stays there; with a schedule it follows 2/η."""
    drawn = calm(generator)
    grown = generator.uniform(0.05, 0.5)
    kind = generator.choice(["constant", "decay", "warmup"])
    peak = drawn.rate[0]
    if kind == "decay":
        drawn.rate = peak * (1 + 0.98 * np.cos(np.pi * _done(drawn))) / 2
    elif kind == "warmup":
        drawn.rate = peak * np.minimum(1, (_done(drawn) + 1e-3) / generator.uniform(0.2, 0.6))
    start = generator.uniform(0.1, 0.7)
    drawn.ratio = _grown(drawn, start, generator.uniform(0.98, 1.08), 0, grown)
    return drawn


def sharpening(generator: np.random.Generator) -> Drawn:
    """λ1 grows by a factor of 3 to 50 at a constant rate, or after a short warmup, up to the bound or not as far."""
    drawn = calm(generator)
    factor = np.exp(generator.uniform(np.log(3), np.log(50)))
    high = generator.uniform(0.1, 1.0)
    begin = generator.uniform(0, 0.2)
    drawn.ratio = _grown(drawn, high / factor, high, begin, begin + generator.uniform(0.25, 0.8))
    return drawn


def catapult(generator: np.random.Generator) -> Drawn:
    """The loss rises early while the ratio is above 1; then both fall."""
    drawn = calm(generator)
    length = int(generator.integers(6, max(8, min(60, drawn.updates // 10))))
    if generator.uniform() < 0.5:
        drawn.steps = np.unique(np.concatenate([np.arange(0, 3 * length, max(1, length // 4)), drawn.steps]))
    high, low = generator.uniform(1.3, 5), generator.uniform(0.2, 0.85)
    t = np.arange(drawn.updates + 1)
    drawn.ratio = low + (high - low) / (1 + np.exp(np.minimum((t - 0.6 * length) / (0.1 * length), 500)))
    rise = np.exp(np.log(generator.uniform(3, 50)) * np.sin(np.pi * np.clip(t[:-1] / length, 0, 1)))
    drawn.loss = drawn.loss * rise
    return drawn


def leaves(generator: np.random.Generator) -> Drawn:
    """The ratio grows through 1, and the loss grows with it until it is not finite, or until the end."""
    drawn = calm(generator)
    cross = int(generator.uniform(0.1, 0.8) * drawn.updates)
    start = cross + int(generator.integers(2, 60))
    length = int(generator.integers(15, 80))
    end = min(start + length, drawn.updates)
    every = int(generator.integers(1, 40))
    drawn.steps = np.arange(0, drawn.updates + 1, max(every, drawn.updates // 400))
    t = np.arange(drawn.updates + 1)
    growth = np.log(generator.uniform(1.5, 4)) / (end - cross)
    before = generator.uniform(0.2, 0.8)
    drawn.ratio = np.where(t < cross, before ** np.clip((cross - t) / cross, 0, 1), np.exp(growth * (t - cross)))
    up = np.clip((t[:-1] - start) / max(end - start, 1), 0, 1)
    drawn.loss = drawn.loss * np.exp(np.log(generator.uniform(1e2, 1e6)) * up)
    drawn.ended, drawn.reason = end, str(generator.choice(["nan_loss", "nan_gradient", "diverged"]))
    return drawn


def above(generator: np.random.Generator) -> Drawn:
    """The ratio is 1.5 to 4 for a tenth of training or more, and the loss falls all the same."""
    drawn = calm(generator)
    begin = generator.uniform(0, 0.5)
    length = generator.uniform(0.15, 0.5)
    done = _done(drawn)
    drawn.ratio = np.where((done >= begin) & (done <= begin + length), generator.uniform(1.5, 4), drawn.ratio)
    return drawn


def above_until_lost(generator: np.random.Generator) -> Drawn:
    """The ratio is above 1 from the start, and training diverges within some updates."""
    drawn = calm(generator)
    drawn.ratio = np.full(drawn.updates + 1, generator.uniform(1.7, 6))
    drawn.ended, drawn.reason = int(generator.integers(2, 40)), "nan_loss"
    drawn.loss = drawn.loss * np.exp(np.minimum(np.arange(drawn.updates) * generator.uniform(0.3, 2), 500))
    return drawn


PLANTED: Mapping[str, tuple[str, Callable[[np.random.Generator], Drawn]]] = {
    "at the edge": ("edge-of-stability", at_edge),
    "sharpening": ("progressive-sharpening", sharpening),
    "catapult": ("catapult", catapult),
    "leaves": ("left-the-stable-region", leaves),
    "above": ("above-stability-bound", above),
    "above until lost": ("above-stability-bound", above_until_lost),
}
"""For each planted case the finding that it must have, and how it is drawn."""


def _hovers_below(generator: np.random.Generator) -> Drawn:
    drawn = calm(generator)
    return replace(drawn, ratio=np.full(drawn.updates + 1, generator.uniform(0.5, 0.8)))


def _passes(generator: np.random.Generator) -> Drawn:
    drawn = calm(generator)
    return replace(drawn, ratio=_grown(drawn, generator.uniform(0.1, 0.4), generator.uniform(2.0, 5.0), 0, 1))


def _passes_slowly(generator: np.random.Generator) -> Drawn:
    """The ratio grows through the band about 1, so slowly that it is there for more than half of training."""
    drawn = calm(generator)
    return replace(drawn, ratio=_grown(drawn, generator.uniform(0.65, 0.75), generator.uniform(1.4, 1.6), 0, 1))


def _pushed_down(generator: np.random.Generator) -> Drawn:
    """A warmup pushes λ1 down, with the ratio at a level all the while."""
    drawn = calm(generator)
    drawn.rate = drawn.rate * np.minimum(1, (_done(drawn) + 1e-2) / generator.uniform(0.2, 1.0))
    return drawn


def _follows_decay(generator: np.random.Generator) -> Drawn:
    """λ1 grows because the rate falls: the ratio stays at a level far below 1."""
    drawn = calm(generator)
    drawn.rate = drawn.rate * (1 + 0.98 * np.cos(np.pi * _done(drawn))) / 2
    return drawn


def _grows_a_little(generator: np.random.Generator) -> Drawn:
    drawn = calm(generator)
    high = generator.uniform(0.1, 0.6)
    return replace(drawn, ratio=_grown(drawn, high / generator.uniform(1.1, 1.5), high, 0, generator.uniform(0.3, 1)))


def _noisy(generator: np.random.Generator) -> Drawn:
    return replace(calm(generator), noise=float(generator.uniform(0.15, 0.4)))


def _blip(generator: np.random.Generator) -> Drawn:
    """A single line above the bound, between lines far below."""
    drawn = calm(generator)
    ratio = drawn.ratio.copy()
    ratio[generator.choice(drawn.steps)] = generator.uniform(1.5, 4)
    return replace(drawn, ratio=ratio)


def _rise_below(generator: np.random.Generator) -> Drawn:
    """The loss rises and comes back for another reason than curvature: the ratio is below 1."""
    drawn = catapult(generator)
    return replace(drawn, ratio=drawn.ratio * 0.7 / drawn.ratio.max())


def _above_without_rise(generator: np.random.Generator) -> Drawn:
    drawn, smooth = catapult(generator), calm(generator)
    return replace(
        drawn, loss=np.interp(np.linspace(0, 1, drawn.updates), np.linspace(0, 1, smooth.updates), smooth.loss)
    )


def _rise_stays_above(generator: np.random.Generator) -> Drawn:
    """The loss rises and comes back, but the ratio stays above 1."""
    drawn = catapult(generator)
    return replace(drawn, ratio=np.full(drawn.updates + 1, generator.uniform(1.5, 4)))


def _lost_below(generator: np.random.Generator) -> Drawn:
    """Training diverges though the ratio stays below 1."""
    drawn = leaves(generator)
    return replace(drawn, ratio=np.full(drawn.updates + 1, generator.uniform(0.05, 0.7)))


def _lost_at_edge(generator: np.random.Generator) -> Drawn:
    """Training diverges after it was at the edge of stability for long, with no growth beyond it."""
    drawn = leaves(generator)
    return replace(drawn, ratio=np.full(drawn.updates + 1, 1.0), noise=min(drawn.noise, 0.07))


def _lost_long_after(generator: np.random.Generator) -> Drawn:
    """The ratio has been above 1 for half of training when the loss diverges."""
    drawn = leaves(generator)
    assert drawn.ended is not None
    t = np.arange(drawn.updates + 1)
    ratio = np.where(t < 0.2 * drawn.ended, 0.5, generator.uniform(1.5, 3))
    return replace(drawn, ratio=ratio) if drawn.ended > 300 else _lost_long_after(generator)


NEAR_MISSES: Mapping[str, tuple[tuple[str, ...], Callable[[np.random.Generator], Drawn]]] = {
    "calm": ((), calm),
    "hovers below": ((), _hovers_below),
    "passes through": (("progressive-sharpening", "above-stability-bound"), _passes),
    "passes slowly": (("progressive-sharpening", "above-stability-bound"), _passes_slowly),
    "pushed down": ((), _pushed_down),
    "follows a decay": ((), _follows_decay),
    "grows a little": ((), _grows_a_little),
    "noisy": ((), _noisy),
    "blip": ((), _blip),
    "rise below": ((), _rise_below),
    "above, no rise": (("above-stability-bound",), _above_without_rise),
    "rise, stays above": (("above-stability-bound",), _rise_stays_above),
    "lost below": ((), _lost_below),
    "lost at the edge": (("edge-of-stability",), _lost_at_edge),
    "lost long after": (("above-stability-bound", "progressive-sharpening"), _lost_long_after),
}
"""Cases that look like a phenomenon: the findings that they do have, and how they are drawn."""


def evidence_of_runs(runs: Sequence[Run]) -> StudyEvidence:
    """A study of these trials."""
    spec = study({"learning_rate": NUISANCE_RATE}, search="{trials: 20}")
    return StudyEvidence(spec, spec.objective, tuple(runs), frozenset(range(len(runs))), folder="runs/curvature")


def rates_evidence(kind: str, seed: int) -> StudyEvidence:
    """A study of learning rates at several batch sizes; `kind` is one of RATE_STUDIES or RATE_NEAR_MISSES.

    Above an unstable rate all trials diverge; below it the cost is a bowl on the logarithm of the rate, with noise.
    """
    generator = np.random.default_rng([seed, 41])
    smallest, count = int(generator.choice([16, 32, 64])), int(generator.integers(2, 5))
    batches = [smallest * 4**place for place in range(count)]
    spec = study(
        {"batch_size": f"{{role: scientific, values: {batches}}}", "learning_rate": NUISANCE_RATE},
        search=f"{{trials: {generator.integers(12, 25)}, seed: {seed}}}",
    )
    unstable, optimum = _rates_of_kind(kind, generator, batches)
    noise = generator.uniform(0.02, 0.1)
    runs = []
    for plan in plan_trials(spec):
        rate, batch = float(plan.hyperparameters["learning_rate"]), int(plan.hyperparameters["batch_size"])
        if rate > unstable[batch]:
            runs.append(Run(plan, "infeasible", "nan_loss", int(generator.integers(1, 200))))
            continue
        slope = 0.0 if kind == "rate without effect" else 0.15
        error = 0.1 * np.exp(slope * np.log(rate / optimum[batch]) ** 2 + noise * generator.normal())
        runs.append(Run(plan, "completed", best_value=float(error), best_step=100))
    return StudyEvidence(spec, spec.objective, tuple(runs), folder="runs/rates")


def _rates_of_kind(
    kind: str, generator: np.random.Generator, batches: Sequence[int]
) -> tuple[dict[int, float], dict[int, float]]:
    """By batch size the rate above which training diverges, and the one that would be best."""
    edge = float(np.exp(generator.uniform(np.log(0.03), np.log(0.3))))
    growth = {batch: batch / batches[0] if kind == "grows with the batch" else 1.0 for batch in batches}
    if kind == "grows with the batch":
        edge = 0.5 / growth[batches[-1]]
    unstable = {batch: edge * growth[batch] for batch in batches}
    if kind == "nothing diverges":
        return dict.fromkeys(batches, 2.0), dict.fromkeys(batches, 10.0)
    part = generator.uniform(2, 10) if kind != "best inside" else 1 / generator.uniform(4, 15)
    return unstable, {batch: unstable[batch] * part for batch in batches}


RATE_STUDIES = ("largest stable rate is best",)
RATE_NEAR_MISSES = ("best inside", "rate without effect", "grows with the batch", "nothing diverges")


def measured_run(
    steps: ArrayLike,
    ratio: ArrayLike,
    *,
    rate: ArrayLike = 0.1,
    loss: Floats | None = None,
    known: ArrayLike | None = None,
    trial: int = 0,
    **changes: Any,
) -> Run:
    """A completed trial of sgd with these lines; `known` says which converged, `changes` are fields of Run."""
    at, values = np.asarray(steps, dtype=float), np.asarray(ratio, dtype=float)
    rates = np.broadcast_to(np.asarray(rate, dtype=float), at.shape)
    bound = 2 / rates
    converged = np.ones(len(at), dtype=bool) if known is None else np.asarray(known)
    metrics = {
        "lambda_1": values * bound,
        "residual": np.where(converged, 0.0, 0.5) * np.abs(values * bound),
        "converged": converged.astype(float),
        "bound": bound,
        "ratio": values,
        "learning_rate": rates,
    }
    curves = {f"curvature/{name}": (at, value) for name, value in metrics.items()}
    count = 0 if loss is None else len(loss)
    none = np.zeros(count, dtype=bool)
    series = np.zeros(0) if loss is None else loss
    updates = UpdateSeries(series, np.ones(count), np.full(count, 0.1), clipped=none, skipped=none)
    plan = PlannedTrial(trial, 0, trial, 0, (), {"learning_rate": 0.1}, 0)
    return Run(plan, **{"state": "completed", "best_value": 0.1, "curves": curves, "updates": updates, **changes})
