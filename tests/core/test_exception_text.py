"""The message of an exception, in one line, also if its text quotes the traceback of another process."""

from __future__ import annotations

import asyncio
import traceback

import pytest

from tunectl.core.exception_text import exception_line, first_line, first_of_group, quoted_traceback, text_of

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


def test_an_exception_whose_message_fails_is_named() -> None:
    class SpitefulError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert exception_line(SpitefulError()) == "SpitefulError: (its message cannot be shown)"
    assert text_of(SpitefulError()) == "(its message cannot be shown)"


def test_the_first_exception_of_a_group_is_not_a_group() -> None:
    first = ValueError("a")
    assert first_of_group(ExceptionGroup("x", [ExceptionGroup("y", [first]), KeyError("b")])) is first
    assert first_of_group(first) is None


CAUGHT = "Caught ValueError in DataLoader worker process 0.\nOriginal "


def raised(source: str, name: str = "/home/ada/data.py") -> str:
    """What Python prints of the exception that a file raises."""
    try:
        exec(compile(source, name, "exec"), {})
    except BaseException as error:
        return "".join(traceback.format_exception(error))
    raise AssertionError("nothing was raised")


SEVERAL_LINES = "def f():\n    raise ValueError('bad label\\nat 3')\nf()\n"
CHAINED = "try:\n    {}['x']\nexcept KeyError as error:\n    raise ValueError('bad label') from error\n"
GROUP = (
    "def f(error):\n    try:\n        raise error\n    except Exception as found:\n        return found\n"
    "raise ExceptionGroup('two', [f(ValueError('bad label')), f(KeyError('y'))])\n"
)


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        (CAUGHT + raised(SEVERAL_LINES), "ValueError: bad label", 2),
        (CAUGHT + raised(CHAINED), "ValueError: bad label", 4),
        (CAUGHT + raised(GROUP), "ExceptionGroup: two (2 sub-exceptions): ValueError: bad label", 3),
        (f'\n"""\n{raised(SEVERAL_LINES)}"""', "ValueError: bad label", 2),
        (
            f"\n\n-- Process 1 terminated with the following error:\n{raised(SEVERAL_LINES)}\n",
            "ValueError: bad label",
            2,
        ),
        (CAUGHT + raised("raise AssertionError\n"), "AssertionError", 1),
        (CAUGHT + raised("raise SystemExit(3)\n"), "SystemExit: 3", 1),
    ],
)
def test_its_first_line_and_its_innermost_frame_are_found(text: str, message: str, line: int) -> None:
    found = quoted_traceback(text)
    assert found is not None
    assert (found.message, found.frames[-1]) == (message, ("/home/ada/data.py", line))


def test_if_one_process_passes_on_the_exception_of_another_it_is_the_innermost() -> None:
    inner = CAUGHT + raised(SEVERAL_LINES)
    outer = raised(f"def g():\n    raise ValueError({inner!r})\ng()\n", "/site-packages/torch/_utils.py")
    found = quoted_traceback("Caught ValueError in replica 1 on device 1.\nOriginal " + outer)
    assert found is not None
    assert (found.message, found.frames[-1]) == ("ValueError: bad label", ("/home/ada/data.py", 2))
    assert ("/site-packages/torch/_utils.py", 2) in found.frames, "those of the outer process are there, too"


def test_a_text_without_a_traceback_has_none_and_a_cut_one_has_no_message() -> None:
    assert quoted_traceback("the Traceback (most recent call last) is lost") is None
    assert quoted_traceback("") is None
    torn = quoted_traceback('Traceback (most recent call last):\n  File "a.py", line 3, in f\n')
    assert torn is not None
    assert (torn.message, torn.frames) == ("", (("a.py", 3),))
    empty = quoted_traceback("  + Exception Group Traceback (most recent call last):")
    assert empty is not None
    assert (empty.message, empty.frames) == ("", ())
