"""The sections of a study but its hyperparameters: their keys, types, bounds and defaults."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo
from pydantic_core import PydanticCustomError, PydanticKnownError

from tunectl.core.errors import PathKey
from tunectl.core.objective import Objective
from tunectl.core.records import DiffExtent, Recovery
from tunectl.core.wording import found, nearest
from tunectl.language.configuration import FIELDS
from tunectl.language.document import Document
from tunectl.language.study_spec import ResourcesSection, TrainingSection
from tunectl.space.search_space import SearchSection

_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_METRIC = re.compile(r"[^/\s]+/\S+")
_LARGEST_SEED = 2**63 - 1
_LONGEST_SECONDS = 10 * 365 * 86400
_LARGEST_COUNT = 2**53  # step counts stay exact as floats

Count = Annotated[int, Field(ge=1, le=_LARGEST_COUNT)]


def _slug(value: Any) -> Any:
    if isinstance(value, str) and not _SLUG.fullmatch(value):
        raise PydanticCustomError(
            "slug",
            "a study's name is a folder's name: letters, digits, '.', '_' and '-', a letter or digit first, at most "
            "100 characters",
        )
    return value


def _workload(value: Any) -> Any:
    # What stands in a mapping is read elsewhere.
    if not isinstance(value, (str, dict)):
        raise PydanticKnownError("string_type")
    return value


def _metric(value: Any, info: ValidationInfo) -> Any:
    # A program calls its metrics as it does.
    own_code = bool(info.context)
    if isinstance(value, str) and not own_code and not _METRIC.fullmatch(value):
        raise PydanticCustomError("metric", "a metric is named split/name, such as valid/error_rate")
    if isinstance(value, str) and value.startswith("test/"):
        raise PydanticCustomError(
            "metric", "the test split waits until the study is over and is never its objective; use valid/…"
        )
    return value


def _devices(value: Any) -> Any:
    right = "auto, cpu, or a list of GPU indices and UUIDs such as [0, 1]"
    if isinstance(value, str) and value in ("auto", "cpu"):
        return value
    if isinstance(value, list) and value and all(_is_device(item) for item in value):
        if len({str(item) for item in value}) < len(value):
            raise PydanticCustomError("devices", "every device stands in the list once")
        return tuple(value)
    raise PydanticCustomError("devices", right)


def _is_device(item: Any) -> bool:
    if isinstance(item, bool):
        return False
    return (isinstance(item, int) and item >= 0) or (isinstance(item, str) and item.startswith(("GPU-", "MIG-")))


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class _ObjectiveKeys(_Section):
    metric: Annotated[str, BeforeValidator(_metric)]
    direction: Literal["minimize", "maximize"]
    checkpoint: Literal["best", "final"] = "best"


class _RecoveryKeys(_Section):
    learning_rate_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    max_recoveries: Annotated[int, Field(ge=1, le=100)] = 3


class _TrainingKeys(_Section):
    max_train_steps: Count
    eval_every: Count
    keep_checkpoints: Annotated[int, Field(ge=1, le=1000)] = 3
    seed: Annotated[int, Field(ge=0, le=_LARGEST_SEED)] = 0
    train_examples: Count | None = None
    no_progress: bool = True
    recovery: _RecoveryKeys | None = None


class _OwnTrainingKeys(_TrainingKeys):
    eval_every: Count = 1  # own code evaluates when it does


class _SearchKeys(_Section):
    sampler: Literal["halton", "random", "grid"] = "halton"
    trials: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    seed: Annotated[int, Field(ge=0, le=_LARGEST_SEED)] = 0
    points: Any = None


class _ResourcesKeys(_Section):
    backend: str = "local"
    devices: Annotated[Any, BeforeValidator(_devices)] = "auto"
    devices_per_trial: Annotated[int, Field(ge=1, le=1024)] = 1
    trials_per_device: Annotated[int, Field(ge=1, le=1024)] = 1
    threads_per_trial: Annotated[int, Field(ge=1, le=1024)] = 1
    data_workers: Annotated[int, Field(ge=0, le=1024)] = 0
    retries: Annotated[int, Field(ge=0, le=1000)] = 1
    trial_timeout_seconds: Annotated[float, Field(gt=0, le=_LONGEST_SECONDS)] | None = None
    grace_seconds: Annotated[float, Field(gt=0, le=86400)] = 30.0


class _StudyKeys(_Section):
    study: Annotated[str, BeforeValidator(_slug)] | None = None
    goal: str = ""
    workload: Annotated[Any, BeforeValidator(_workload)]
    objective: _ObjectiveKeys
    training: _TrainingKeys
    hyperparameters: dict[str, Any]
    search: _SearchKeys = _SearchKeys()
    resources: _ResourcesKeys = _ResourcesKeys()
    notes: str = ""
    uncommitted_diff: DiffExtent = "folders"


class _OwnStudyKeys(_StudyKeys):
    training: _OwnTrainingKeys


class Sections:
    """The validated sections of a study."""

    def __init__(self, keys: _StudyKeys) -> None:
        self.study = keys.study
        self.goal = keys.goal
        self.notes = keys.notes
        self.uncommitted_diff = keys.uncommitted_diff
        self.workload = keys.workload
        self.objective = Objective(**keys.objective.model_dump())
        recovery = keys.training.recovery
        self.training = TrainingSection(
            **keys.training.model_dump(exclude={"recovery"}),
            recovery=None if recovery is None else Recovery(**recovery.model_dump()),
        )
        self.points_content = keys.search.points
        self.search = SearchSection(
            sampler="points" if "points" in keys.search.model_fields_set else keys.search.sampler,
            trials=keys.search.trials,
            seed=keys.search.seed,
        )
        self.resources = ResourcesSection(**keys.resources.model_dump())


def read_sections(document: Document) -> Sections | None:
    """The sections, or None where something is wrong; every problem is noted in the document."""
    if not isinstance(document.content, dict):
        document.report((), f"a study is a mapping of keys, {found(document.content)}; see the README for an example")
        return None
    # An empty section (`search:` with all its lines commented out) is one that was left out.
    content = {
        key: value
        for key, value in document.content.items()
        if value is not None or key not in ("search", "resources", "goal", "notes", "uncommitted_diff")
    }
    own_code = isinstance(content.get("workload"), dict)
    try:
        return Sections((_OwnStudyKeys if own_code else _StudyKeys).model_validate(content, context=own_code))
    except ValidationError as error:
        items = error.errors(include_url=False)
        unknown = [tuple(item["loc"]) for item in items if item["type"] == "extra_forbidden"]
        for item in items:
            # A key that is missing because it is misspelt is told once, where it stands.
            if item["type"] != "missing" or not _stands_misspelt(tuple(item["loc"]), unknown):
                _note(document, item)
        return None


def _stands_misspelt(path: PathKey, unknown: list[PathKey]) -> bool:
    siblings = [str(other[-1]) for other in unknown if other[:-1] == path[:-1]]
    return any(nearest(sibling, [str(path[-1])]).startswith("; did") for sibling in siblings)


def _note(document: Document, item: Any) -> None:
    path: PathKey = tuple(item["loc"])
    kind, value, context = item["type"], item["input"], item.get("ctx", {})
    if kind == "extra_forbidden":
        document.report(path, _unknown_key(path), at_key=True)
    elif kind == "missing":
        document.report(path, f"the key is missing; {_PURPOSE.get(path, 'write it')}", at_key=True)
    elif kind in ("slug", "metric", "devices"):
        document.report(
            path,
            f"{item['msg'].replace('; ', f', {found(value)}; ', 1)}"
            if "; " in item["msg"]
            else f"{item['msg']}, {found(value)}",
        )
    else:
        hint = "; write it in quotes" if kind == "string_type" and isinstance(value, (bool, int, float)) else ""
        document.report(path, f"{_expected(kind, context)}, {found(value)}{hint}")


_PURPOSE: dict[PathKey, str] = {
    ("workload",): "write module:factory or ./file.py:factory, what to train",
    ("objective",): "write {metric: valid/error_rate, direction: minimize}",
    ("objective", "metric"): "write split/name, such as valid/error_rate",
    ("objective", "direction"): "write minimize or maximize: it is never guessed",
    ("training",): "write {max_train_steps: …, eval_every: …}",
    ("training", "max_train_steps"): "write the number of updates of a trial",
    ("training", "eval_every"): "write the number of updates between evaluations",
    ("hyperparameters",): "write at least optimizer and learning_rate",
}

_SECTION_KEYS: dict[str, type[BaseModel]] = {
    "objective": _ObjectiveKeys,
    "training": _TrainingKeys,
    "search": _SearchKeys,
    "resources": _ResourcesKeys,
}


def _unknown_key(path: PathKey) -> str:
    key = str(path[-1])
    if path[:-1] == ("training", "recovery"):
        return f"no such key{nearest(key, _RecoveryKeys.model_fields)}"
    model = _StudyKeys if len(path) == 1 else _SECTION_KEYS[str(path[0])]
    if key in FIELDS:
        return f"{key} is a hyperparameter; write it under hyperparameters"
    home = next((name for name, keys in _SECTION_KEYS.items() if key in keys.model_fields and name != path[0]), None)
    if home:
        return f"the key belongs under {home}, found under {path[0] if len(path) > 1 else 'the top level'}"
    return f"no such key{nearest(key, model.model_fields)}"


def _expected(kind: str, context: dict[str, Any]) -> str:
    match kind:
        case "int_type" | "int_from_float":
            return "a whole number is due"
        case "float_type":
            return "a number is due"
        case "finite_number":
            return "a finite number is due"
        case "bool_type":
            return "true or false is due"
        case "string_type":
            return "text is due"
        case "model_type" | "dict_type":
            return "a mapping of keys is due"
        case "literal_error":
            return f"one of {str(context['expected']).replace(chr(39), '').replace(' or ', ', ')} is due"
        case "greater_than_equal":
            return f"at least {_bound(context['ge'])} is due"
        case "greater_than":
            return f"more than {_bound(context['gt'])} is due"
        case "less_than":
            return f"less than {_bound(context['lt'])} is due"
        case "less_than_equal":
            return f"at most {_bound(context['le'])} is due"
        case _:
            return f"something else is due ({kind})"


def _bound(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)
