"""What makes a study folder belong to a study, and how two studies differ."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tunectl.spec.model import StudySpec

FREE = frozenset({"search.trials", "training.keep_checkpoints"})
"""What may change between two calls on one folder, beside resources, goal and notes. Trials may only be raised."""


def identity(spec: StudySpec) -> dict[str, Any]:
    """The study as dotted paths and values, without what may change: two calls on one folder must agree on it."""
    content: dict[str, Any] = {
        "study": spec.name,
        "workload": spec.workload,
        "objective": asdict(spec.objective),
        "training": asdict(spec.training),
        "search": {**asdict(spec.search), "points": [dict(point) for point in spec.search.points]},
        "hyperparameters": {},
    }
    if spec.program is not None:
        # The folder is where the study stands: one that is moved as a whole stays the same study.
        content["program"] = {key: value for key, value in asdict(spec.program).items() if key != "folder"}
    if spec.baseline_loss is not None:
        content["baseline_loss"] = spec.baseline_loss
    for name in spec.names:
        alternatives = [
            {
                "role": item.role,
                "domain": asdict(item.domain),
                "when": {k: list(v) for k, v in item.when.items()},
                "sampled": item.sampled,
            }
            for item in spec.alternatives(name)
        ]
        content["hyperparameters"][name] = alternatives
    # The order of hyperparameters decides which coordinate each gets, and so belongs to the study.
    content["order of hyperparameters"] = list(spec.names)
    flat = dict(_flatten(content, ""))
    return {path: value for path, value in flat.items() if path not in FREE}


def differences(old: StudySpec, new: StudySpec) -> list[str]:
    """What differs between two studies of one folder: a line for each path, what it was and what it is now."""
    before, after = identity(old), identity(new)
    lines = [
        f"{path}: was {before.get(path, 'not there')!s}, is {after.get(path, 'not there')!s}"
        for path in dict.fromkeys([*before, *after])
        if repr(before.get(path)) != repr(after.get(path))  # to Python 1 == True == 1.0, to a study they differ
    ]
    if old.search.trials is not None and new.search.trials is not None and new.search.trials < old.search.trials:
        lines.append(f"search.trials: was {old.search.trials}, is {new.search.trials}; it may only be raised")
    return lines


def _flatten(value: Any, path: str) -> list[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        return [pair for key, item in value.items() for pair in _flatten(item, f"{path}.{key}" if path else str(key))]
    if isinstance(value, (list, tuple)) and value and any(isinstance(item, dict) for item in value):
        return [pair for index, item in enumerate(value) for pair in _flatten(item, f"{path}[{index}]")]
    return [(path, value)]
