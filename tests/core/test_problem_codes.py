"""The code of a problem, and what its message says should be written instead."""

from __future__ import annotations

import pytest

from tunectl.core.problem_codes import CODES, problem_code, suggestion


@pytest.mark.parametrize(
    ("message", "code", "instead"),
    [
        ("file not found; name a study's YAML file", "unreadable", "name a study's YAML file"),
        ("not YAML: mapping values are not allowed here", "unreadable", None),
        ("expected UTF-8 text, got other bytes", "unreadable", None),
        ("the key is missing; write minimize or maximize", "missing", "write minimize or maximize"),
        ("no such key; did you mean eval_every?", "unknown-name", "eval_every"),
        ("the study has no such hyperparameter; known here: a, b", "unknown-name", "known here: a, b"),
        ("expected one of relu, tanh, got 'rely'; did you mean relu?", "expected", "relu"),
        ("expected a whole number, got 3.5", "expected", None),
        ("momntum is not used: it is no keyword; did you mean momentum?", "unused", "momentum"),
        ("these conditions form a circle: a, b, a; remove one of them", "invalid", "remove one of them"),
    ],
)
def test_a_message_has_a_code_and_says_what_to_write(message: str, code: str, instead: str | None) -> None:
    assert (problem_code(message), suggestion(message)) == (code, instead)
    assert code in CODES
