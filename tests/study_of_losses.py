"""A study of learning rate and weight decay whose trials have these losses."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from builders import NUISANCE_RATE, study

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.runs import Run
from tunectl.language.study_spec import StudySpec
from tunectl.space.trial_plan import plan_trials


def study_of_losses(seed: int, trials: int, loss: Callable[..., float], spec: StudySpec | None = None) -> StudyEvidence:
    """Each trial has the loss of (generator, position of its learning rate, of its weight decay); inf: infeasible."""
    generator = np.random.default_rng([seed, 40])
    decay = "{role: nuisance, range: [1e-6, 1e-2], scale: log}"
    spec = spec or study(
        {"learning_rate": NUISANCE_RATE, "weight_decay": decay}, search=f"{{trials: {trials}, seed: {seed}}}"
    )
    domains = {item.name: item.sampled_domain for item in spec.hyperparameters if item.has_coordinate}
    runs = []
    for plan in plan_trials(spec):
        rate, at = (
            domains[name].to_unit(plan.hyperparameters[name]) if name in domains else 0.5
            for name in ("learning_rate", "weight_decay")
        )
        value = float(loss(generator, rate, at))
        lost = math.isinf(value)
        runs.append(Run(plan, "infeasible" if lost else "completed", best_value=None if lost else value, best_step=100))
    return StudyEvidence(spec, spec.objective, tuple(runs))
