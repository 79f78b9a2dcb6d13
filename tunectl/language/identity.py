"""What must be the same between two calls on one study folder, and how two studies differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tunectl.core.program_request import ProgramReading
from tunectl.language.study_spec import StudySpec

FREE = frozenset({"search.trials", "training.keep_checkpoints"})
"""What may change between two calls on one folder, besides resources, goal and notes. Trials may only be raised."""

# Of a program: the folder, as a study moved with its folder is the same study; the environment is kept with every
# trial, as it was when the trial was trained.
_FREE_OF_PROGRAM = frozenset({"folder", "environment"})
_READING_OF_PROGRAM = frozenset(ProgramReading.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class Differences:
    """How two studies of one folder differ, a line for each path: what it was and what it is now.

    `results`: what would have given other results in trials that have ended, and so may not change. `reading`: how the
    output of own code is read and its end is judged, which can be done again. `objective`: by what trials are selected.
    `environment`: the environment variables of a program.
    """

    results: tuple[str, ...] = ()
    objective: tuple[str, ...] = ()
    reading: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()


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
        kept = asdict(spec.program).items()
        content["program"] = {k: v for k, v in kept if k not in _FREE_OF_PROGRAM | _READING_OF_PROGRAM}
    if spec.own_code:
        # Own code is judged by its output, which can be done again; in our own loop the judgement ends the trial.
        del content["training"]["no_progress"]
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


def differences(old: StudySpec, new: StudySpec) -> Differences:
    """How two studies of one folder differ, in what may not change freely."""
    lines = _lines(identity(old), identity(new))
    if old.search.trials is not None and new.search.trials is not None and new.search.trials < old.search.trials:
        lines.append(f"search.trials: was {old.search.trials}, is {new.search.trials}; it may only be raised")
    of_objective = tuple(line for line in lines if line.startswith("objective."))
    return Differences(
        results=tuple(line for line in lines if line not in of_objective),
        objective=of_objective,
        reading=tuple(_lines(_reading(old), _reading(new))),
        environment=tuple(_lines(_environment(old), _environment(new))),
    )


def _reading(spec: StudySpec) -> dict[str, Any]:
    """How the output of own code is read and its end is judged, by the paths of the study file."""
    if not spec.own_code:
        return {}
    judging = {
        "workload.baseline_loss": "not there" if spec.baseline_loss is None else spec.baseline_loss,
        "training.no_progress": spec.training.no_progress,
    }
    if spec.program is None:
        return judging
    sources = [{item.kind: item.where, **asdict(item)} for item in spec.program.sources]
    metrics = [{key: value for key, value in item.items() if key not in ("kind", "where")} for item in sources]
    reading = {key: value for key, value in asdict(spec.program.reading).items() if key != "sources"}
    content = {"metrics": metrics, **reading}
    return dict(_flatten(content, "workload")) | judging


def _environment(spec: StudySpec) -> dict[str, Any]:
    return {f"workload.environment.{k}": v for k, v in spec.program.environment.items()} if spec.program else {}


def _lines(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [
        f"{path}: was {before.get(path, 'not there')!s}, is {after.get(path, 'not there')!s}"
        for path in dict.fromkeys([*before, *after])
        if repr(before.get(path)) != repr(after.get(path))  # to Python 1 == True == 1.0, to a study they differ
    ]


def _flatten(value: Any, path: str) -> list[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        return [pair for key, item in value.items() for pair in _flatten(item, f"{path}.{key}" if path else str(key))]
    if isinstance(value, (list, tuple)) and value and any(isinstance(item, dict) for item in value):
        return [pair for index, item in enumerate(value) for pair in _flatten(item, f"{path}[{index}]")]
    return [(path, value)]
