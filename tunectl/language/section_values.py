"""What values of a study's sections must be beyond their type: validators for the records of `sections`.

Each gives the value as it is kept, or raises an error that says in words what was expected.
"""

from __future__ import annotations

import math
import re
from typing import Any

from pydantic import ValidationInfo
from pydantic_core import PydanticCustomError, PydanticKnownError

from tunectl.core.example_predictions import MOST_EXAMPLES
from tunectl.core.measurement_kinds import MEASUREMENT_KINDS
from tunectl.core.wording import shown

TEST_SPLIT = "test"

_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_RAY_ADDRESS = re.compile(r"(ray://)?([^\s:/\[\]]+|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}")
_RAY_KEYS = frozenset({"num_cpus", "num_gpus"})
_SET_BY_US = frozenset(
    {"name", "namespace", "lifetime", "max_restarts", "max_task_retries", "max_concurrency", "get_if_exists"}
)
_METRIC = re.compile(r"[^/\s]+/\S+")


def slug(value: Any) -> Any:
    """A name that a folder can have."""
    if isinstance(value, str) and not _SLUG.fullmatch(value):
        raise PydanticCustomError(
            "expected",
            "a name that a folder can have (letters, digits, '.', '_' and '-', a letter or digit first, at most 100 "
            "characters)",
        )
    return value


def workload(value: Any) -> Any:
    """Text, or a mapping."""
    # The content of a mapping is read by workload_section.
    if not isinstance(value, (str, dict)):
        raise PydanticKnownError("string_type")
    return value


def metric(value: Any, info: ValidationInfo) -> Any:
    """A metric by which trials can be judged."""
    # A program's metrics have any names.
    own_code = bool(info.context)
    if isinstance(value, str) and not own_code and not _METRIC.fullmatch(value):
        raise PydanticCustomError("expected", "a metric as split/name, such as valid/error_rate")
    if isinstance(value, str) and value.startswith("test/"):
        raise PydanticCustomError(
            "expected", "a metric of another split (the test split is kept until the study is over), such as valid/…"
        )
    kind = MEASUREMENT_KINDS.get(value.partition("/")[0]) if isinstance(value, str) and not own_code else None
    if kind is not None and kind.asked_by:
        raise PydanticCustomError(
            "expected",
            f"a metric of a split, such as valid/…, by which trials are judged ({kind.asked_by} measures "
            f"{kind.column('…')}, which no evaluation has)",
        )
    return value


def devices(value: Any) -> Any:
    """auto, cpu, or devices."""
    if isinstance(value, str) and value in ("auto", "cpu"):
        return value
    if isinstance(value, list) and value and all(_is_device(item) for item in value):
        if len({str(item) for item in value}) < len(value):
            raise PydanticCustomError("expected", "each device once")
        return tuple(value)
    raise PydanticCustomError("expected", "auto, cpu, or a list of GPU indices and UUIDs such as [0, 1]")


def listed_once(value: Any) -> Any:
    """A list of different values, as a tuple."""
    if not isinstance(value, list):
        raise PydanticCustomError("expected", "a list")
    if not value:
        raise PydanticCustomError("expected", "at least one")
    for item in value:
        if value.count(item) > 1:
            raise PydanticCustomError("expected", f"each one once ({shown(item)} is there {value.count(item)} times)")
    return tuple(value)


def listed_names(value: Any) -> Any:
    """A list of different names, which may be empty, as a tuple."""
    return () if value == [] else listed_once(value)


def stages(value: Any) -> Any:
    """A list of stages, as a tuple."""
    if not isinstance(value, list):
        raise PydanticCustomError("expected", "a list of stages, such as [{keep: 4, max_train_steps: 20000}]")
    return tuple(value)


def kept_split(value: Any) -> Any:
    """A split of which predictions can be kept."""
    if value == TEST_SPLIT:
        raise PydanticCustomError("expected", "another split (the test split is kept until the study is over)")
    return value


def examples(value: Any) -> Any:
    """A number of examples, or the list of their places in the split."""
    if not isinstance(value, list):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_EXAMPLES:
            raise PydanticCustomError("expected", f"a whole number from 1 to {MOST_EXAMPLES}, or a list of examples")
        return value
    for item in value:
        if isinstance(item, bool) or not isinstance(item, int) or not 0 <= item < 2**53:
            raise PydanticCustomError(
                "expected", f"whole numbers from 0 on, the examples' places in the split ({shown(item)} is none)"
            )
    if len(value) > MOST_EXAMPLES:
        raise PydanticCustomError("expected", f"at most {MOST_EXAMPLES} examples (they are {len(value):,})")
    return listed_once(value)


def sampled_splits(value: Any) -> Any:
    """Splits of which samples can be evaluated."""
    if not isinstance(value, dict):
        return value
    if TEST_SPLIT in value:
        raise PydanticCustomError("expected", "no test split (it is not evaluated until the study is over)")
    if "train" in value:
        raise PydanticCustomError("expected", "other splits than train (of which train_examples are evaluated)")
    return value


def ray_address(value: str) -> str:
    """Where a Ray cluster is: host:port, ray://host:port, auto or local."""
    if value not in ("auto", "local") and not _RAY_ADDRESS.fullmatch(value):
        raise PydanticCustomError(
            "expected", "host:port, ray://host:port, auto (a cluster that runs on this host) or local (one of its own)"
        )
    return value


def gpus_of_ray(value: float) -> float:
    """GPUs of one worker: a whole number, or a part of one GPU."""
    if value > 1 and value != int(value):
        raise PydanticCustomError("expected", "a whole number, or a part of one GPU such as 0.5")
    return value


def ray_options(value: Any) -> Any:
    """Options of a Ray actor that neither tunectl sets nor another key of the section."""
    if not isinstance(value, dict):
        return value
    for name, item in value.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise PydanticCustomError("expected", f"options of a Ray actor, such as resources ({shown(name)} is none)")
        if name in _RAY_KEYS:
            raise PydanticCustomError("expected", f"other options (write {name} beside additional)")
        if name in _SET_BY_US:
            raise PydanticCustomError("expected", f"other options ({name} is set by tunectl)")
        if not _is_json(item):
            raise PydanticCustomError("expected", f"text, numbers, lists and mappings for each option (see {name})")
    return value


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_json(item) for name, item in value.items())
    if isinstance(value, list):
        return all(_is_json(item) for item in value)
    return value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value))


def ascending(value: tuple[int, ...]) -> tuple[int, ...]:
    """The numbers in their order."""
    return tuple(sorted(value))


def _is_device(item: Any) -> bool:
    if isinstance(item, bool):
        return False
    return (isinstance(item, int) and item >= 0) or (isinstance(item, str) and item.startswith(("GPU-", "MIG-")))
