"""Whether a study that another tool's storage gave is one: its storage may be damaged, or made to do harm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tunectl.core.errors import FolderError
from tunectl.core.jsontext import number, one_line
from tunectl.core.typed_fields import is_count, is_finite, shown
from tunectl.exchange.foreign_study import ForeignParameter, ForeignStudy, ForeignTrial

_LARGEST = 2**63 - 1


def checked(study: ForeignStudy) -> ForeignStudy:
    """The study; raises FolderError that names the first thing in it that cannot be."""
    found = next(_problems(study), None)
    if found is not None:
        raise FolderError(f"{study.source}: is damaged: {one_line(found)}")
    return study


def _problems(study: ForeignStudy) -> Iterator[str]:
    if not (_is_text(study.name) and _is_text(study.metric)):
        yield "the name of the study, or of its metric, is not text"
    parameters = {item.name: item for item in study.parameters}
    for item in study.parameters:
        yield from _of_parameter(item)
    numbers: set[int] = set()
    for trial in study.trials:
        if not is_count(trial.number) or trial.number in numbers:
            yield f"a trial has the number {_in_words(trial.number)}, which is not a new one"
            return
        numbers.add(trial.number)
        for problem in (*_of_trial(trial), *_of_values(trial, parameters)):
            yield f"trial {trial.number}: {problem}"


def _of_parameter(item: ForeignParameter) -> Iterator[str]:
    if not _is_text(item.name):
        yield f"a parameter is called {_in_words(item.name)}"
    elif item.choices is not None:
        if not item.choices:
            yield f"the parameter {item.name} has no choices"
    elif not all(is_finite(end) and abs(end) <= (_LARGEST if item.integer else end) for end in (item.low, item.high)):
        yield f"the parameter {item.name} goes from {_in_words(item.low)} to {_in_words(item.high)}"
    elif item.low > item.high or (item.log and item.low <= 0):
        yield f"the parameter {item.name} goes from {item.low} to {item.high}{' by powers' if item.log else ''}"
    elif item.step is not None and not (is_finite(item.step) and item.step > 0):
        yield f"the parameter {item.name} has the step {_in_words(item.step)}"


def _of_trial(trial: ForeignTrial) -> Iterator[str]:
    if trial.value is not None and not _is_number(trial.value):
        yield f"its value is {_in_words(trial.value)}"
    for step, value in trial.curve.items():
        if not is_count(step) or not _is_number(value):
            yield f"its value at step {_in_words(step)} is {_in_words(value)}"
    if trial.infeasible_step is not None and not is_count(trial.infeasible_step):
        yield f"its infeasible step is {_in_words(trial.infeasible_step)}"
    if not is_finite(trial.seconds) or trial.seconds < 0:
        yield f"it took {_in_words(trial.seconds)} seconds"


def _of_values(trial: ForeignTrial, parameters: dict[str, ForeignParameter]) -> Iterator[str]:
    for name, value in trial.params.items():
        parameter = parameters.get(name)
        if parameter is None:
            yield f"it has a value for {_in_words(name)}, which is not a parameter"
        elif parameter.choices is None and not is_finite(value):
            yield f"{name} is {_in_words(value)}"
        elif parameter.choices is not None and not any(_is(value, other) for other in parameter.choices):
            yield f"{name} is {_in_words(value)}, which is not one of its choices"


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is(one: Any, other: Any) -> bool:
    is_nan = one != one and other != other
    return one is other or is_nan or (one == other and isinstance(one, bool) == isinstance(other, bool))


def _is_number(value: Any) -> bool:
    return not isinstance(value, str) and number(value) is not None


def _in_words(value: Any) -> str:
    try:
        return shown(value)
    except (TypeError, ValueError, RecursionError):
        return f"a {type(value).__name__}"
