"""Tests tests/each_case.py: a table in one test fails as its cases would, one by one."""

from __future__ import annotations

import inspect

import pytest
from each_case import each_case

SEEN: list[object] = []


@each_case(("number", "is_even"), [(2, True), (4, True), (7, False)])
def test_a_table_of_which_every_case_is_right_passes(number: int, is_even: bool) -> None:
    assert (number % 2 == 0) == is_even


def test_all_cases_are_tried_and_those_that_fail_are_named_with_their_errors() -> None:
    @each_case("number", [1, 2, 3, 4])
    def odd(number: int) -> None:
        SEEN.append(number)
        assert number % 2 == 1, f"{number} is even"

    with pytest.raises(BaseExceptionGroup, match="2 of 4 cases failed: number=2; number=4") as caught:
        odd()
    assert SEEN == [1, 2, 3, 4]
    first, second = caught.value.exceptions
    assert "2 is even" in str(first)
    assert second.__notes__ == ["in the case number=4"]


def test_an_error_that_was_expected_and_did_not_come_is_a_failure_too() -> None:
    @each_case("text", ["1", "x"])
    def refused(text: str) -> None:
        with pytest.raises(ValueError):
            int(text)

    with pytest.raises(BaseExceptionGroup, match="1 of 2 cases failed: text='1'"):
        refused()


def test_two_tables_above_each_other_are_all_their_pairs() -> None:
    @each_case("left", [1, 2])
    @each_case("right", [1, 2])
    def equal(left: int, right: int) -> None:
        assert left == right

    assert not inspect.signature(equal).parameters
    with pytest.raises(BaseExceptionGroup, match="2 of 2 cases failed: left=1; left=2") as caught:
        equal()
    assert ["right=2" in str(error) for error in caught.value.exceptions] == [True, False]


def test_a_table_without_cases_or_of_another_name_is_refused() -> None:
    with pytest.raises(AssertionError, match="proves nothing"):
        each_case("number", [])
    with pytest.raises(AssertionError, match=r"does not take \['other'\]"):
        each_case("other", [1])(lambda number: None)
