"""Studies in which little or nothing can be learned, as hypothesis makes them: no finding may fail on them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from builders import study_text
from hypothesis import reject
from hypothesis import strategies as st
from simulated_studies import judged

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.runs import Run, UpdateSeries
from tunectl.core.errors import StudyError
from tunectl.core.records import PlannedTrial, State, TrialOutcome
from tunectl.language.study_reader import parse_study
from tunectl.space.trial_plan import plan_trials

RATES = [
    "0.1",
    "{role: nuisance, range: [1e-3, 1], scale: log}",
    "{role: nuisance, range: [1e-300, 1e300], scale: log}",
    "{role: nuisance, values: [0.1]}",
    "{role: scientific, range: [1e-3, 1], scale: log}",
]
ENTRIES = [
    "{role: nuisance, values: [1]}",
    "{role: nuisance, values: [a]}",
    "{role: nuisance, values: [true]}",
    "{role: nuisance, values: [a, b]}",
    "{role: nuisance, values: [1, 2, 3]}",
    "{role: nuisance, values: [1e-300, 1, 1e300]}",
    "{role: nuisance, values: [-1, 0, 1.5, x]}",
    "{role: nuisance, range: [1, 2], type: int}",
    "{role: nuisance, range: [0, 9007199254740992], type: int}",
    "{role: nuisance, range: [1, 1000000], type: int, scale: log}",
    "{role: nuisance, range: [1.0, 1.0000000000000002]}",
    "{role: nuisance, range: [-1e308, 5e307]}",
    "{role: nuisance, range: [0.9, 0.9999999999999], scale: one_minus_log}",
    "{role: scientific, values: [1]}",
    "{role: scientific, values: [a, b, c]}",
    "{role: scientific, values: [3, 1, 2]}",
    "{role: scientific, values: [true, false], sampled: true}",
    "{role: scientific, values: [7], sampled: true}",
    "{role: scientific, range: [0, 1]}",
    "{role: scientific, range: [1, 2], type: int}",
    "{role: scientific, range: [1.0, 1.0000000000000002]}",
    "{role: nuisance, when: {b: a}, range: [0, 1]}",
    "[{value: 0, when: {b: a}}, {role: scientific, when: {b: b}, range: [1e-5, 1e-1], scale: log}]",
]
LEVELS = [0.0, 0.25, 1.0, -3.0, 1e308, -1e308, 1e-308, 5e-324]
STATES = ["completed", "infeasible", "failed", "pending", "completed-without-a-value"]


ValueOf = Callable[[np.random.Generator, PlannedTrial], float]
StateOf = Callable[[np.random.Generator, PlannedTrial], str]
CurveOf = Callable[[np.random.Generator, int, float], np.ndarray]


@dataclass(frozen=True)
class Drawn:
    """What a study is made of, beside its file."""

    evidence: StudyEvidence
    outcomes: tuple[TrialOutcome, ...]


@st.composite
def degenerate_studies(draw: st.DrawFn) -> Drawn:
    """A study file of odd domains, and trials that are equal, tied, huge, lost, or few."""
    entries = {
        "learning_rate": draw(st.sampled_from(RATES)),
        "b": draw(st.sampled_from(["{role: nuisance, values: [a, b]}", "{role: scientific, values: [a, b]}", "a"])),
        **{name: draw(st.sampled_from(ENTRIES)) for name in ("c", "d")[: draw(st.integers(0, 2))]},
    }
    direction = draw(st.sampled_from(["minimize", "maximize"]))
    metric = draw(st.sampled_from(["valid/error_rate", "valid/loss", "odd"]))
    rule = draw(st.sampled_from(["best", "final", "best, steps_to: 0.25", "best, steps_to: 1e308"]))
    text = study_text(
        {**entries, "optimizer": None, "learning_rate": None, "rate": entries["learning_rate"]},
        workload='{function: "a:b"}',
        objective=f"{{metric: {metric}, direction: {direction}, checkpoint: {rule}}}",
        search=f"{{trials: {draw(st.sampled_from([1, 2, 3, 5, 8, 12, 41]))}}}",
    )
    try:
        spec = parse_study(text, Path("/studies/degenerate.yaml"))
    except StudyError:
        reject()  # a condition that never holds
    plans = list(plan_trials(spec))
    plans += [
        replace(plans[0], trial=len(plans) + at, repeat=at + 1, trial_kind="retrain")
        for at in range(draw(st.integers(0, 3)))
    ]
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    value_of = draw(values())
    state_of = draw(states())
    length, shape = draw(st.sampled_from([0, 1, 2, 3, 10, 40])), draw(st.sampled_from(CURVES))
    runs = []
    for plan in plans:
        state = state_of(generator, plan)
        ended: State = "completed" if state == STATES[-1] else cast("State", state)
        run = Run(plan, ended, reason="nan_loss" if state == "infeasible" else "")
        if state != "pending":
            value = value_of(generator, plan)
            names = (metric, "train/loss", "valid/loss", "train/minibatch_loss")
            run = replace(
                run,
                best_value=None if state == STATES[-1] or not math.isfinite(value) else value,
                best_step=max(length - 1, 1),
                baseline_loss=draw(st.sampled_from([None, 2.3])) if plan.trial == 0 else None,
                curves={name: (np.arange(length, dtype=float), shape(generator, length, value)) for name in names},
            )
        runs.append(run if spec.objective.steps_to is None else judged(run, spec.objective))
    updates = draw(st.sampled_from([0, 1, 70, 200]))
    read = frozenset(plan.trial for plan in plans[:3]) if updates else frozenset()
    runs = [
        replace(run, updates=series(generator, updates, draw(st.sampled_from(CURVES))))
        if run.plan.trial in read
        else run
        for run in runs
    ]
    evidence = StudyEvidence(spec, spec.objective, tuple(runs), read, folder="runs/degenerate")
    return Drawn(evidence, tuple(outcome_of(run) for run in runs))


def values() -> st.SearchStrategy[ValueOf]:
    """How good a trial is."""

    def constant(level: float) -> ValueOf:
        return lambda generator, plan: level

    def noisy(level: float) -> ValueOf:
        return lambda generator, plan: level * (1 + 0.1 * generator.uniform())

    def ties(level: float) -> ValueOf:
        return lambda generator, plan: level * float(generator.integers(0, 2))

    def ordered(level: float) -> ValueOf:
        return lambda generator, plan: level * plan.trial / 100

    def spread(level: float) -> ValueOf:
        return lambda generator, plan: float(generator.choice(LEVELS))

    levels = st.sampled_from([*LEVELS, math.nan, math.inf])
    return st.builds(lambda make, level: make(level), st.sampled_from([constant, noisy, ties, ordered, spread]), levels)


def states() -> st.SearchStrategy[StateOf]:
    """How a trial ends."""

    def always(state: str) -> StateOf:
        return lambda generator, plan: state

    def any_of(state: str) -> StateOf:
        return lambda generator, plan: str(generator.choice(STATES))

    def by_setting(state: str) -> StateOf:
        return lambda generator, plan: "completed" if plan.setting == 0 else state

    def by_value(state: str) -> StateOf:
        def found(generator: np.random.Generator, plan: PlannedTrial) -> str:
            value = plan.hyperparameters.get("c", plan.hyperparameters.get("b"))
            return "completed" if str(value) < "1.5" or value == "a" else state

        return found

    def late(state: str) -> StateOf:
        return lambda generator, plan: "completed" if plan.point < 1 else state

    makers = st.sampled_from([always, any_of, by_setting, by_value, late])
    return st.builds(lambda make, state: make(state), makers, st.sampled_from(STATES))


def flat(generator: np.random.Generator, length: int, value: float) -> np.ndarray:
    return np.full(length, value)


def random(generator: np.random.Generator, length: int, value: float) -> np.ndarray:
    return value * generator.uniform(0.5, 1.5, length) if math.isfinite(value) else generator.uniform(size=length)


def falling(generator: np.random.Generator, length: int, value: float) -> np.ndarray:
    return np.geomspace(1.0, 1e-3, length) if length else np.zeros(0)


def wild(generator: np.random.Generator, length: int, value: float) -> np.ndarray:
    return generator.choice([0.0, 1.0, -1.0, 1e308, -1e308, math.inf, -math.inf, math.nan, 5e-324], length)


def missing(generator: np.random.Generator, length: int, value: float) -> np.ndarray:
    return np.full(length, math.nan)


CURVES: list[CurveOf] = [flat, random, falling, wild, missing]


def series(generator: np.random.Generator, updates: int, shape: CurveOf) -> UpdateSeries:
    """What every update left, all of one shape."""
    positive = np.abs(shape(generator, updates, 1.0))
    return UpdateSeries(
        loss=shape(generator, updates, 1.0),
        gradient_norm=positive,
        learning_rate=positive,
        clipped=positive > 1,
        skipped=~np.isfinite(positive),
        update_ratio_steps=np.arange(0, updates, 10, dtype=float),
        update_ratio=positive[::10],
    )


def outcome_of(run: Run) -> TrialOutcome:
    """The row of the trials table."""
    return TrialOutcome(
        plan=run.plan,
        state=run.state,
        reason=run.reason,
        best_step=run.best_step,
        best_value=run.best_value,
        final_value=math.nan,
        metrics_at_best={"valid/loss": math.inf},
    )
