"""Parts of an entry of `hyperparameters:` that several kinds have: values, conditions, the bounds of a field."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tunectl.core.errors import PathKey
from tunectl.core.records import Scalar
from tunectl.core.wording import got, nearest
from tunectl.language.configuration import FIELDS, FieldRule
from tunectl.language.document import Document
from tunectl.language.hyperparameter_names import is_own_code
from tunectl.space.hyperparameters import Condition

LARGEST_INT = 2**53
_MOST_VALUES = 1000  # every value in a condition is a combination of its own


def read_scalar(document: Document, content: Any, path: PathKey) -> Scalar | None:
    """A value; None where it is none, and the problem is noted in the document."""
    if content is None:
        document.report(
            path, "expected a value, got nothing; write a value, or leave the hyperparameter out where it has none"
        )
        return None
    if isinstance(content, (dict, list)):
        document.report(path, f"expected a number, text, true or false, {got(content)}")
        return None
    if isinstance(content, float) and not math.isfinite(content):
        document.report(path, f"expected a finite number, got {content}")
        return None
    if isinstance(content, int) and not isinstance(content, bool) and abs(content) > LARGEST_INT:
        document.report(path, f"expected a whole number of at most 2^53 in size, {got(content)}")
        return None
    if isinstance(content, str) and any(not character.isprintable() for character in content):
        document.report(path, f"expected one line of printable text, {got(content)}")
        return None
    return content  # type: ignore[no-any-return]


def read_when(document: Document, entry: Mapping[str, Any], path: PathKey) -> Condition:
    """The condition of an entry, {} where it has none; problems are noted in the document."""
    content, where = entry.get("when", {}), (*path, "when")
    if not isinstance(content, dict) or ("when" in entry and not content):
        document.report(where, f"expected {{name: value}} or {{name: [values]}}, {got(content)}")
        return {}
    condition: dict[str, tuple[Scalar, ...]] = {}
    declared = document.content["hyperparameters"]
    for name, values in content.items():
        if name not in declared:
            message = f"expected the name of a hyperparameter, got {name}{nearest(name, declared)}"
            document.report((*where, name), message, at_key=True)
        listed = values if isinstance(values, list) else [values]
        if not listed:
            document.report((*where, name), "expected at least one value, got an empty list")
        if len(listed) > _MOST_VALUES:
            message = f"expected at most {_MOST_VALUES:,} values, got {len(listed):,}"
            document.report((*where, name), message)
            continue
        read = [
            read_scalar(document, item, (*where, name, index) if isinstance(values, list) else (*where, name))
            for index, item in enumerate(listed)
        ]
        condition[name] = tuple(value for value in read if value is not None)
    return condition


def field_rule(document: Document, name: str) -> FieldRule | None:
    """The values that a field of the training configuration may have; None where the user's own code decides."""
    return None if is_own_code(document) else FIELDS.get(name)
