"""What must be the same between two calls on one study folder, and how two studies differ."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, assert_never

from tunectl.core.own_code_request import CommandReading, Program
from tunectl.core.wording import as_text, quoted
from tunectl.language.placeholders import DIR
from tunectl.language.study_spec import StudySpec
from tunectl.space.domains import Derived, Domain, FixedValue, Range, ValueSet
from tunectl.space.search_space import SearchSection, Stage

FREE = frozenset({"search.trials", "search.stop_early", "training.keep_checkpoints", "training.curvature"})
"""What may change between two calls on one folder, besides resources, goal and notes. Trials may only be raised, as
may `keep` of a stage, and stages may only be added; the curvature is measured as the study says when a trial is started
or resumed, which changes nothing in its training. Early stopping holds for the trials that run.
"""

# Of a program: the folder, as a study moved with its folder is the same study; the environment is kept with every
# trial, as it was when the trial was trained.
_FREE_OF_PROGRAM = frozenset({"folder", "environment"})
_READING_OF_PROGRAM = frozenset(CommandReading.__dataclass_fields__)


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


def identity(spec: StudySpec, listed: Collection[str] = ()) -> dict[str, Any]:
    """The study as dotted paths and values that must be the same for two calls on one folder.

    The paths are those of the study file. The alternatives of a name are numbered where there are several, or where the
    name is in `listed`.
    """
    content: dict[str, Any] = {
        "study": spec.name,
        "objective": asdict(spec.objective),
        "training": asdict(spec.training),
        "search": _of_search(spec.search),
        "hyperparameters": {},
    }
    if spec.program is not None:
        content["workload"] = _of_program(spec.program)
        content["resources"] = {"devices_per_trial": spec.program.devices}
    else:
        content["workload"] = spec.workload
    if spec.own_code:
        # Own code is judged by its output, which can be done again; in our own loop the judgement ends the trial.
        del content["training"]["no_progress"]
    for name in spec.names:
        alternatives = [
            {
                "role": item.role,
                **_of_domain(item.domain),
                "when": {k: list(v) for k, v in item.when.items()} or None,
                "sampled": item.sampled or None,
            }
            for item in spec.alternatives(name)
        ]
        is_one = len(alternatives) == 1 and name not in listed
        content["hyperparameters"][name] = alternatives[0] if is_one else alternatives
    # The order of hyperparameters decides which coordinate each gets, and so belongs to the study.
    content["order of hyperparameters"] = list(spec.names)
    flat = dict(_flatten(content, ""))
    return {path: value for path, value in flat.items() if not _is_free(path)}


def _is_free(path: str) -> bool:
    return any(path == free or path.startswith(f"{free}.") for free in FREE)


def differences(old: StudySpec, new: StudySpec) -> Differences:
    """How two studies of one folder differ, in what may not change freely."""
    listed = {name for spec in (old, new) for name in spec.names if len(spec.alternatives(name)) > 1}
    lines = _lines(identity(old, listed), identity(new, listed))
    if old.search.trials is not None and new.search.trials is not None and new.search.trials < old.search.trials:
        lines.append(f"search.trials: was {old.search.trials}, is {new.search.trials}; it may only be raised")
    lines += _of_stages(old.search.promote, new.search.promote)
    of_objective = tuple(line for line in lines if line.startswith("objective."))
    return Differences(
        results=tuple(line for line in lines if line not in of_objective),
        objective=of_objective,
        reading=tuple(_lines(_reading(old), _reading(new))),
        environment=tuple(_lines(_environment(old), _environment(new))),
    )


def training_differences(old: StudySpec, new: StudySpec) -> list[str]:
    """How two studies differ in how a trial with the same hyperparameters is trained and read, a line for each path.

    Their seeds may differ: with another one a trial is trained as well.
    """
    kept = [
        {path: value for path, value in identity(spec).items() if _is_of_training(path)} | _reading(spec)
        for spec in (old, new)
    ]
    return _lines(*kept)


def _is_of_training(path: str) -> bool:
    return path.partition(".")[0] in ("workload", "resources", "training") and path != "training.seed"


def _of_search(search: SearchSection) -> dict[str, Any]:
    found = {**asdict(search), "points": [dict(point) for point in search.points]}
    del found["promote"]  # see _of_stages
    return found


def _of_stages(old: Sequence[Stage], new: Sequence[Stage]) -> list[str]:
    """How stages differ from those that there were: trials that were promoted stay, and keep their length."""
    lines = []
    for place, before in enumerate(old):
        path = f"search.promote[{place}]"
        if place >= len(new):
            lines.append(f"{path}: was there, is not there; stages may only be added")
            continue
        was, now = asdict(before), asdict(new[place])
        for name in ("max_train_steps", "eval_every"):
            lines += _lines({f"{path}.{name}": was[name]}, {f"{path}.{name}": now[name]})
        if now["keep"] < was["keep"]:
            lines.append(f"{path}.keep: was {was['keep']}, is {now['keep']}; it may only be raised")
    return lines


def _of_program(program: Program) -> dict[str, Any]:
    kept = set(asdict(program)) - _FREE_OF_PROGRAM - _READING_OF_PROGRAM
    assert kept == {"arguments", "devices", "in_trial_folder"}, "each field has its words here"
    folder = f"{{{DIR}}}" if program.in_trial_folder else "one for all trials"
    return {"command": asdict(program)["arguments"], "folder": folder}


def _of_domain(domain: Domain) -> dict[str, Any]:
    match domain:
        case FixedValue():
            return {"value": domain.value}
        case ValueSet():
            return {"values": domain.values}
        case Range():
            kind = "int" if domain.integer else "float"
            bounds = (domain.low, domain.high)
            return {"range": bounds, "scale": domain.scale, "type": kind, "points": domain.points}
        case Derived():
            return {"formula": domain.formula.text, "type": "int" if domain.integer else "float"}
        case _:
            assert_never(domain)


def _reading(spec: StudySpec) -> dict[str, Any]:
    """How the output of own code is read and its end is judged, by the paths of the study file."""
    if not spec.own_code:
        return {}
    judging = {
        "workload.baseline_loss": spec.baseline_loss,
        "training.no_progress": spec.training.no_progress,
    }
    if spec.program is None:
        return judging
    sources = [{item.source_kind: item.where, **asdict(item)} for item in spec.program.sources]
    metrics = [{key: value for key, value in item.items() if key not in ("source_kind", "where")} for item in sources]
    reading = {key: value for key, value in asdict(spec.program.reading).items() if key != "sources"}
    content = {"metrics": metrics, **reading}
    return dict(_flatten(content, "workload")) | judging


def _environment(spec: StudySpec) -> dict[str, Any]:
    return {f"workload.environment.{k}": v for k, v in spec.program.environment.items()} if spec.program else {}


def _lines(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [
        f"{path}: was {_text(before.get(path))}, is {_text(after.get(path))}"
        for path in dict.fromkeys([*before, *after])
        if repr(before.get(path)) != repr(after.get(path))  # to Python 1 == True == 1.0, to a study they differ
    ]


def _text(value: Any) -> str:
    """A value as it is written in the study file."""
    match value:
        case None:
            return "not there"
        case str():
            return quoted(value)
        case list() | tuple():
            return f"[{', '.join(map(_text, value))}]"
        case _:
            return as_text(value)


def _flatten(value: Any, path: str) -> list[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        return [pair for key, item in value.items() for pair in _flatten(item, f"{path}.{key}" if path else str(key))]
    if isinstance(value, (list, tuple)) and value and any(isinstance(item, dict) for item in value):
        return [pair for index, item in enumerate(value) for pair in _flatten(item, f"{path}[{index}]")]
    return [(path, value)]
