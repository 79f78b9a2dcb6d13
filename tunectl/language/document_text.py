"""The text of a study file from a dict, so that it reads back as the same values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tunectl.core.errors import StudyError, UsageError
from tunectl.language.document import parse_document
from tunectl.language.study_edit import in_flow

_WIDTH = 100


def document_text(content: Mapping[str, Any]) -> str:
    """The YAML of mappings with text keys, lists and scalars: one line for each key, also in a long or nested mapping.

    Raises UsageError where the text would be read as something else (NaN, which a study cannot hold).
    """
    text = "".join(f"{line}\n" for line in _lines(content, ""))
    try:
        document = parse_document(text, "the dict")
    except StudyError as error:
        raise UsageError(f"the study has a value that a study file cannot hold: {error.problems[0].message}") from error
    if document.content != content or document.problems:
        raise UsageError("the study has a value that a study file cannot hold")
    return text


def _lines(content: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in content.items():
        whole = f"{indent}{in_flow(key)}: {in_flow(value)}"
        if isinstance(value, Mapping) and value and (len(whole) > _WIDTH or _is_nested(value)):
            yield f"{indent}{in_flow(key)}:"
            yield from _lines(value, f"{indent}  ")
        else:
            yield whole


def _is_nested(value: Mapping[str, Any]) -> bool:
    return any(isinstance(item, Mapping) for item in value.values())
