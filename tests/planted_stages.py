"""Simulated studies of two stages: clean ones, and ones in which short and long trials agree or do not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from simulated_studies import CHANCE, Response, drawn_study, evidence_of, positions_of, simulated_run

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.runs import Run
from tunectl.analysis.search.promotion_choice import runs_to_promote
from tunectl.language.stage_lengths import spec_of
from tunectl.session.promoted_trials import promoted
from tunectl.space.search_space import Stage

STAGE_CASES = ("stages-agree", "stages-disagree", "peak-rate-drifts")
"""The order of the short trials carries over; it is reversed; the best learning rate falls with the length."""

LONGER = 10
_CLEAR_KEEP = 12


def staged_evidence(case: str, seed: int, **changes: Any) -> StudyEvidence:
    """The evidence of the second stage of a simulated study with one of STAGE_CASES, or "" for a clean one.

    In a clean study both lengths have the same best place, and independent noise.
    """
    generator = np.random.default_rng([seed, 30])
    if case:
        # The learning rate matters clearly more than the noise does.
        effects = {"noise": 0.03, "scattered": 0.0, "edge": 2.0, "plateaus": {}}
        changes = {"names": ("learning_rate", "weight_decay"), "settings": 1, "trials": 40, **effects, **changes}
    shape, response = drawn_study(seed, **changes)
    if case:
        strengths = dict.fromkeys(shape.names, 0.0) | {"learning_rate": 1.5}
        response = replace(response, strengths=strengths)
    keep = _CLEAR_KEEP if case else int(generator.integers(2, 11))
    short = evidence_of(seed, shape, response)
    stage = Stage(keep, LONGER * shape.max_train_steps, LONGER * shape.eval_every)
    spec = replace(short.spec, search=replace(short.spec.search, promote=(stage,)))
    short = replace(short, spec=spec)
    longer = replace(shape, max_train_steps=stage.max_train_steps, eval_every=LONGER * shape.eval_every)
    chosen = [run for item in runs_to_promote(short, keep) for run in item.runs]
    errors = _long_errors(case, generator, short, chosen, response)
    runs = [
        simulated_run(
            generator, promoted(spec, run.plan, len(short.runs) + place), longer, spec.objective, error, lost=False
        )
        for place, (run, error) in enumerate(zip(chosen, errors, strict=True))
    ]
    return replace(short, spec=spec_of(spec, 1), runs=tuple(runs), stage=1, earlier_stages=(short,))


def _long_errors(
    case: str, generator: np.random.Generator, short: StudyEvidence, chosen: list[Run], response: Response
) -> list[float]:
    """The errors of the long trials, in the order of `chosen`."""
    costs = short.costs(chosen)
    if case == "stages-agree":
        errors = 0.6 * costs
    elif case == "stages-disagree":
        errors = 0.6 * (costs.max() + costs.min() - costs)
    else:
        optima, floor = dict(response.optima), response.floor * float(generator.uniform(0.5, 0.9))
        if case == "peak-rate-drifts":
            optima["learning_rate"] -= float(generator.uniform(0.2, 0.3))
        there = replace(response, optima=optima, floor=floor)
        errors = np.array([there.error(run.plan.setting, positions_of(short.spec, run.plan)) for run in chosen])
    scatter = response.noise * generator.normal(size=len(chosen)) if case not in STAGE_CASES[:2] else 0.0
    return np.minimum(errors * np.exp(scatter), CHANCE).tolist()
