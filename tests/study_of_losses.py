"""Studies whose trials have losses by formula, without curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from builders import NUISANCE_RATE, study

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.runs import Run
from tunectl.language.study_spec import StudySpec
from tunectl.space.hyperparameters import active
from tunectl.space.trial_plan import plan_trials

Loss = Callable[[np.random.Generator, Mapping[str, float]], float]
"""The loss of a trial, inf where it is infeasible, from the positions of its hyperparameters in [0, 1]."""


def study_by_positions(spec: StudySpec, generator: np.random.Generator, loss: Loss) -> StudyEvidence:
    """The study's own trials with these losses."""
    runs = []
    for plan in plan_trials(spec):
        values = plan.hyperparameters
        own = {name: active(spec.alternatives(name), values) for name in values}
        positions = {
            name: item.sampled_domain.to_unit(values[name])
            for name, item in own.items()
            if item and item.has_coordinate
        }
        value = float(loss(generator, positions))
        lost = math.isinf(value)
        runs.append(Run(plan, "infeasible" if lost else "completed", best_value=None if lost else value, best_step=100))
    return StudyEvidence(spec, spec.objective, tuple(runs))


def study_of_losses(seed: int, trials: int, loss: Callable[..., float], spec: StudySpec | None = None) -> StudyEvidence:
    """Each trial has the loss of (generator, position of its learning rate, of its weight decay); inf: infeasible."""
    decay = "{role: nuisance, range: [1e-6, 1e-2], scale: log}"
    spec = spec or study(
        {"learning_rate": NUISANCE_RATE, "weight_decay": decay}, search=f"{{trials: {trials}, seed: {seed}}}"
    )

    def value(generator: np.random.Generator, at: Mapping[str, float]) -> float:
        return loss(generator, at.get("learning_rate", 0.5), at.get("weight_decay", 0.5))

    return study_by_positions(spec, np.random.default_rng([seed, 40]), value)
