"""JSON and Python objects in printed text. In a trial they are tested by programs/test_bars_beside_objects.py."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tunectl.core.printed_objects import Bare, object_at, printed_object


@pytest.mark.parametrize("value", [{}, {"a": 1}, {"a": {"b": [1, 2.5, None, True], "c": "x}"}}, {"ü": "\n"}])
def test_objects_are_read_as_json_and_as_python_shows_them(value: dict[str, Any]) -> None:
    assert printed_object(f" {json.dumps(value)} ") == value
    assert printed_object(repr(value)) == value


def test_values_that_are_not_literals_keep_their_text() -> None:
    text = "{'loss': np.float64(0.8), 'meter': <Meter object at 0x7f>, 'nan': nan, 'rate': tensor(0.1, device='cpu')}"
    found = printed_object(text)
    assert found == {
        "loss": "np.float64(0.8)",
        "meter": "<Meter object at 0x7f>",
        "nan": "nan",
        "rate": "tensor(0.1, device='cpu')",
    }
    assert all(isinstance(value, Bare) for value in found.values())


def test_the_text_after_an_object_is_found_and_of_an_incomplete_one_only_whole_items_count() -> None:
    text = 'log {"a": 1} and more'
    assert object_at(text, 4) == ({"a": 1}, text.index(" and"))
    assert object_at("{'a': 1, 'b': np.float64(2), 'c': 3", 0) == ({"a": 1, "b": "np.float64(2)"}, None)


def test_a_decimal_comma_does_not_begin_an_item() -> None:
    assert printed_object('{"loss": 0,333, "step": 1}') == {"loss": "0,333", "step": 1}


@pytest.mark.parametrize("text", ["", "[1]", "3", '{"a": 1} {"b": 2}', "{'a': 1", "loss: 3"])
def test_other_texts_are_not_objects(text: str) -> None:
    assert printed_object(text) is None


def test_deeply_nested_objects_do_not_overflow_the_stack() -> None:
    text = "{'a': " * 5_000 + "nan" + "}" * 5_000
    found, end = object_at(text, 0)
    assert (list(found), end) == (["a"], len(text))
