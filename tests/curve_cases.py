"""Curves of error rates that go flat or turn up somewhere, and clean ones of many shapes, in small studies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from builders import study

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.runs import Run
from tunectl.core.records import PlannedTrial, Scalar

Errors = tuple["np.ndarray", "np.ndarray"]
"""The error rates of a trial on valid and on train."""

STEPS = 2000
START = 0.9


def curves_study(settings: Sequence[Sequence[Errors]], **training: str) -> StudyEvidence:
    """A study in which each setting has trials with these (valid, train) error rates, after START at step 0."""
    spec = study(training=f"{{max_train_steps: {STEPS}, eval_every: {STEPS // len(settings[0][0][0])}}}", **training)
    runs: list[Run] = []
    for setting, pairs in enumerate(settings):
        for valid, train in pairs:
            steps = np.linspace(0, STEPS, len(valid) + 1)
            values: dict[str, Scalar] = {"optimizer": f"sgd{setting}" if setting else "sgd", "learning_rate": 0.1}
            plan = PlannedTrial(len(runs), setting, len(runs), 0, (), values, 0)
            curves = {
                f"{split}/error_rate": (steps, np.append(START, errors))
                for split, errors in (("valid", valid), ("train", train))
            }
            best = int(np.argmin(valid))
            runs.append(
                Run(plan, "completed", best_value=float(valid[best]), best_step=int(steps[1 + best]), curves=curves)
            )
    return StudyEvidence(spec, spec.objective, tuple(runs))


def shares_done(evaluations: int) -> np.ndarray:
    """The share of training that is done at each evaluation after step 0."""
    return np.arange(1, evaluations + 1) / evaluations


def flat_from(
    generator: np.random.Generator, begin: float, *, evaluations: int = 20, level: float = 0.05, scatter: float = 0.02
) -> np.ndarray:
    """Error rates that fall until `begin` of training, in one of three ways, and stay at about `level`."""
    done = shares_done(evaluations)
    fall = [
        np.clip(1 - done / begin, 0, 1) ** generator.uniform(1, 2),
        np.exp(-6 * done / begin) * (done < begin),
        np.where(done < begin, (1 + 20 * done / begin) ** -0.8, 0.0),
    ][generator.integers(3)]
    return (level + (START - level) * fall) * np.exp(scatter * generator.normal(size=evaluations))


CLEAN_SHAPES = (
    *("power law", "exponential", "cosine", "linear", "steps", "lasting noise", "catapult", "flat end"),
    *("1,000 examples", "200 examples", "noisy", "flat"),
)


def clean_pair(generator: np.random.Generator, shape: str, *, evaluations: int) -> tuple[np.ndarray, np.ndarray]:
    """The validation and training error rates of one trial without a flaw."""
    done = shares_done(evaluations)
    power, time = generator.uniform(0.3, 0.8), 10 ** generator.uniform(-2.5, -1.3)
    law = (1 + done / time) ** -power
    fall = {
        "exponential": np.exp(-done / generator.uniform(0.15, 0.35)),
        "cosine": law * (1 + np.cos(np.pi * done)) / 2,
        "linear": law * (1 - done),
        "steps": law * np.where(done > 1 / 3, 0.5, 1) * np.where(done > 2 / 3, 0.5, 1),
        "catapult": law + generator.uniform(0.2, 2) * np.exp(-(((done - 0.05) / 0.05) ** 2)),
        "flat": (done < 0.1) * 1.0,
        "flat end": np.clip(1 - done / generator.uniform(0.7, 0.9), 0, 1),
    }.get(shape, law)
    level = 10 ** generator.uniform(-2, -0.5)
    scatter = generator.uniform(0.1, 0.3) if shape == "noisy" else generator.uniform(0.005, 0.05)

    def split(level: float) -> np.ndarray:
        noise = generator.normal(size=evaluations)
        if shape == "lasting noise":
            share = generator.uniform(0.2, 0.7)
            for place in range(1, evaluations):
                noise[place] = share * noise[place - 1] + np.sqrt(1 - share**2) * noise[place]
        errors: np.ndarray = np.minimum((level + (START - level) * fall) * np.exp(scatter * noise), 1.0)
        if shape.endswith("examples"):
            examples = int(shape.split()[0].replace(",", ""))
            errors = generator.binomial(examples, errors) / examples
        return errors

    return split(level), split(level * generator.uniform(0.3, 1.0))


def rising_pair(
    generator: np.random.Generator,
    low: float,
    high: float,
    *,
    evaluations: int,
    examples: int,
    turn: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """An error rate that falls to `low`, then rises to `high`, and a training error that falls.

    The first is counted on `examples` examples; with 0 it is a smooth curve with a scatter of one per cent.
    """
    done, turn = shares_done(evaluations), generator.uniform(0.3, 0.5) if turn is None else turn
    fall = (START - low) * np.clip(1 - done / turn, 0, 1) ** generator.uniform(1.5, 3)
    errors = low + fall + (high - low) * np.clip((done - turn) / (1 - turn), 0, 1)
    scatter = np.exp(0.01 * generator.normal(size=(2, evaluations)))
    valid = generator.binomial(examples, errors) / examples if examples else errors * scatter[0]
    return valid, START * np.exp(-4 * done) * scatter[1]


def only_rising(
    generator: np.random.Generator, low: float, high: float, *, evaluations: int
) -> tuple[np.ndarray, np.ndarray]:
    """An error rate that is best at its first evaluation and then only rises, by nearly equal steps."""
    scatter = np.exp(0.002 * generator.normal(size=(2, evaluations)))
    return np.linspace(low, high, evaluations) * scatter[0], START * np.exp(-4 * shares_done(evaluations)) * scatter[1]
