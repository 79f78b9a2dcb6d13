"""Placeholders in the texts of a command: `{learning_rate}`, `{trial.dir}`; `{{` and `}}` are braces."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from tunectl.core.own_code_request import RESUME, Argument, Optional
from tunectl.core.records import Scalar
from tunectl.space.hyperparameters import holds

DIR, FILE = "trial.dir", "trial.hyperparameters"
OWN = (DIR, "trial.id", "trial.seed", FILE, RESUME, "max_train_steps")
"""The names that a placeholder may have besides hyperparameters."""

_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class AbsentError(LookupError):
    """A placeholder has no value in this trial; its name is the text of the error."""


def names_in(text: str) -> tuple[str, ...]:
    """The names in a text's placeholders, in their order; raises ValueError for a single brace."""
    found = []
    for part in _PART.finditer(text):
        if part[0] in ("{", "}"):
            raise ValueError(
                f"{part[0]!r} at character {part.start() + 1} is not part of a placeholder; write {part[0] * 2} for "
                "the brace itself"
            )
        if part[1] is not None:
            found.append(part[1].strip())
    return tuple(found)


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with values in its placeholders; raises AbsentError where one has none."""

    def value(part: re.Match[str]) -> str:
        if part[1] is None:
            return part[0][0]
        name = part[1].strip()
        if name not in values:
            raise AbsentError(name)
        return values[name]

    return _PART.sub(value, text)


def command_line(
    arguments: Iterable[Argument], values: Mapping[str, str], hyperparameters: Mapping[str, Scalar]
) -> list[str]:
    """The arguments of one trial: an optional one is left out where one of its placeholders has no value, or its
    condition does not hold.

    Raises AbsentError where a placeholder of another argument has no value.
    """
    line: list[str] = []
    known = {**hyperparameters, RESUME: RESUME in values}
    for argument in arguments:
        if isinstance(argument, str):
            line.append(filled(argument, values))
        elif holds(argument.when, known) and all(name in values for name in placeholders([argument])):
            line += [filled(text, values) for text in argument.arguments]
    return line


def placeholders(arguments: Iterable[Argument]) -> list[str]:
    """The names in the placeholders of all arguments; raises ValueError as `names_in` does."""
    texts = [text for item in arguments for text in (item.arguments if isinstance(item, Optional) else (item,))]
    return [name for text in texts for name in names_in(text)]
