"""What values of `resources.ray` must be beyond their type: validators as those of section_values."""

from __future__ import annotations

import math
import re
from typing import Any

from pydantic_core import PydanticCustomError

from tunectl.language.section_values import checked_options

_ADDRESS = re.compile(r"([^\s:/\[\]]+|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}")
_KEYS = frozenset({"num_cpus", "num_gpus"})
_SET_BY_US = frozenset(
    {"name", "namespace", "lifetime", "max_restarts", "max_task_retries", "max_concurrency", "get_if_exists"}
)


def address(value: str) -> str:
    """Where a Ray cluster is: host:port, auto or local."""
    if value not in ("auto", "local") and not _ADDRESS.fullmatch(value):
        raise PydanticCustomError(
            "expected", "host:port, auto (a cluster that runs on this host) or local (one of its own)"
        )
    return value


def gpus(value: float) -> float:
    """GPUs of one worker: a whole number, or a part of one GPU."""
    if value > 1 and value != int(value):
        raise PydanticCustomError("expected", "a whole number, or a part of one GPU such as 0.5")
    return value


def actor_options(value: Any) -> Any:
    """Options of a Ray actor that neither tunectl sets nor another key of the section."""
    return checked_options(value, _expected_option)


def _expected_option(name: Any, value: Any) -> str:
    if not isinstance(name, str) or not name.isidentifier():
        return "an option of Ray's actors as its key, such as resources"
    if name in _KEYS:
        return "another option (write this one beside additional)"
    if name in _SET_BY_US:
        return "another option (tunectl sets this one)"
    return "" if _is_plain(value) else "text, numbers, lists and mappings"


def _is_plain(value: Any) -> bool:
    """Whether a value can be sent to another process as JSON."""
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_plain(item) for name, item in value.items())
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value))
