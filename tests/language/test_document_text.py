"""The text of a study file that is written from a dict."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunectl.core.errors import UsageError
from tunectl.language.document import parse_document
from tunectl.language.document_text import document_text

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=12
)


def kinds(value: Any) -> Any:
    """The types of nested values: 1, 1.0 and True are equal, and three values of a study."""
    if isinstance(value, dict):
        return {key: kinds(item) for key, item in value.items()}
    return [kinds(item) for item in value] if isinstance(value, list) else type(value)


@given(st.dictionaries(st.text(min_size=1), VALUES, max_size=4))
def test_it_reads_back_as_the_same_values_or_is_refused(content: dict[str, Any]) -> None:
    try:
        text = document_text(content)
    except UsageError:
        return
    found = parse_document(text, "a.yaml").content
    assert (found, kinds(found)) == (content, kinds(content))


def test_a_study_reads_as_people_write_it() -> None:
    study = {
        "study": "widths",
        "goal": "Which width: 8 or 16?",
        "objective": {"metric": "valid/loss", "direction": "minimize"},
        "hyperparameters": {
            "learning_rate": [
                {"role": "nuisance", "when": {"optimizer": "sgd"}, "range": [1e-05, 3.0], "scale": "log"},
                {"value": 1e22, "when": {"optimizer": "no"}},
            ],
            "width": {"role": "scientific", "values": [8, 16]},
            "off": True,
        },
    }
    assert document_text(study).splitlines() == [
        "study: widths",
        'goal: "Which width: 8 or 16?"',
        "objective: {metric: valid/loss, direction: minimize}",
        "hyperparameters:",
        "  learning_rate: [{role: nuisance, when: {optimizer: sgd}, range: [1e-05, 3.0], scale: log}, "
        "{value: 1e+22, when: {optimizer: no}}]",
        "  width: {role: scientific, values: [8, 16]}",
        "  off: true",
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf, [1, -math.inf]])
def test_a_number_that_is_not_finite_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="cannot hold"):
        document_text({"a": value})
