"""A study of another tool, read: what it searched and what its trials left, in plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tunectl.core.objective import Direction

ForeignState = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True, slots=True)
class ForeignParameter:
    """A parameter: an interval with both ends, or `choices`, which may hold anything.

    `step` is the distance of its values from one another, None where any may be taken. `joined`: not all trials had the
    same interval, and this one holds all of them; `uneven`: they had steps that do not fit into one.
    """

    name: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    integer: bool = False
    step: float | None = None
    choices: tuple[Any, ...] | None = None
    joined: bool = False
    uneven: bool = False


@dataclass(frozen=True, slots=True)
class ForeignTrial:
    """A trial that has ended. `curve` are its intermediate values by step; `value` is its end result, None where it did
    not come to its end.

    `infeasible` says why the tool counts it as infeasible, "" where it does not.
    """

    number: int
    state: ForeignState
    params: Mapping[str, Any]
    value: float | None = None
    curve: Mapping[int, float] = field(default_factory=dict)
    seconds: float = 0.0
    infeasible: str = ""
    infeasible_step: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class ForeignStudy:
    """A study with one objective. `metric` is its name there, "" where it has none. `left_out` counts the trials that
    have not ended. `steps_from_zero`: step 0 is the start, as in our own exports; else it is the first evaluation.
    `steps_to` is the target of an export of ours that counts the steps to it, as its curves show; else None.
    """

    name: str
    source: str
    direction: Direction
    metric: str
    parameters: Sequence[ForeignParameter]
    trials: Sequence[ForeignTrial]
    left_out: int = 0
    steps_from_zero: bool = False
    steps_to: float | None = None
