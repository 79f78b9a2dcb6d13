"""The evaluation that a checkpoint belongs to, if its name counts in another unit than the metrics.

A match must be certain: by a number that the program prints beside the metrics, or by the history that a Trainer of
Hugging Face writes into the checkpoint. It is not enough that numbers fit (equally many of both, one a multiple of the
other): a checkpoint every 500 updates also fits epochs of 600.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunectl.core import regular_files
from tunectl.core.typed_fields import DamagedError, sealed_object

Evaluations = Sequence[tuple[int, Mapping[str, float]]]
"""The evaluations in order: the step, and all metrics of that step."""

COUNTS = frozenset(
    {"step", "global_step", "iter", "iteration", "iter_num", "update", "updates", "num_updates", "epoch", "batch"}
)
"""Metrics that count steps under one of these names, on whatever split."""

BEYOND = 2
"""A number has another unit if it is more than this many times the last printed step and the length of the study."""

_STATE = "trainer_state.json"
_EVALUATED = "eval_"
_CLOSE = 1e-3  # printed values are rounded, by newer versions to four places


def is_other_unit(numbers: Iterable[int], last_step: int | None, length: int) -> bool:
    """Whether the names of checkpoints have numbers above every step that the metrics can have."""
    return max(numbers, default=0) > BEYOND * max(length, last_step or 0)


def shifted(numbers: Collection[int], steps: Collection[int]) -> int:
    """The difference between the names of all checkpoints and the steps of all evaluations, 0 if it is not the same.

    Epochs 0 to 9 beside steps 1 to 10 may count from 0, or begin with an untrained model and lack the last epoch.
    """
    if len(numbers) < 2 or len(numbers) != len(steps):
        return 0
    shift = min(steps) - min(numbers)
    return shift if {number + shift for number in numbers} == {*steps} else 0


def matched(there: Mapping[int, Path], evaluations: Evaluations, metric: str) -> dict[int, int]:
    """The step of the evaluation that belongs to a checkpoint, by its number, as far as it is known."""
    found = _by_counts(there, evaluations)
    state = _trainer_state(there)
    if state is not None:
        by_state = _by_history(state, [(step, metrics[metric]) for step, metrics in evaluations])
        found |= {number: by_state[number] for number in there if number in by_state}
    steps = list(found.values())
    return {number: step for number, step in found.items() if steps.count(step) == 1}


def _by_counts(there: Mapping[int, Path], evaluations: Evaluations) -> dict[int, int]:
    """Matched by a metric that counts like the names."""
    places: dict[int, set[int]] = {}
    for step, metrics in evaluations:
        for name, value in metrics.items():
            if name.rpartition("/")[2] in COUNTS and value in there:
                places.setdefault(int(value), set()).add(step)
    return {number: steps.pop() for number, steps in places.items() if len(steps) == 1}


def _trainer_state(there: Mapping[int, Path]) -> Mapping[str, Any] | None:
    """The state that a Trainer wrote into the last checkpoint that has one."""
    for _, path in sorted(there.items(), reverse=True):
        try:
            return sealed_object(regular_files.content(path / _STATE, follows=True))
        except OSError:
            continue
        except DamagedError:
            return None
    return None


def _by_history(state: Mapping[str, Any], evaluations: Sequence[tuple[int, float]]) -> dict[int, int]:
    """Matched by the history of a Trainer: its n-th evaluation is the n-th printed one, if all values agree."""
    listed = state.get("log_history")
    history = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    readings: list[dict[int, int]] = []
    for key in {name for item in history for name in item if name.startswith(_EVALUATED)}:
        entries = [item for item in history if key in item and isinstance(item.get("step"), int)]
        pairs = list(zip(entries, evaluations, strict=False))
        # More may have been printed after the checkpoint, but none before it may be missing.
        if len(entries) <= len(evaluations) and all(_agrees(entry[key], value) for entry, (_, value) in pairs):
            readings.append({entry["step"]: step for entry, (step, _) in pairs})
    return readings[0] if readings and all(reading == readings[0] for reading in readings) else {}


def _agrees(one: Any, other: float) -> bool:
    return isinstance(one, (int, float)) and math.isclose(one, other, rel_tol=_CLOSE, abs_tol=_CLOSE / 20)
