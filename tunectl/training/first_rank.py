"""What rank 0 alone computes of a trial on several devices, while the others wait."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import TypeVar

from tunectl.core.exception_text import first_line
from tunectl.training.ranks import Ranks

_T = TypeVar("_T")


def on_first(ranks: Ranks, compute: Callable[[], _T]) -> _T:
    """What `compute` gives on rank 0, at every rank; where it raises an exception, every rank raises it.

    To be called by all ranks. What it gives must be small, and possible to pickle.
    """
    if ranks.count == 1:
        return compute()
    found: _T | None = None
    raised: Exception | None = None
    if ranks.rank == 0:
        try:
            found = compute()
        except Exception as error:
            raised = error
    given, failure = ranks.gathered((found, None if raised is None else _portable(raised)))[0]
    if raised is not None:
        raise raised
    if failure is not None:
        raise failure
    result: _T = given
    return result


def _portable(error: Exception) -> Exception:
    """The exception, or one that says the same where it cannot be pickled."""
    try:
        loaded = pickle.loads(pickle.dumps(error))
        return error if type(loaded) is type(error) and str(loaded) == str(error) else _like(error)
    except Exception:
        return _like(error)


def _like(error: Exception) -> Exception:
    return RuntimeError(f"{type(error).__name__}: {first_line(error)}")
