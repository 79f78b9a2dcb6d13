"""The exception of another process, got in the text that quotes it."""

from __future__ import annotations

import traceback

import pytest

from tunectl.core.quoted_traceback import quoted_traceback

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


def test_where_one_process_hands_on_what_another_raised_it_is_the_innermost() -> None:
    inner = CAUGHT + raised(SEVERAL_LINES)
    outer = raised(f"def g():\n    raise ValueError({inner!r})\ng()\n", "/site-packages/torch/_utils.py")
    found = quoted_traceback("Caught ValueError in replica 1 on device 1.\nOriginal " + outer)
    assert found is not None
    assert (found.message, found.frames[-1]) == ("ValueError: bad label", ("/home/ada/data.py", 2))
    assert ("/site-packages/torch/_utils.py", 2) in found.frames, "those of the outer process are there, too"


def test_what_quotes_no_traceback_has_none_and_a_torn_one_has_no_message() -> None:
    assert quoted_traceback("the Traceback (most recent call last) is lost") is None
    assert quoted_traceback("") is None
    torn = quoted_traceback('Traceback (most recent call last):\n  File "a.py", line 3, in f\n')
    assert torn is not None
    assert (torn.message, torn.frames) == ("", (("a.py", 3),))
    empty = quoted_traceback("  + Exception Group Traceback (most recent call last):")
    assert empty is not None
    assert (empty.message, empty.frames) == ("", ())
