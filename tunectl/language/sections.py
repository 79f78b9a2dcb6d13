"""The sections of a study except its hyperparameters: their keys, types, bounds and defaults.

The records declare the keys with their types and defaults (`TrainingSection`, `Objective`, ...); what is added here are
the bounds of the values, and the keys of a study itself.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import replace
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
    create_model,
)
from pydantic_core import CoreSchema, core_schema

from tunectl.core.curvature_settings import CurvatureSettings
from tunectl.core.errors import PathKey
from tunectl.core.example_predictions import PredictionSettings
from tunectl.core.measurement_kinds import MOST_EIGENVALUES
from tunectl.core.objective import Objective
from tunectl.core.records import BatchNormStatistics, DiffExtent, Recovery
from tunectl.core.wording import got, nearest
from tunectl.language import ray_values, section_values
from tunectl.language.configuration import FIELDS
from tunectl.language.document import Document
from tunectl.language.study_spec import RaySection, ResourcesSection, SlurmSection, TrainingSection
from tunectl.space.search_space import SearchSection, Stage, StopEarly

_COUNT = Field(ge=1, le=2**53)  # step counts stay exact as floats
_SEED = Field(ge=0, le=2**63 - 1)
_FEW = Field(ge=1, le=1024)
_SECONDS = Field(gt=0, le=10 * 365 * 86400)


class _Keys(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class _KeysOf:
    """Reads a mapping into a frozen dataclass, whose fields are the keys.

    `bounds` gives for some fields what a value must satisfy beyond its type; a tuple is (type, default), in place of
    what the dataclass declares.
    """

    def __init__(self, **bounds: Any) -> None:
        self.bounds = bounds

    def __get_pydantic_core_schema__(self, record: type[Any], handler: GetCoreSchemaHandler) -> CoreSchema:
        declared = get_type_hints(record)
        keys: dict[str, Any] = {}
        for item in dataclasses.fields(record):
            bound = self.bounds.get(item.name)
            default = ... if item.default is dataclasses.MISSING else item.default
            kind = declared[item.name] if bound is None else Annotated[declared[item.name], bound]
            keys[item.name] = bound if isinstance(bound, tuple) else (kind, default)
        model: type[BaseModel] = create_model(record.__name__, __base__=_Keys, **keys)
        return core_schema.no_info_after_validator_function(
            lambda read: record(**{name: getattr(read, name) for name in model.model_fields}), handler(model)
        )


_RECOVERY = Annotated[Recovery, _KeysOf(learning_rate_factor=Field(gt=0, lt=1), max_recoveries=Field(ge=1, le=100))]
_CURVATURE = Annotated[
    CurvatureSettings,
    _KeysOf(
        every=(Annotated[int, _COUNT] | None, None),
        at=(
            Annotated[
                tuple[Annotated[int, Field(ge=0, le=2**53)], ...],
                BeforeValidator(section_values.listed_once),
                AfterValidator(section_values.ascending),
            ],
            (),
        ),
        measures=BeforeValidator(section_values.listed_once),
        examples=_COUNT,
        tolerance=Field(gt=0, le=0.5),
        max_products=Field(ge=2, le=1_000_000),
        eigenvalues=Field(ge=1, le=MOST_EIGENVALUES),
    ),
]
_BATCH_NORM_STATISTICS = Annotated[BatchNormStatistics, _KeysOf(batches=Field(ge=1, le=1_000_000))]
_STAGE = Annotated[
    Stage,
    _KeysOf(
        keep=Field(ge=1, le=1_000_000),
        max_train_steps=_COUNT,
        eval_every=(Annotated[int, _COUNT] | None, None),
    ),
]
_STOP_EARLY = Annotated[
    StopEarly,
    _KeysOf(
        grace=Field(gt=0, lt=1),
        min_trials=Field(ge=2, le=1_000_000),
        same=(Annotated[tuple[str, ...], BeforeValidator(section_values.listed_names)] | None, None),
    ),
]
_PREDICTIONS = Annotated[
    PredictionSettings,
    _KeysOf(
        split=BeforeValidator(section_values.kept_split),
        examples=(
            Annotated[int | tuple[int, ...], BeforeValidator(section_values.examples)],
            PredictionSettings().examples,
        ),
    ),
]
_RAY = Annotated[
    RaySection,
    _KeysOf(
        address=(Annotated[str, AfterValidator(ray_values.address)] | None, None),
        num_cpus=(Annotated[float, Field(gt=0, le=1024)] | None, None),
        num_gpus=(Annotated[float, Field(ge=0, le=1024), AfterValidator(ray_values.gpus)] | None, None),
        workers=(Annotated[int, Field(ge=1, le=100_000)] | None, None),
        additional=(Annotated[dict[str, Any], BeforeValidator(ray_values.actor_options)], {}),
    ),
]
_SLURM = Annotated[
    SlurmSection,
    _KeysOf(
        partition=(Annotated[str, AfterValidator(section_values.one_line)] | None, None),
        time_minutes=(Annotated[int, Field(ge=1, le=365 * 24 * 60)] | None, None),
        gpus_per_node=(Annotated[int | str, BeforeValidator(section_values.gpus_of_job)] | None, None),
        cpus_per_task=(Annotated[int, _FEW] | None, None),
        mem_gb=(Annotated[float, Field(gt=0, le=2**20)] | None, None),
        account=(Annotated[str, AfterValidator(section_values.one_line)] | None, None),
        setup=(Annotated[tuple[str, ...], BeforeValidator(section_values.shell_lines)], ()),
        array_parallelism=(Annotated[int, Field(ge=1, le=100_000)] | None, None),
        additional=(
            Annotated[dict[str, bool | int | float | str], BeforeValidator(section_values.sbatch_options)],
            {},
        ),
    ),
]
_OF_TRAINING: dict[str, Any] = {
    "max_train_steps": _COUNT,
    "eval_every": _COUNT,
    "keep_checkpoints": Field(ge=0, le=1000),
    "seed": _SEED,
    "trial_seed": (Annotated[int, Field(ge=0, lt=2**128)] | None, None),
    "train_examples": (Annotated[int, _COUNT] | None, None),
    "recovery": (_RECOVERY | None, None),
    "curvature": (_CURVATURE | None, None),
    "batch_norm_statistics": (_BATCH_NORM_STATISTICS | None, None),
    "predictions": (_PREDICTIONS | None, None),
    "split_examples": (
        Annotated[dict[str, Annotated[int, _COUNT]], BeforeValidator(section_values.sampled_splits)],
        {},
    ),
}


class Sections(_Keys):
    """The sections of a study, and the keys beside them."""

    study: Annotated[str, BeforeValidator(section_values.slug)] | None = None
    goal: str = ""
    workload: Annotated[Any, BeforeValidator(section_values.workload)]
    objective: Annotated[Objective, _KeysOf(metric=BeforeValidator(section_values.metric))]
    training: Annotated[TrainingSection, _KeysOf(**_OF_TRAINING)]
    hyperparameters: dict[str, Any]
    search: Annotated[
        SearchSection,
        _KeysOf(
            sampler=(Literal["halton", "random", "grid", "bayesian"], "halton"),
            trials=(Annotated[int, Field(ge=1, le=1_000_000)] | None, None),
            seed=_SEED,
            points=(Any, ()),  # checked against the hyperparameters by the study reader
            promote=(Annotated[tuple[_STAGE, ...], BeforeValidator(section_values.stages)], ()),
            stop_early=(_STOP_EARLY | None, None),
        ),
    ] = SearchSection()
    resources: Annotated[
        ResourcesSection,
        _KeysOf(
            devices=(Annotated[Any, BeforeValidator(section_values.devices)], "auto"),
            devices_per_trial=_FEW,
            trials_per_device=_FEW,
            threads_per_trial=_FEW,
            data_workers=Field(ge=0, le=1024),
            prefetch_batches=Field(ge=1, le=1024),
            retries=Field(ge=0, le=1000),
            trial_timeout_seconds=(Annotated[float, _SECONDS] | None, None),
            grace_seconds=Field(gt=0, le=86400),
            min_free_memory=Field(ge=0, lt=1),
            ray=(Annotated[_RAY, BeforeValidator(section_values.empty_mapping)], RaySection()),
            heartbeat_seconds=Field(ge=0.1, le=3600),
            slurm=(Annotated[_SLURM, BeforeValidator(section_values.empty_mapping)], SlurmSection()),
        ),
    ] = ResourcesSection()
    notes: str = ""
    uncommitted_diff: DiffExtent = "folders"


class _OwnSections(Sections):
    # Own code evaluates when it does.
    training: Annotated[TrainingSection, _KeysOf(**_OF_TRAINING | {"eval_every": (Annotated[int, _COUNT], 1)})]


def read_sections(document: Document) -> Sections | None:
    """The sections, or None where something is wrong; every problem is noted in the document."""
    if not isinstance(document.content, dict):
        document.report((), f"expected a mapping of keys, {got(document.content)}; see the README for an example")
        return None
    # An empty section (`search:` with all its lines commented out) is one that was left out.
    content = {
        key: value
        for key, value in document.content.items()
        if value is not None or key not in ("search", "resources", "goal", "notes", "uncommitted_diff")
    }
    own_code = isinstance(content.get("workload"), dict)
    try:
        sections = (_OwnSections if own_code else Sections).model_validate(content, context=own_code)
    except ValidationError as error:
        items = error.errors(include_url=False)
        unknown = [tuple(item["loc"]) for item in items if item["type"] == "extra_forbidden"]
        for item in items:
            # A key that is missing because it is misspelt is reported once, where it is written.
            if item["type"] != "missing" or not _is_misspelt(tuple(item["loc"]), unknown):
                _note(document, item)
        return None
    if sections.objective.steps_to is not None and sections.objective.checkpoint == "final":
        document.report(
            ("objective", "checkpoint"),
            "expected best, got final: steps_to counts the steps to the first evaluation that reaches the target; "
            "leave one of the two out",
        )
    _check_engines(document, sections.resources)
    is_listed = "points" in (content.get("search") or {})
    search = replace(sections.search, sampler="points" if is_listed else sections.search.sampler, points=())
    return sections.model_copy(update={"search": search})


def _check_engines(document: Document, resources: ResourcesSection) -> None:
    each = resources.devices_per_trial
    for place, gpus in (
        (("ray", "num_gpus"), resources.ray.num_gpus),
        (("slurm", "gpus_per_node"), resources.slurm.gpus),
    ):
        if gpus and each > 1 and gpus < each:
            document.report(
                ("resources", *place), f"expected at least {each} (resources.devices_per_trial), got {gpus:g}"
            )
    if resources.backend == "ray" and isinstance(resources.devices, tuple):
        document.report(("resources", "devices"), "expected auto or cpu: with backend: ray, Ray assigns the GPUs")


def _is_misspelt(path: PathKey, unknown: list[PathKey]) -> bool:
    siblings = [str(other[-1]) for other in unknown if other[:-1] == path[:-1]]
    return any(nearest(sibling, [str(path[-1])]).startswith("; did") for sibling in siblings)


def _note(document: Document, item: Any) -> None:
    path: PathKey = tuple(item["loc"])
    kind, value = item["type"], item["input"]
    if kind == "extra_forbidden":
        document.report(path, _unknown_key(path), at_key=True)
    elif kind == "missing":
        document.report(path, f"the key is missing; {_PURPOSE.get(_without_places(path), 'write it')}", at_key=True)
    else:
        expected = item["msg"] if kind == "expected" else _expected(kind, item.get("ctx", {}))
        document.report(path, f"expected {expected}, {got(value)}{_hint(kind, value, item.get('ctx', {}))}")


def _hint(kind: str, value: Any, context: dict[str, Any]) -> str:
    """What to write instead, where that can be said."""
    if kind == "string_type" and isinstance(value, (bool, int, float)):
        return "; write it in quotes"
    if kind == "literal_error" and isinstance(value, str):
        meant = nearest(value, _choices(context))
        return meant if meant.startswith("; did") else ""
    return ""


def _choices(context: dict[str, Any]) -> list[str]:
    """The texts of a Literal, from pydantic's `'a', 'b' or 'c'`."""
    return re.findall(r"'([^']*)'", str(context["expected"]))


_PURPOSE: dict[PathKey, str] = {
    ("workload",): "write module:factory or ./file.py:factory, what to train",
    ("objective",): "write {metric: valid/error_rate, direction: minimize}",
    ("objective", "metric"): "write split/name, such as valid/error_rate",
    ("objective", "direction"): "write minimize or maximize: it is never guessed",
    ("training",): "write {max_train_steps: …, eval_every: …}",
    ("training", "max_train_steps"): "write the number of updates of a trial",
    ("training", "eval_every"): "write the number of updates between evaluations",
    ("training", "batch_norm_statistics", "batches"): "write the number of training batches, such as 50",
    ("search", "promote", "keep"): "write the number of trials of each setting to promote",
    ("search", "promote", "max_train_steps"): "write the number of updates of a trial of this stage",
    ("search", "stop_early", "rule"): "write median, the one rule that there is",
    ("hyperparameters",): "write at least optimizer and learning_rate",
}

_MEANT: dict[PathKey, str] = {
    ("resources", "slots"): "how many trials run at a time is the option --slots of `tunectl run`; on each GPU: "
    "trials_per_device",
    ("resources", "workers"): "how many trials run at a time is the option --slots of `tunectl run`; the workers of an "
    "engine: ray.workers, slurm.array_parallelism; the data-loader processes of a trial: data_workers",
    ("resources", "slurm", "workers"): "did you mean array_parallelism, the jobs at a time?",
    **{("resources", "slurm", key): "did you mean time_minutes?" for key in ("time", "time_limit", "timeout")},
    **{("resources", "slurm", key): "did you mean gpus_per_node?" for key in ("gpus", "gres", "num_gpus")},
    **{("resources", "slurm", key): "did you mean cpus_per_task?" for key in ("cpus", "cores", "num_cpus")},
    **{("resources", "slurm", key): "did you mean mem_gb?" for key in ("mem", "memory")},
}
"""What users of other tools write, and what it is called here."""

_RECORDS: dict[str, type[Any]] = {
    "objective": Objective,
    "training": TrainingSection,
    "search": SearchSection,
    "resources": ResourcesSection,
}
_NESTED: dict[PathKey, type[Any]] = {
    ("training", "recovery"): Recovery,
    ("training", "curvature"): CurvatureSettings,
    ("training", "batch_norm_statistics"): BatchNormStatistics,
    ("search", "promote"): Stage,
    ("search", "stop_early"): StopEarly,
    ("training", "predictions"): PredictionSettings,
    ("resources", "ray"): RaySection,
    ("resources", "slurm"): SlurmSection,
}
_KEYS = {section: tuple(item.name for item in dataclasses.fields(record)) for section, record in _RECORDS.items()}


def _without_places(path: PathKey) -> PathKey:
    """The keys of a path, without the places in lists."""
    return tuple(part for part in path if isinstance(part, str))


def _unknown_key(path: PathKey) -> str:
    key, section = str(path[-1]), str(path[0])
    if (meant := _MEANT.get(path)) is not None:
        return f"no such key; {meant}"
    nested = _NESTED.get(_without_places(path[:-1]))
    if nested is not None:
        return f"no such key{nearest(key, [item.name for item in dataclasses.fields(nested)])}"
    if key in FIELDS:
        return f"{key} is a hyperparameter; write it under hyperparameters"
    home = next((name for name, keys in _KEYS.items() if key in keys and name != section), None)
    if home:
        return f"this key belongs under {home}, not {f'under {section}' if len(path) > 1 else 'at the top level'}"
    return f"no such key{nearest(key, Sections.model_fields if len(path) == 1 else _KEYS[section])}"


def _expected(kind: str, context: dict[str, Any]) -> str:
    match kind:
        case "int_type" | "int_from_float":
            return "a whole number"
        case "float_type":
            return "a number"
        case "finite_number":
            return "a finite number"
        case "bool_type":
            return "true or false"
        case "string_type":
            return "text"
        case "model_type" | "dict_type":
            return "a mapping of keys"
        case "literal_error":
            return f"one of {', '.join(_choices(context))}"
        case "greater_than_equal":
            return f"at least {_bound(context['ge'])}"
        case "greater_than":
            return f"more than {_bound(context['gt'])}"
        case "less_than":
            return f"less than {_bound(context['lt'])}"
        case "less_than_equal":
            return f"at most {_bound(context['le'])}"
        case _:
            return f"something else ({kind})"


def _bound(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)
