"""A study as it is exported to another tool: what was searched, and the files of every trial."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tunectl.analysis.results.stages import judged_stage
from tunectl.core.measurement_kinds import MEASUREMENT_KINDS, counts_updates
from tunectl.core.measurements import Measurement
from tunectl.core.objective import Objective
from tunectl.core.records import PlannedTrial, Scalar, TrialOutcome
from tunectl.core.table_columns import TRIAL_COLUMNS
from tunectl.exchange.export_folder import Owner
from tunectl.language.study_spec import StudySpec
from tunectl.space.domains import Derived, Domain, FixedValue, Range, SampledDomain, Scale, ValueSet, same
from tunectl.space.hyperparameters import Hyperparameter, active

STEPS_TO_TARGET = "steps_to_target"
"""The name under which other tools get the number of steps to a target."""


@dataclass(frozen=True, slots=True)
class ExportedTrial:
    """A trial: its outcome under the study's objective, and all its measurements, by step.

    `counts_steps`: its best value is a number of steps to a target.

    `started` and `ended` are in seconds since 1970, from the times of its files; None where it was never launched.
    """

    outcome: TrialOutcome
    measurements: Sequence[Measurement] = ()
    started: float | None = None
    ended: float | None = None
    counts_steps: bool = False

    @property
    def plan(self) -> PlannedTrial:
        """What was planned."""
        return self.outcome.plan

    @property
    def name(self) -> str:
        """What it is called among other runs."""
        return f"trial-{self.plan.trial:05d}"

    @property
    def launched(self) -> bool:
        """Whether it was ever started."""
        return self.started is not None

    def curve(self) -> list[Measurement]:
        """The measurements that its curves are made of, by step: those whose steps are updates.

        Their metrics hold the learning rate and the gradient norm, too, by these names or, where the trial has a metric
        of that name, by a longer one.
        """
        drawn = sorted(
            (
                item
                for item in self.measurements
                if item.measurement_kind in MEASUREMENT_KINDS and counts_updates(item.measurement_kind)
            ),
            key=lambda item: item.step,
        )
        rate, norm = self.free_name("learning_rate"), self.free_name("gradient_norm")
        found = []
        for item in drawn:
            of_update = {rate: item.learning_rate, norm: item.gradient_norm}
            more = {name: value for name, value in of_update.items() if value is not None}
            found.append(item._replace(metrics={**item.metrics, **more}))
        return found

    def free_name(self, name: str) -> str:
        """The name, with `_of_update` behind it where it is that of a metric."""
        taken = {metric for item in self.measurements for metric in item.metrics}
        while name in taken:
            name += "_of_update"
        return name

    def time_of(self, item: Measurement) -> float:
        """When it was measured, in seconds since 1970."""
        return (self.started or 0.0) + item.elapsed_seconds

    def reached(self) -> dict[str, float]:
        """What was measured at the best step as `best/<name>`, the objective's last value, and where there is a target
        that was reached the number of steps to it; finite ones alone.
        """
        at_best = [item.metrics for item in self.curve() if item.step == self.outcome.best_step]
        measured = {
            name: value for metrics in (*at_best, self.outcome.metrics_at_best) for name, value in metrics.items()
        }
        found = {f"best/{name}": value for name, value in measured.items()}
        if self.outcome.final_value is not None:
            found["final_value"] = self.outcome.final_value
        if self.counts_steps and self.outcome.best_value is not None:
            found[STEPS_TO_TARGET] = self.outcome.best_value
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def facts(self) -> dict[str, Scalar]:
        """The other columns of the trials table, by their names; what is missing is left out."""
        found = {column.name: column.value(self.outcome) for column in TRIAL_COLUMNS}
        reached = ("best_value", "final_value")
        return {name: value for name, value in found.items() if value is not None and name not in reached}


@dataclass(frozen=True)
class ExportedStudy:
    """A study and its trials by id; `folder` is its folder's absolute path."""

    spec: StudySpec
    folder: str
    trials: Sequence[ExportedTrial]

    @property
    def objective(self) -> Objective:
        """The study's own objective, under which the trials' best values are."""
        return self.spec.objective

    @cached_property
    def stage(self) -> int:
        """The stage that is judged."""
        return judged_stage(item.outcome for item in self.trials)

    @property
    def owner(self) -> Owner:
        """The owner of its exports: a study that is moved or copied keeps its name and its first trial as planned."""
        first = [trial.plan.to_json() for trial in self.trials[:1]]
        text = json.dumps([self.spec.name, first], sort_keys=True, default=str)
        return Owner(self.folder, hashlib.sha256(text.encode()).hexdigest()[:32])

    @property
    def launched(self) -> list[ExportedTrial]:
        """The trials that were ever started."""
        return [item for item in self.trials if item.launched]

    def facts(self) -> dict[str, Scalar]:
        """Facts about the whole study, by name."""
        spec, objective = self.spec, self.objective
        return {
            "study": spec.name,
            "goal": spec.goal,
            "workload": spec.workload,
            "folder": self.folder,
            "metric": objective.metric,
            "direction": objective.direction,
            "checkpoint": objective.checkpoint,
            **({} if objective.steps_to is None else {"steps_to": objective.steps_to}),
            "max_train_steps": spec.training.max_train_steps,
            **({"judged_stage": self.stage} if spec.search.promote else {}),
        }


@dataclass(frozen=True, slots=True)
class Dimension:
    """A hyperparameter that takes more than one value: by its `key`, since each alternative has its own range."""

    key: str
    name: str
    domain: ValueSet | Range


def dimensions(study: ExportedStudy) -> tuple[Dimension, ...]:
    """All that varies, in the order of the study.

    A domain that does not hold a value which occurs (a procedure's sweep takes others than the study has) is widened.
    """
    taken: dict[str, list[Scalar]] = {}
    declared: dict[str, Hyperparameter] = {item.key: item for item in study.spec.hyperparameters}
    for trial in study.trials:
        for name, value in trial.plan.hyperparameters.items():
            item = active(study.spec.alternatives(name), trial.plan.hyperparameters)
            key = item.key if item is not None else name
            declared.setdefault(key, Hyperparameter(name, name, "nuisance", FixedValue(value)))
            taken.setdefault(key, []).append(value)
    found = []
    for key, item in declared.items():
        domain = _holding(item.domain, taken.get(key, []))
        if not isinstance(domain, FixedValue):
            found.append(Dimension(key, item.name, domain))
    return tuple(found)


def values_by_key(spec: StudySpec, trial: PlannedTrial) -> dict[str, Scalar]:
    """The active hyperparameters of a trial by the keys of their alternatives."""
    values = trial.hyperparameters
    items = {name: active(spec.alternatives(name), values) for name in values}
    return {item.key if item is not None else name: values[name] for name, item in items.items()}


def _holding(domain: Domain, taken: Sequence[Scalar]) -> SampledDomain:
    """The domain, widened to hold all these values; of what a formula computes the range of the values."""
    if isinstance(domain, Derived):
        computed = taken or domain.numbers or (0.0,)
        return FixedValue(computed[0]) if len(set(computed)) == 1 else _range_of(computed) or ValueSet(tuple(computed))
    if isinstance(domain, Range):
        numbers = [value for value in taken if isinstance(value, (int, float)) and not isinstance(value, bool)]
        whole = domain.integer and all(isinstance(value, int) for value in numbers)
        low, high = min([domain.low, *numbers]), max([domain.high, *numbers])
        scale = domain.scale if domain.scale != "log" or low > 0 else "linear"
        return Range(low, high, scale, whole)
    values = list(domain.listed)
    for value in taken:
        if not any(same(value, other) for other in values):
            values.append(value)
    if domain.varies:
        return ValueSet(tuple(values))
    return domain if len(values) == 1 else _range_of(values) or ValueSet(tuple(values))


def _range_of(values: Sequence[Scalar]) -> Range | None:
    """The range of values that are all numbers: what the study fixes and something else swept."""
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(numbers) < len(values):
        return None
    scale: Scale = "log" if min(numbers) > 0 else "linear"
    return Range(min(numbers), max(numbers), scale, all(isinstance(value, int) for value in numbers))


def as_json(value: object) -> str:
    """A value as one text that reads back as what it was, for tools that keep text alone."""
    return value if isinstance(value, str) else json.dumps(value)
