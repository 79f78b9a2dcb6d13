"""What an exception says, in one line."""

from __future__ import annotations

import asyncio

import pytest

from tunectl.core.exception_text import exception_line, first_line, first_of_group, text_of

QUOTED = (
    "Caught KeyError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
    '  File "a.py", line 3\nKeyError: 7\n'
)
TWO = ExceptionGroup("two", [ValueError("a"), KeyError("b")])
NESTED = BaseExceptionGroup("one", [BaseExceptionGroup("in", [SystemExit(2)])])


@pytest.mark.parametrize(
    ("error", "line", "first"),
    [
        (ValueError("bad  label\nat 3"), "ValueError: bad label", "bad  label"),
        (ValueError("\n \n"), "ValueError", "ValueError"),
        (AssertionError(), "AssertionError", "AssertionError"),
        (KeyboardInterrupt(), "KeyboardInterrupt", "KeyboardInterrupt"),
        (SystemExit(3), "SystemExit: 3", "3"),
        (asyncio.CancelledError("late"), "CancelledError: late", "late"),
        (RuntimeError(QUOTED), "KeyError: 7", "KeyError: 7"),
        (TWO, "ExceptionGroup: two (2 sub-exceptions): ValueError: a", "two (2 sub-exceptions)"),
        (NESTED, "BaseExceptionGroup: one (1 sub-exception): SystemExit: 2", "one (1 sub-exception)"),
    ],
)
def test_it_is_its_type_and_its_first_line(error: BaseException, line: str, first: str) -> None:
    assert (exception_line(error), first_line(error)) == (line, first)


def test_one_that_cannot_be_shown_is_named() -> None:
    class SpitefulError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert exception_line(SpitefulError()) == "SpitefulError: (its message cannot be shown)"
    assert text_of(SpitefulError()) == "(its message cannot be shown)"


def test_the_first_of_a_group_is_no_group() -> None:
    first = ValueError("a")
    assert first_of_group(ExceptionGroup("x", [ExceptionGroup("y", [first]), KeyError("b")])) is first
    assert first_of_group(first) is None
