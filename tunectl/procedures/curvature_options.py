"""What `curvature` is asked for: its options, its phases, and the learning rates and settings that it covers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tunectl.procedures.procedure import (
    ProcedureOptions,
    SweepSetting,
    SweepSpec,
    covered_settings,
    settings_problems,
)
from tunectl.procedures.rate_grid import grid_of, grid_problems
from tunectl.procedures.rate_judgements import log_grid

INITIAL, WITHOUT, WITH, SHOWN = range(4)
PHASES = (
    "the curvature at initialisation",
    "learning rates without warmup",
    "learning rates with warmup",
    "the chosen runs again, measured more often",
)

DEFAULT_SEEDS = 5
"""Seeds at initialisation: a few updates each cost hardly anything."""

LONGEST_WARMUP = 1000
WARMUP_PART = 0.1
"""Gilmer et al., "A Loss Curvature Perspective on Training Instability", warm up for 1000 updates; the playbook tries
warmups of up to a tenth of max_train_steps. The shorter of the two is the default.
"""


@dataclass(frozen=True)
class CurvatureOptions(ProcedureOptions):
    """The options of `curvature`.

    `low`, `high` and `points` replace the ends of the grid of learning rates and their number, `steps` the study's
    max_train_steps. `warmup` is the length of the warmup, `seeds` the number of seeds at initialisation. `step` is
    after how many updates the eigenvalues are compared with the bound.
    """

    low: float | None = None
    high: float | None = None
    points: int | None = None
    steps: int | None = None
    warmup: int | None = None
    seeds: int = DEFAULT_SEEDS
    step: int | None = None


CurvatureSweep = SweepSpec[CurvatureOptions]


def grid_in(spec: CurvatureSweep, setting: SweepSetting) -> tuple[float, float, int]:
    """The lowest and the highest rate of the grid in a setting, and the number of rates."""
    options = spec.options
    here = replace(spec, values=setting.values, learning_rates=setting.learning_rates)
    return grid_of(here, options.low, options.high, options.points)


def points_of(spec: CurvatureSweep) -> list[tuple[int, float]]:
    """The places of all settings and the rates of their grids, in the order of the points of a phase."""
    return [
        (place, rate)
        for place, setting in enumerate(covered_settings(spec))
        for rate in log_grid(*grid_in(spec, setting))
    ]


def trained_steps(spec: CurvatureSweep) -> int:
    """How many updates a trial trains, without a warmup before them."""
    return spec.options.steps or spec.max_train_steps


def warmup_steps(spec: CurvatureSweep) -> int:
    """The length of the warmup."""
    default = min(LONGEST_WARMUP, int(trained_steps(spec) * WARMUP_PART))
    return spec.options.warmup if spec.options.warmup is not None else max(1, default)


def compared_step(spec: CurvatureSweep) -> int:
    """After how many updates eigenvalues are compared with the bound: by default at the end of the warmup."""
    return spec.options.step if spec.options.step is not None else min(warmup_steps(spec), trained_steps(spec))


def training_of(spec: CurvatureSweep) -> Mapping[str, int]:
    """What replaces the study's `training:` in the trials of the grid."""
    steps = spec.options.steps
    return {} if steps is None else {"max_train_steps": steps, "eval_every": min(spec.eval_every, steps)}


def problems(spec: CurvatureSweep) -> list[str]:
    """What is wrong with the options, a line for each."""
    found = settings_problems(spec)
    for setting in covered_settings(spec):
        found += [line for line in grid_problems(grid_in(spec, setting)) if line not in found]
    least: dict[str, tuple[Any, int]] = {
        "--steps": (spec.options.steps, 1),
        "--warmup": (spec.options.warmup, 1),
        "--seeds": (spec.options.seeds, 1),
        "--step": (spec.options.step, 0),
    }
    found += [
        f"{option}: expected at least {low}, got {value}"
        for option, (value, low) in least.items()
        if value is not None and value < low
    ]
    if not found and compared_step(spec) > trained_steps(spec):
        found.append(f"--step {compared_step(spec)}: expected at most {trained_steps(spec)}, the length of a trial")
    return found
