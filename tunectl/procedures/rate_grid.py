"""The grid of learning rates of a procedure: as the user asks, else as far as the study's range or value says."""

from __future__ import annotations

import math

from tunectl.core.errors import UsageError
from tunectl.procedures.procedure import AnySweep

REACH = 100.0
"""Without a range in the study, the sweep reaches this factor below and above its learning rate."""

POINTS_PER_DECADE = 3
"""Near the edge outcomes are chaotic: a factor of about 2 between rates is what a judgement can carry."""


def grid_of(spec: AnySweep, low: float | None, high: float | None, points: int | None) -> tuple[float, float, int]:
    """The lowest and the highest rate, and the number of rates; those that the user gave replace the study's.

    Raises UsageError where neither the user nor the study says which rates.
    """
    lowest, highest = spec.learning_rates or (None, None)
    if (lowest is None or highest is None) and "learning_rate" in spec.values:
        centre = float(spec.values["learning_rate"])
        lowest, highest = centre / REACH, centre * REACH
    lowest, highest = low or lowest, high or highest
    if lowest is None or highest is None:
        raise UsageError("no learning_rate has a value or a range here; give --low and --high")
    decades = math.log10(highest / lowest) if 0 < lowest < highest else 0.0
    return lowest, highest, points or max(2, math.ceil(decades * POINTS_PER_DECADE) + 1)


def grid_problems(grid: tuple[float, float, int]) -> list[str]:
    """What is wrong with a grid, a line for each."""
    low, high, points = grid
    found = []
    if not 0 < low < high:
        found.append(f"--low, --high: expected 0 < low < high, got {low:g} and {high:g}")
    if points < 2:
        found.append(f"--points: expected at least 2, got {points}")
    return found
