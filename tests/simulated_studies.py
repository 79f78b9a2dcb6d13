"""Simulated studies: trials whose results follow a formula, clean or with one planted flaw of the search.

A trial's final error is that of a bowl over the positions of its hyperparameters in [0, 1], with noise from trial to
trial; its curves fall to it by a power law, with noise from evaluation to evaluation. Curves with flaws are planted on
top by `rewritten`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Finding
from tunectl.analysis.findings.study_findings import FINDINGS
from tunectl.analysis.results.runs import Run, UpdateSeries
from tunectl.core.objective import Objective
from tunectl.core.records import PlannedTrial
from tunectl.language.study_reader import parse_study
from tunectl.language.study_spec import StudySpec
from tunectl.space.trial_plan import plan_trials

CHANCE = 0.9
"""The error of a network that has learnt nothing: of ten classes."""

SLANTED = "slanted-edge"
"""A stability edge along learning_rate / (1 - momentum): whether a rate is stable depends on the momentum."""

SEARCH_FLAWS = (
    *("search-boundary", "infeasible-fraction", "stability-edge", SLANTED, "settings-not-distinguishable"),
    "range-too-wide",
)
OPTIMIZERS = ("nesterov", "adam", "sgd", "rmsprop")
DOMAINS = {
    "learning_rate": "range: [1e-3, 1], scale: log",
    "weight_decay": "range: [1e-6, 1e-2], scale: log",
    "momentum": "range: [0.8, 0.995], scale: one_minus_log",
    "label_smoothing": "range: [0.02, 0.3]",
    "num_layers": "range: [2, 9], type: int",
    "width": "values: [32, 64, 128, 256, 512]",
    "activation": "values: [relu, gelu, tanh]",
}
"""What a simulated study can vary, in this order; `activation` alone has no order."""


@dataclass(frozen=True)
class Response:
    """How good each place of the search space is.

    `optima` and `strengths`: for each name the position of its optimum, which may lie outside [0, 1], and what the
    bowl rises by from there to one range further. `offsets`: what each setting adds to the logarithm of the error.
    `floor` is the error at the optimum of setting 0, `noise` the standard deviation of the logarithm of a trial's
    error. Above `edge` on the axis of the learning rate all trials are infeasible, elsewhere a share of `scattered`.
    Below a place in `plateaus` a hyperparameter makes no difference. `slanted`: the learning rate counts by its place
    on the axis of learning_rate / (1 - momentum), for the error as for the edge.
    """

    optima: Mapping[str, float]
    strengths: Mapping[str, float]
    offsets: Sequence[float] = (0.0,)
    floor: float = 0.05
    noise: float = 0.05
    edge: float = 2.0
    scattered: float = 0.0
    plateaus: Mapping[str, float] = field(default_factory=dict)
    slanted: bool = False

    def error(self, setting: int, positions: Mapping[str, float]) -> float:
        """The expected error of a trial: near its optimum a bowl, far away that of chance."""
        positions = {name: max(at, self.plateaus.get(name, at)) for name, at in positions.items()}
        rise = sum(self.strengths[name] * (at - self.optima[name]) ** 2 for name, at in positions.items())
        level = self.floor * np.exp(self.offsets[setting])
        return float(level + (CHANCE - level) * (1 - np.exp(-rise)))


@dataclass(frozen=True)
class Shape:
    """What a study looks like: how many settings and trials in each, what varies, how long a trial trains."""

    names: Sequence[str] = ("learning_rate", "weight_decay")
    settings: int = 1
    trials: int = 24
    max_train_steps: int = 2000
    eval_every: int = 100
    schedule: str = "constant"
    direction: str = "minimize"
    domains: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """The study file."""
        metric = "valid/error_rate" if self.direction == "minimize" else "valid/accuracy"
        entries = {name: f"{{role: nuisance, {(DOMAINS | dict(self.domains))[name]}}}" for name in self.names}
        optimizers = OPTIMIZERS[: self.settings]
        optimizer = f"{{role: scientific, values: [{', '.join(optimizers)}]}}" if self.settings > 1 else "nesterov"
        lines = [
            "study: simulated",
            "workload: tunectl.workloads.digits:mlp",
            f"objective: {{metric: {metric}, direction: {self.direction}}}",
            f"training: {{max_train_steps: {self.max_train_steps}, eval_every: {self.eval_every}}}",
            f"hyperparameters:\n  optimizer: {optimizer}\n  schedule: {self.schedule}",
            *(f"  {name}: {entry}" for name, entry in ({"learning_rate": "0.1"} | entries).items()),
            f"search: {{trials: {self.trials}, seed: {{seed}}}}",
        ]
        return "\n".join(lines) + "\n"


def simulated_evidence(seed: int, *, flaw: str | None = None, updates_of: int = 0, **changes: Any) -> StudyEvidence:
    """A simulated study: clean, or with one of SEARCH_FLAWS.

    `changes` are fields of Shape or of Response that shall have this value; the others are drawn. The best
    `updates_of` trials of each setting have the series of every update.
    """
    shape, response = drawn_study(seed, flaw=flaw, **changes)
    return evidence_of(seed, shape, response, updates_of=updates_of)


def drawn_study(seed: int, *, flaw: str | None = None, **changes: Any) -> tuple[Shape, Response]:
    """What `simulated_evidence` draws for a seed."""
    generator = np.random.default_rng([seed, 20])
    shape = _drawn_shape(generator, flaw, {key: changes[key] for key in changes if key in Shape.__dataclass_fields__})
    response = _drawn_response(generator, flaw, shape)
    return shape, replace(response, **{key: changes[key] for key in changes if key in Response.__dataclass_fields__})


def evidence_of(seed: int, shape: Shape, response: Response, *, updates_of: int = 0) -> StudyEvidence:
    """The study of this shape with this response; `seed` gives its points and its noise."""
    generator = np.random.default_rng([seed, 21])
    spec = parse_study(shape.text().replace("{seed}", str(seed)), Path("/studies/simulated.yaml"))
    domains = {item.name: item.sampled_domain for item in spec.hyperparameters if item.has_coordinate}
    runs = []
    for plan in plan_trials(spec):
        positions = positions_of(spec, plan)
        if response.slanted:
            positions["learning_rate"] = effective_place(plan.hyperparameters, domains)
        error = response.error(plan.setting, positions) * np.exp(response.noise * generator.normal())
        lost = positions.get("learning_rate", 0.0) > response.edge or generator.uniform() < response.scattered
        runs.append(simulated_run(generator, plan, shape, spec.objective, min(float(error), CHANCE), lost=bool(lost)))
    evidence = StudyEvidence(spec, spec.objective, tuple(runs), folder="runs/simulated")
    return with_updates(evidence, generator, updates_of) if updates_of else evidence


def effective_place(values: Mapping[str, Any], domains: Mapping[str, Any]) -> float:
    """The place of a trial on the logarithmic axis of learning_rate / (1 - momentum), which the domains span."""
    rate, momentum = domains["learning_rate"], domains["momentum"]
    low, high = rate.low / (1 - momentum.low), rate.high / (1 - momentum.high)
    at = values["learning_rate"] / (1 - values["momentum"])
    return float(np.log(at / low) / np.log(high / low))


def positions_of(spec: StudySpec, plan: PlannedTrial) -> dict[str, float]:
    """The places of a trial's sampled values on their scales, in [0, 1]."""
    sampled = (item for item in spec.hyperparameters if item.has_coordinate and item.name in plan.hyperparameters)
    return {item.name: item.sampled_domain.to_unit(plan.hyperparameters[item.name]) for item in sampled}


def findings_of(evidence: StudyEvidence, *names: str) -> list[Finding]:
    """What the functions with these names in FINDINGS find, the warnings first."""
    found = [finding for name in names for finding in FINDINGS[name](evidence)]
    return sorted(found, key=lambda finding: finding.level != "warning")


def rewritten(evidence: StudyEvidence, change: Callable[[Run], Run]) -> StudyEvidence:
    """The evidence with every run changed, its best value found again in its curve of the objective."""
    return replace(evidence, runs=tuple(judged(change(run), evidence.objective) for run in evidence.runs))


def judged(run: Run, objective: Objective) -> Run:
    """The run with the best value and step that its curve of the objective has after step 0."""
    steps, values = run.curve(objective.metric)
    if objective.steps_to is not None:
        reached = [int(at) for at, value in zip(steps, values, strict=True) if at and _is_at(value, objective)]
        return replace(run, best_value=float(reached[0]), best_step=reached[0]) if reached else _without_value(run)
    losses = np.where(np.isfinite(values), values if objective.direction == "minimize" else -values, np.inf)
    losses[steps == 0] = np.inf
    if objective.checkpoint == "final":
        losses[:-1] = np.inf
    if not np.isfinite(losses).any():
        return _without_value(run)
    best = int(np.argmin(losses))
    return replace(run, best_value=float(values[best]), best_step=int(steps[best]))


def with_target(evidence: StudyEvidence, target: float) -> StudyEvidence:
    """The same trials under the steps to a target of the study's metric."""
    objective = replace(evidence.objective, steps_to=target)
    return replace(evidence, objective=objective, runs=tuple(judged(run, objective) for run in evidence.runs))


def _is_at(value: float, objective: Objective) -> bool:
    target = objective.steps_to or 0.0
    return bool(np.isfinite(value)) and (value <= target if objective.direction == "minimize" else value >= target)


def _without_value(run: Run) -> Run:
    return replace(run, best_value=None, best_step=None)


def _drawn_shape(generator: np.random.Generator, flaw: str | None, given: Mapping[str, Any]) -> Shape:
    nuisances = list(DOMAINS)[1:]
    count = int(generator.integers(0, 4))
    more = sorted(generator.choice(nuisances, count, replace=False), key=nuisances.index)
    if flaw == SLANTED:
        more = ["momentum", *(name for name in more if name != "momentum")]
    drawn: dict[str, Any] = {
        "names": ("learning_rate", *more),
        "settings": int(generator.integers(2, 4)) if flaw == "settings-not-distinguishable" else 1,
        "trials": int(generator.integers(20, 31)),
        "max_train_steps": int(generator.choice([1000, 2000, 5000])),
        "schedule": str(generator.choice(["constant", "cosine"])),
    }
    if flaw == "range-too-wide":
        drawn["trials"] = int(generator.integers(30, 61))
    if flaw is None:
        drawn["settings"] = int(generator.integers(1, 4))
        drawn["trials"] = int(np.exp(generator.uniform(np.log(6), np.log(60))))
    drawn["eval_every"] = drawn["max_train_steps"] // int(generator.choice([20, 50]))
    return Shape(**{**drawn, **given})


def _drawn_response(generator: np.random.Generator, flaw: str | None, shape: Shape) -> Response:
    """Clean: optima well inside the range, some hyperparameters without any effect, settings clearly apart."""
    optima = {name: float(generator.uniform(0.3, 0.7)) for name in shape.names}
    strengths = {name: float(generator.choice([0.0, 0.15, 0.4, 1.0])) for name in shape.names}
    strengths["learning_rate"] = float(np.exp(generator.uniform(np.log(0.3), np.log(4.0))))
    offsets = 0.5 * np.arange(shape.settings)
    generator.shuffle(offsets)
    response = Response(
        optima,
        strengths,
        tuple(offsets.tolist()),
        floor=float(generator.uniform(0.03, 0.15)),
        noise=float(generator.uniform(0.02, 0.1)),
        edge=float(generator.uniform(0.9, 1.1)) if generator.uniform() < 0.5 else 2.0,
        scattered=float(generator.choice([0.0, 0.0, 0.03])),
        plateaus={name: float(generator.uniform(0.4, 0.6)) for name in shape.names if generator.uniform() < 0.2},
    )
    match flaw:
        case None:
            return response
        case "search-boundary":
            outside = float(generator.uniform(0.3, 1.0))
            place = -outside if generator.uniform() < 0.5 else 1 + outside
            return replace(response, **_planted_optimum(response, place), edge=2.0, scattered=0.0, plateaus={})
        case "infeasible-fraction":
            return replace(response, scattered=float(generator.uniform(0.65, 0.9)), edge=2.0)
        case "stability-edge":
            edge = float(generator.uniform(0.55, 0.8))
            place = edge + float(generator.uniform(0.1, 0.6))
            return replace(response, **_planted_optimum(response, place), edge=edge, scattered=0.0, plateaus={})
        case "range-too-wide":
            strengths = {name: min(strength, 0.15) for name, strength in response.strengths.items()}
            strengths["learning_rate"] = float(np.exp(generator.uniform(np.log(4.0), np.log(30.0))))
            return replace(response, strengths=strengths, edge=2.0, scattered=0.0, plateaus={})
        case "slanted-edge":
            edge = float(generator.uniform(0.5, 0.72))
            place = edge + float(generator.uniform(0.1, 0.6))
            planted = _planted_optimum(response, place)
            # The momentum has no effect but that on the rate.
            planted["strengths"] = planted["strengths"] | {"momentum": 0.0}
            return replace(response, **planted, edge=edge, scattered=0.0, plateaus={}, slanted=True)
        case "settings-not-distinguishable":
            return replace(response, offsets=(0.0,) * shape.settings)
        case _:
            raise ValueError(flaw)


def _planted_optimum(response: Response, place: float) -> dict[str, Any]:
    """The optimum of the learning rate there, its effect clear, that of the others moderate."""
    strengths = {name: min(strength, 0.15) for name, strength in response.strengths.items()}
    return {
        "optima": {**response.optima, "learning_rate": place},
        "strengths": {**strengths, "learning_rate": 0.6},
    }


def simulated_run(
    generator: np.random.Generator, plan: PlannedTrial, shape: Shape, objective: Objective, error: float, *, lost: bool
) -> Run:
    """A trial whose curves fall to this error; one that is `lost` becomes infeasible in its first third."""
    steps = np.arange(0, shape.max_train_steps + 1, shape.eval_every, dtype=float)
    end = int(generator.integers(1, max(2, len(steps) // 3))) if lost else len(steps)
    curves = {
        name: (steps[:end], values[:end]) for name, values in trial_curves(generator, steps, error, shape).items()
    }
    run = Run(plan, "completed", baseline_loss=float(np.log(10)), curves=curves)
    if lost:
        run = replace(run, state="infeasible", reason="nan_loss", infeasible_step=int(steps[end - 1]) + 1)
    return judged(run, objective)


def trial_curves(
    generator: np.random.Generator, steps: np.ndarray, error: float, shape: Shape
) -> dict[str, np.ndarray]:
    """The metrics of a healthy trial that falls from chance to `error`, each of shape [evaluations].

    It falls by a power law until the end: what is flat from some part of training on has saturated. The train split
    lies a little below the valid one.
    """
    done = steps / steps[-1]
    fall = (1 + done / generator.uniform(0.005, 0.02)) ** -generator.uniform(0.4, 0.7)
    fall = (fall - fall[-1]) / (1 - fall[-1])
    scatter = generator.uniform(0.01, 0.03)
    gap = generator.uniform(0.8, 0.98)

    def curve(level: float, start: float) -> np.ndarray:
        values: np.ndarray = (level + (start - level) * fall) * np.exp(scatter * generator.normal(size=len(steps)))
        return values

    valid = np.minimum(curve(error, CHANCE), 1.0)
    valid_loss = curve(2.3 * error / CHANCE, 2.3)
    return {
        "valid/error_rate": valid,
        "valid/accuracy": 1 - valid,
        "valid/loss": valid_loss,
        "train/error_rate": np.minimum(curve(gap * error, CHANCE), 1.0),
        "train/loss": curve(gap * 2.3 * error / CHANCE, 2.3),
        "train/minibatch_loss": curve(gap * 2.3 * error / CHANCE, 2.3),
    }


def with_updates(evidence: StudyEvidence, generator: np.random.Generator, count: int) -> StudyEvidence:
    """The evidence in which the best `count` trials of each setting have the series of every update."""
    chosen = {run.plan.trial for runs in evidence.by_setting.values() for run in evidence.ranked(runs)[:count]}
    runs = tuple(
        replace(run, updates=healthy_updates(generator, run)) if run.plan.trial in chosen else run
        for run in evidence.runs
    )
    return replace(evidence, runs=runs, updates_read=frozenset(chosen))


def healthy_updates(generator: np.random.Generator, run: Run) -> UpdateSeries:
    """Minibatch losses about the run's train loss, and gradient norms that fall with them."""
    steps, losses = run.curve("train/loss")
    updates = np.arange(int(steps[-1]))
    level = np.interp(updates, steps, losses)
    ratio_steps = updates[:: max(1, len(updates) // 100)].astype(float)
    return UpdateSeries(
        loss=level * np.exp(0.1 * generator.normal(size=len(updates))),
        gradient_norm=np.sqrt(level) * np.exp(0.2 * generator.normal(size=len(updates))),
        learning_rate=np.full(len(updates), float(run.plan.hyperparameters["learning_rate"])),
        clipped=np.zeros(len(updates), dtype=bool),
        skipped=np.zeros(len(updates), dtype=bool),
        update_ratio_steps=ratio_steps,
        update_ratio=1e-3 * np.exp(0.3 * generator.normal(size=len(ratio_steps))),
    )
