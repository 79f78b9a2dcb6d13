"""Checks of the keywords of a factory."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tunectl.workloads.keyword_checks import check_choice, check_count, check_positive, check_share


@pytest.mark.parametrize(
    ("check", "right", "wrong", "expected"),
    [
        (partial(check_choice, choices=("a", "b")), ["a", "b"], ["c", None, 1, ["a"]], "one of a, b"),
        (partial(check_count, fewest=2), [2, 10**9], [1, 2.0, "2", True, None], "a whole number, at least 2"),
        (check_share, [0, 0.0, 0.999], [1, -0.1, math.nan, "0", False], "a number, at least 0 and below 1"),
        (check_positive, [1e-300, 7], [0, -1, math.inf, math.nan, "1", True], "a number above 0"),
    ],
)
def test_a_value_outside_its_range_is_refused_with_what_was_expected(
    check: Callable[[str, object], None], right: list[Any], wrong: list[Any], expected: str
) -> None:
    for value in right:
        check("x", value)
    for value in wrong:
        with pytest.raises(ValueError) as caught:
            check("x", value)
        assert str(caught.value) == f"x: expected {expected}, got {value!r}"
