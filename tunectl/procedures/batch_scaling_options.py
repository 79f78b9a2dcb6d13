"""What `batch-scaling` is asked for: its options, its phases, the batch sizes, and what is tuned at each of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tunectl.core.records import Scalar
from tunectl.language.configuration import BATCH_SIZE as USUAL_BATCH_SIZE
from tunectl.procedures.procedure import (
    ProcedureOptions,
    SweepSetting,
    SweepSpec,
    covered_settings,
    settings_problems,
)
from tunectl.procedures.rate_grid import POINTS_PER_DECADE, grid_of, grid_problems
from tunectl.procedures.rate_judgements import log_grid

SEARCH, WIDER, AGAIN, FINER = range(4)
PHASES = (
    "learning rates at a batch size",
    "learning rates beyond the range",
    "the best under other seeds",
    "the best again, evaluated more often",
)

DEFAULT_SEEDS = 3

MOST_POINTS = 1_000
MOST_BATCHES = 64
"""The point of a trial is a number made of the places of its setting, its batch size and its candidate."""


@dataclass(frozen=True)
class BatchScalingOptions(ProcedureOptions):
    """The options of `batch-scaling`.

    `low` and `high` are the smallest and the largest batch size, `points` the number of learning rates (or of the
    study's points) at each, `seeds` the number of seeds of the best ones. `steps` is the length of the longest trial,
    and `steps_to` the value of the objective's metric to reach. With `all_batches` larger batches are tried also where
    the last ones did not make training faster.
    """

    low: int | None = None
    high: int | None = None
    points: int | None = None
    seeds: int = DEFAULT_SEEDS
    steps: int | None = None
    steps_to: float | None = None
    all_batches: bool = False


BatchScaling = SweepSpec[BatchScalingOptions]


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is tuned: a learning rate, and the values of the other hyperparameters that are tuned with it."""

    rate: float
    others: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def changes(self) -> dict[str, Scalar | None]:
        """What a trial of it changes."""
        return {**self.others, "learning_rate": self.rate}


def target_of(spec: BatchScaling) -> float | None:
    """The value of the objective's metric to reach, None where neither the user nor the study gives one."""
    return spec.options.steps_to if spec.options.steps_to is not None else spec.target


def smallest_batch(spec: BatchScaling) -> int:
    """The batch size that is tried first."""
    own = spec.batch_sizes[0] if spec.batch_sizes is not None else spec.values.get("batch_size")
    return int(spec.options.low or own or USUAL_BATCH_SIZE)


def largest_batch(spec: BatchScaling) -> float:
    """The largest batch size that the user or the study allows; infinite where only the training set ends it."""
    own = spec.batch_sizes[1] if spec.batch_sizes is not None else math.inf
    return spec.options.high if spec.options.high is not None else own


def batch_sizes(spec: BatchScaling) -> list[int]:
    """The batch sizes: powers of two times the first, at most MOST_BATCHES of them."""
    first, last = smallest_batch(spec), largest_batch(spec)
    return [first * 2**index for index in range(MOST_BATCHES) if first * 2**index <= last]


def longest_steps(spec: BatchScaling) -> int:
    """The length of the longest trial, that of the smallest batch.

    By default it sees as many examples as a trial of the study: with perfect scaling a smaller batch takes more steps.
    """
    if spec.options.steps is not None:
        return spec.options.steps
    own = spec.values.get("batch_size")
    larger = float(own) / smallest_batch(spec) if isinstance(own, int) and not spec.own_code else 1.0
    return math.ceil(spec.max_train_steps * max(1.0, larger))


def candidates_in(spec: BatchScaling, setting: SweepSetting) -> list[Candidate]:
    """What is tried at each batch size in a setting: a grid of learning rates, or the points that the study samples."""
    if not setting.points:
        return [Candidate(rate) for rate in log_grid(*_grid(spec, setting))]
    # The other points of a sampler without a number of trials are not needed.
    points = setting.points[: spec.options.points]
    own = ("learning_rate", "batch_size")
    return [
        Candidate(float(point["learning_rate"]), {name: value for name, value in point.items() if name not in own})
        for point in points
        if "learning_rate" in point
    ]


def ratio_of_rates(spec: BatchScaling, setting: SweepSetting) -> float:
    """The ratio of two neighbouring rates beyond the range: as on the grid, or POINTS_PER_DECADE of them a decade."""
    if setting.points:
        return float(10 ** (1 / POINTS_PER_DECADE))
    low, high, points = _grid(spec, setting)
    return float((high / low) ** (1 / (points - 1)))


def _grid(spec: BatchScaling, setting: SweepSetting) -> tuple[float, float, int]:
    here = replace(spec, values=setting.values, learning_rates=setting.learning_rates)
    return grid_of(here, None, None, spec.options.points)


def problems(spec: BatchScaling) -> list[str]:
    """What is wrong with the options, a line for each."""
    found = settings_problems(spec)
    for setting in covered_settings(spec):
        lines = _without_rates(setting) if setting.points else grid_problems(_grid(spec, setting))
        found += [line for line in lines if line not in found]
    if target_of(spec) is None:
        found.append(
            f"--steps-to: expected the value of {spec.objective.metric} to reach, since batch sizes are compared by "
            "the steps to a target; or give objective.steps_to in the study"
        )
    elif not math.isfinite(target_of(spec) or 0.0):
        found.append(f"--steps-to: expected a finite number, got {target_of(spec)}")
    if not batch_sizes(spec):
        found.append(
            f"--high: expected at least the first batch size, {smallest_batch(spec)}, got {largest_batch(spec):g}; or "
            "give a smaller --low"
        )
    if spec.own_code and not math.isfinite(largest_batch(spec)):
        found.append("--high: expected the largest batch size, since the size of the training set is not known")
    if spec.own_code and spec.options.steps is not None:
        found.append("--steps: own code decides itself how long it trains; leave it out")
    least: dict[str, Any] = {
        "--low": spec.options.low,
        "--points": spec.options.points,
        "--seeds": spec.options.seeds,
        "--steps": spec.options.steps,
    }
    return found + [
        f"{option}: expected at least 1, got {value}"
        for option, value in least.items()
        if value is not None and value < 1
    ]


def _without_rates(setting: SweepSetting) -> list[str]:
    """A line where the study samples hyperparameters, but not the learning rate."""
    if all("learning_rate" in point for point in setting.points):
        return []
    return ["learning_rate has one value; give it a range in the study, since its best value changes with the batch"]
