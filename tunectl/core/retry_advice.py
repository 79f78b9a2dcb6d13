"""How users go on after failed trials."""

from __future__ import annotations

from collections.abc import Iterable

from tunectl.core.records import NO_METRIC

_READ_AGAIN = (
    "where they have the objective under another name or in another form, correct the study and run again, which reads "
    "it and trains none of them again"
)


def retry_advice(reasons: Iterable[str]) -> str:
    """How to go on after trials that failed for these reasons, as a part of a sentence."""
    if set(reasons) == {NO_METRIC}:
        return f"{_READ_AGAIN}; else correct the code and run again with --retry-failed"
    return "correct the cause and run again with --retry-failed, which goes on from their last checkpoints, if any"
