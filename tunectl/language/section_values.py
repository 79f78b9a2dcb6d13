"""What values of a study's sections must be beyond their type: validators for the records of `sections`.

Each gives the value as it is kept, or raises an error that says in words what was expected.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError, ValidationInfo
from pydantic_core import InitErrorDetails, PydanticCustomError, PydanticKnownError

from tunectl.core.example_predictions import MOST_EXAMPLES
from tunectl.core.measurement_kinds import MEASUREMENT_KINDS
from tunectl.core.wording import shown

TEST_SPLIT = "test"

_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_LONG_OPTION = re.compile(r"[a-z][a-z0-9]+([-_][a-z0-9]+)*")
_SLURM_KEYS = {
    "partition": "partition",
    "time": "time_minutes",
    "gpus-per-node": "gpus_per_node",
    "cpus-per-task": "cpus_per_task",
    "mem": "mem_gb",
    "account": "account",
}
_SET_OPTIONS = frozenset(
    {"array", "clusters", "cluster", "error", "job-name", "nodes", "ntasks", "ntasks-per-node", "open-mode", "output"}
    | {"parsable", "quiet", "requeue", "no-requeue", "signal", "test-only", "wait", "wrap"}
    | {"help", "usage", "version"}
)
_GPU_OPTIONS = frozenset({"gpus", "gpus-per-socket", "gpus-per-task"})
_RESOURCE_OPTIONS = frozenset({"gres", "tres-per-job", "tres-per-node", "tres-per-socket", "tres-per-task"})
_OF_GPUS = re.compile(r"(?:gres[/:])?gpu(?:$|[:=])")  # an item of the value of one of _RESOURCE_OPTIONS
_TYPED_GPUS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*:(?P<count>[1-9]\d{0,8})")
_MOST_GPUS = 1024
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


def one_line(value: str) -> str:
    """A text of one line, which is not empty."""
    if not value.strip() or len(value.splitlines()) > 1:
        raise PydanticCustomError("expected", "a name on one line")
    return value


def gpus_of_job(value: Any) -> Any:
    """A number of GPUs, or their type and number, such as a100:2."""
    expected = "a whole number, or a type of GPUs and their number, such as a100:2"
    typed = _TYPED_GPUS.fullmatch(value) if isinstance(value, str) else None
    if typed is None and (isinstance(value, bool) or not isinstance(value, int)):
        raise PydanticCustomError("expected", expected)
    count = value if typed is None else int(typed["count"])
    if not 1 <= count <= _MOST_GPUS:
        raise PydanticCustomError("expected", f"at least 1 and at most {_MOST_GPUS}")
    return value


def shell_lines(value: Any) -> Any:
    """Lines of shell, as a tuple."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise PydanticCustomError("expected", "a list of shell commands, such as [module load cuda]")
    return tuple(value)


def sbatch_options(value: Any) -> Any:
    """Options of sbatch that neither tunectl sets nor another key of the section."""
    return checked_options(value, _expected_option)


def checked_options(value: Any, expected_option: Callable[[Any, Any], str]) -> Any:
    """A mapping of another program's options, each wrong one reported at its place.

    `expected_option` says, for a name and a value, what would be right in their place; "" where they are right.
    """
    if not isinstance(value, dict):
        return value
    found = [(name, item, expected_option(name, item)) for name, item in value.items()]
    if wrong := [(name, item, expected) for name, item, expected in found if expected]:
        lines = [
            InitErrorDetails(type=PydanticCustomError("expected", expected), loc=(str(name),), input=item)
            for name, item, expected in wrong
        ]
        raise ValidationError.from_exception_data("additional", lines)
    return value


def _expected_option(name: Any, value: Any) -> str:
    """What would be right in place of this option of sbatch; "" where it is right."""
    option = str(name).replace("_", "-")
    if not isinstance(name, str) or not _LONG_OPTION.fullmatch(name):
        return "a long option of sbatch as its key, such as qos"
    if option in _SLURM_KEYS:
        return f"another option (write this one as {_SLURM_KEYS[option]}, beside additional)"
    if option in _GPU_OPTIONS or (option in _RESOURCE_OPTIONS and _asks_for_gpus(str(value))):
        return "another option (write the GPUs of a job as gpus_per_node, such as 2 or a100:2, beside additional)"
    if option in _SET_OPTIONS:
        return "another option (tunectl sets this one)"
    if value is False:
        return "true (an option that is not wanted is left out)"
    is_finite = not isinstance(value, float) or math.isfinite(value)
    if not isinstance(value, (str, int, float)) or len(str(value).splitlines()) != 1 or not is_finite:
        return "text on one line, a number or true"
    return ""


def _asks_for_gpus(value: str) -> bool:
    return any(_OF_GPUS.match(item.strip()) for item in value.lower().split(","))


def empty_mapping(value: Any) -> Any:
    """A section without keys, where nothing is written after its name."""
    return {} if value is None else value


def ascending(value: tuple[int, ...]) -> tuple[int, ...]:
    """The numbers in their order."""
    return tuple(sorted(value))


def _is_device(item: Any) -> bool:
    if isinstance(item, bool):
        return False
    return (isinstance(item, int) and item >= 0) or (isinstance(item, str) and item.startswith(("GPU-", "MIG-")))
