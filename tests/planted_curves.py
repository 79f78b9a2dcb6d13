"""Simulated studies whose trials train with one planted flaw, and healthy ones that look like it at first sight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from simulated_studies import CHANCE, rewritten, simulated_evidence

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.runs import Run

Fall = Callable[[np.ndarray], np.ndarray]
"""How far a curve is from its level, from 1 to 0, by the share of training that is done."""

Plant = Callable[[np.random.Generator], Callable[[Run], Run]]
"""What draws how the trials of a study train with a flaw."""

LN_10 = float(np.log(10.0))
TRAINED_BEST = 8
"""The number of best trials of each setting whose updates are simulated: the good ones of the studies here."""


def planted_evidence(flaw: str, seed: int, **changes: Any) -> StudyEvidence:
    """A simulated study, otherwise clean, in which trials train with the flaw; `changes` as for simulated_evidence."""
    generator = np.random.default_rng([seed, 30])
    if flaw in UPDATE_FLAWS:
        clean = simulated_evidence(seed, **{"updates_of": TRAINED_BEST, "trials": 24, **changes})
        plant = UPDATE_FLAWS[flaw](generator)
        return replace(clean, runs=tuple(plant(run) if len(run.updates) else run for run in clean.runs))
    clean = simulated_evidence(seed, **{"schedule": "constant", **changes})
    plant = CURVE_FLAWS[flaw](generator)
    spared = set()
    if flaw == "overfitting-elsewhere":
        spared = {runs[0].plan.trial for setting in clean.by_setting.values() if (runs := clean.ranked(setting))}
    return rewritten(clean, lambda run: plant(run) if run.feasible and run.plan.trial not in spared else run)


def each(plant: Callable[[np.random.Generator, Run], Run]) -> Plant:
    """The plant that draws again for every trial."""
    return lambda generator: lambda run: plant(generator, run)


def with_curves(
    generator: np.random.Generator,
    run: Run,
    fall: Fall,
    *,
    train_fall: Fall | None = None,
    scatter: float = 0.02,
    level: float | None = None,
) -> Run:
    """The run with curves that go from chance to its level as `fall` goes from 1 to 0, a function of what is done."""
    level = end_level(run) if level is None else level

    def values(name: str) -> np.ndarray:
        steps, _ = run.curve(name)
        done = steps / steps[-1]
        shape = train_fall if train_fall is not None and name.startswith("train/") else fall
        scale = LN_10 / CHANCE if name.endswith("loss") else 1.0
        errors = (level + (CHANCE - level) * shape(done)) * np.exp(scatter * generator.normal(size=len(steps)))
        return 1 - np.minimum(errors, 1.0) if name.endswith("accuracy") else scale * errors

    return replace(run, curves={name: (run.curve(name)[0], values(name)) for name in run.curves})


def end_level(run: Run) -> float:
    """The error at which a healthy trial ends: the median of its last ones."""
    return float(np.median(run.curve("valid/error_rate")[1][-5:]))


def settling_fall(generator: np.random.Generator) -> Fall:
    """A power law that is done after about half of training, before another flaw shows."""
    time, power, end = generator.uniform(0.01, 0.03), generator.uniform(0.8, 1.2), generator.uniform(0.5, 0.7)
    return lambda done: (1 + done / time) ** -power * np.clip(1 - done / end, 0, 1)


def healthy_fall(generator: np.random.Generator) -> Fall:
    """A power law that goes on until the end."""
    time, power = generator.uniform(0.005, 0.02), generator.uniform(0.4, 0.7)
    end = (1 + 1 / time) ** -power
    return lambda done: ((1 + done / time) ** -power - end) / (1 - end)


def exponential_fall(time: float) -> Fall:
    """An exponential that has not come to its end."""
    return lambda done: np.exp(-done / time)


def _overfitting(generator: np.random.Generator, run: Run) -> Run:
    fall, turn, rise = settling_fall(generator), generator.uniform(0.3, 0.55), generator.uniform(0.5, 1.5)
    ratio = end_level(run) / CHANCE

    def turning(done: np.ndarray) -> np.ndarray:
        return fall(done) + rise * ratio * np.clip((done - turn) / (1 - turn), 0, 1)

    return with_curves(generator, run, turning, train_fall=lambda done: fall(done) - 0.8 * ratio * done)


def _late_variance(generator: np.random.Generator, run: Run) -> Run:
    calm, noise = with_curves(generator, run, settling_fall(generator)), generator.uniform(0.4, 0.7)
    curves = dict(calm.curves)
    steps, errors = curves["valid/error_rate"]
    jumps = np.where(steps > 0.3 * steps[-1], np.exp(noise * generator.normal(size=len(steps))), 1.0)
    curves["valid/error_rate"] = (steps, np.minimum(errors * jumps, 1.0))
    curves["valid/accuracy"] = (steps, 1 - curves["valid/error_rate"][1])
    return replace(calm, curves=curves)


def _still_improving(generator: np.random.Generator, run: Run) -> Run:
    slope = generator.uniform(0.4, 1.0)
    fall = (
        (lambda done: 1 - slope * done) if generator.uniform() < 0.5 else exponential_fall(generator.uniform(0.45, 1))
    )
    return with_curves(generator, run, fall)


def _saturated(generator: np.random.Generator, run: Run) -> Run:
    return with_curves(generator, run, exponential_fall(generator.uniform(0.005, 0.02)), scatter=0.015)


def _best_early(generator: np.random.Generator, run: Run) -> Run:
    """The error of a small validation set, which no longer changes."""
    fallen = with_curves(generator, run, exponential_fall(generator.uniform(0.003, 0.008)), scatter=0.0)
    return replace(
        fallen, curves={name: (steps, np.round(values, 2)) for name, (steps, values) in fallen.curves.items()}
    )


def _train_rising(generator: np.random.Generator, run: Run) -> Run:
    fall, turn, rise = settling_fall(generator), generator.uniform(0.3, 0.6), generator.uniform(0.15, 0.4)
    return with_curves(
        generator, run, fall, train_fall=lambda done: fall(done) + rise * np.clip((done - turn) / (1 - turn), 0, 1)
    )


def _periodic(generator: np.random.Generator) -> Callable[[Run], Run]:
    """One period for all trials of the study, each with a phase of its own."""
    period = generator.uniform(2.5, 6)

    def plant(run: Run) -> Run:
        fall, phase = settling_fall(generator), generator.uniform(0, 2 * np.pi)
        cycles = (len(run.curve("valid/loss")[0]) - 1) / period
        return with_curves(
            generator, run, lambda done: fall(done) + 0.03 * (1 + np.sin(2 * np.pi * cycles * done + phase))
        )

    return plant


CURVE_FLAWS: dict[str, Plant] = {
    "overfitting": each(_overfitting),
    "overfitting-elsewhere": each(_overfitting),
    "late-variance": each(_late_variance),
    "still-improving": each(_still_improving),
    "best-step-late": each(_still_improving),
    "saturated-early": each(_saturated),
    "best-step-early": each(_best_early),
    "train-loss-rising": each(_train_rising),
    "periodic-evaluations": _periodic,
}
"""For each flaw how a trial trains with it."""


def with_updates_changed(run: Run, **changes: Any) -> Run:
    """The run with other series of its updates."""
    return replace(run, updates=replace(run.updates, **changes))


def _spikes(generator: np.random.Generator, run: Run) -> Run:
    loss = run.updates.loss.copy()
    for start in generator.choice(np.arange(len(loss) // 5, len(loss) - 20), 3, replace=False):
        loss[start : start + 4] *= generator.uniform(8, 20)
    return with_updates_changed(run, loss=loss)


def _outliers(generator: np.random.Generator, run: Run) -> Run:
    norms = run.updates.gradient_norm.copy()
    chosen = generator.choice(len(norms), max(4, len(norms) // 150), replace=False)
    norms[chosen] *= generator.uniform(15, 100, size=len(chosen))
    return with_updates_changed(run, gradient_norm=norms)


def _plateau(generator: np.random.Generator, run: Run) -> Run:
    updates = len(run.updates)
    level = generator.uniform(0.3, 0.7) * LN_10
    fall = np.exp(-np.arange(updates) / (generator.uniform(0.003, 0.01) * updates))
    loss = (level + (LN_10 - level) * fall) * np.exp(0.1 * generator.normal(size=updates))
    return with_updates_changed(run, loss=loss)


def _diverging(generator: np.random.Generator, run: Run) -> Run:
    updates = len(run.updates)
    start = int(generator.uniform(0.4, 0.7) * updates)
    up = np.clip((np.arange(updates) - start) / (updates - start), 0, 1)
    return with_updates_changed(run, loss=run.updates.loss * np.exp(np.log(generator.uniform(20, 100)) * up))


def _clipped(generator: np.random.Generator, run: Run) -> Run:
    share = generator.uniform(0.6, 0.95)
    return with_updates_changed(run, clipped=generator.uniform(size=len(run.updates)) < share)


def _ratio(generator: np.random.Generator) -> Callable[[Run], Run]:
    """Updates all too large, or all too small."""
    factor = generator.uniform(25, 100) ** float(generator.choice([-1, 1]))
    return lambda run: with_updates_changed(run, update_ratio=run.updates.update_ratio * factor)


UPDATE_FLAWS: dict[str, Plant] = {
    "loss-spikes": each(_spikes),
    "gradient-outliers": each(_outliers),
    "plateau": each(_plateau),
    "diverging": each(_diverging),
    "clipping-too-aggressive": each(_clipped),
    "update-ratio": _ratio,
}
"""For each flaw how the updates of a trial show it."""


def healthy_evidence(kind: str, seed: int) -> StudyEvidence:
    """A study without a flaw whose curves could be taken for one."""
    generator = np.random.default_rng([seed, 31])
    changes = {"few evaluations": {"max_train_steps": 1000, "eval_every": int(generator.choice([200, 250, 333]))}}
    base: dict[str, Any] = {"schedule": "constant", "trials": int(generator.integers(6, 40)), **changes.get(kind, {})}
    clean = simulated_evidence(seed, **base)
    return rewritten(clean, lambda run: HEALTHY[kind](generator, run) if run.feasible else run)


def _power_law(generator: np.random.Generator, run: Run) -> Run:
    time, power = 10 ** generator.uniform(-3, -1.7), generator.uniform(0.3, 0.7)
    return with_curves(generator, run, lambda done: (1 + done / time) ** -power, scatter=generator.uniform(0.01, 0.04))


def _quantised(generator: np.random.Generator, run: Run) -> Run:
    trained = with_curves(generator, run, healthy_fall(generator), level=float(generator.choice([0.004, 0.01, 0.03])))
    return _in_examples(generator, trained, 500)


def _in_examples(generator: np.random.Generator, run: Run, examples: int) -> Run:
    """Error rates as `examples` examples give them; a few examples on the edge change sides."""
    curves = dict(run.curves)
    for name in ("valid/error_rate", "train/error_rate"):
        steps, values = curves[name]
        wrong = np.round(values * examples) + generator.integers(-1, 2, size=len(steps))
        curves[name] = (steps, np.maximum(wrong, 0) / examples)
    curves["valid/accuracy"] = (curves["valid/error_rate"][0], 1 - curves["valid/error_rate"][1])
    return replace(run, curves=curves)


def _fitted(generator: np.random.Generator, run: Run) -> Run:
    """No error at all for the last tenth or two."""
    end = generator.uniform(0.8, 0.9)
    return with_curves(generator, run, lambda done: np.clip(1 - done / end, 0, 1) ** 4, level=0.0)


def _catapult(generator: np.random.Generator, run: Run) -> Run:
    fall, height = healthy_fall(generator), generator.uniform(0.5, 20)
    return with_curves(generator, run, lambda done: fall(done) + height * (done > 0) * np.exp(-((done / 0.03) ** 2)))


def _warmup(generator: np.random.Generator, run: Run) -> Run:
    fall, length = healthy_fall(generator), generator.uniform(0.05, 0.2)
    return with_curves(generator, run, lambda done: fall(np.maximum(done - length, 0)))


def _with_holes(generator: np.random.Generator, run: Run) -> Run:
    curves = {}
    for name, (steps, values) in with_curves(generator, run, healthy_fall(generator)).curves.items():
        holes = generator.uniform(size=len(steps)) < 0.2
        curves[name] = (steps, np.where(holes, generator.choice([np.nan, np.inf]), values))
    return replace(run, curves=curves)


def _correlated(generator: np.random.Generator, run: Run) -> Run:
    """Noise that lasts over several evaluations."""
    trained = with_curves(generator, run, healthy_fall(generator), scatter=0.0)
    share, curves = generator.uniform(0.3, 0.8), {}
    for name, (steps, values) in trained.curves.items():
        noise = generator.normal(size=len(steps))
        for place in range(1, len(noise)):
            noise[place] = share * noise[place - 1] + np.sqrt(1 - share**2) * noise[place]
        curves[name] = (steps, values * np.exp(0.03 * noise))
    return replace(trained, curves=curves)


HEALTHY = {
    "power law": _power_law,
    "quantised": _quantised,
    "fitted": _fitted,
    "catapult": _catapult,
    "warmup": _warmup,
    "few evaluations": lambda generator, run: run,
    "holes": _with_holes,
    "correlated": _correlated,
}
"""Kinds of healthy training."""
