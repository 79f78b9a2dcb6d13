"""A long table of tiny cases as one test: under xdist each test takes some milliseconds of its own."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import pytest

_MOST_CHARACTERS = 80

Test = Callable[..., None]


def each_case(names: str | tuple[str, ...], cases: Iterable[Any]) -> Callable[[Test], Test]:
    """As `pytest.mark.parametrize`, in one test. All cases are tried, also after one that fails.

    The test fails with a group of the errors, whose message names the cases. For functions that take nothing but these
    names and those of other `each_case`: fixtures would be shared by all cases.
    """
    listed = [*cases]
    assert listed, "a table without cases proves nothing"

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        def all_of_them(**given: Any) -> None:
            failed: dict[str, BaseException] = {}
            for case in listed:
                values = {names: case} if isinstance(names, str) else dict(zip(names, case, strict=True))
                try:
                    test(**given, **values)
                except (Exception, pytest.fail.Exception) as error:
                    name = _shown(values)
                    error.add_note(f"in the case {name}")
                    failed[name] = error
            if failed:
                said = f"{len(failed)} of {len(listed)} cases failed: {'; '.join(failed)}"
                raise BaseExceptionGroup(said, [*failed.values()])

        signature = inspect.signature(test)
        own = {names} if isinstance(names, str) else {*names}
        assert own <= signature.parameters.keys(), f"{test.__name__} does not take {sorted(own)}"
        left = [parameter for name, parameter in signature.parameters.items() if name not in own]
        all_of_them.__dict__["__signature__"] = signature.replace(parameters=left)
        return all_of_them

    return decorate


def _shown(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={repr(value)[:_MOST_CHARACTERS]}" for name, value in values.items())
