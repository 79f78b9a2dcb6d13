"""The check of a request that was read from request.json: its version, and the bounds of its numbers."""

from __future__ import annotations

from typing import TypeVar

from tunectl.core import typed_fields

REQUEST_FORMAT = 1

_R = TypeVar("_R")


def checked_request(request: _R) -> _R:
    """The request; raises DamagedError where a number in it is out of bounds, or it is of another version."""
    version = getattr(request, "format", None)
    if version != REQUEST_FORMAT:
        raise typed_fields.DamagedError(
            f"format: expected {REQUEST_FORMAT}, the one that this version reads, got {version}"
        )
    least = {"trial": 0, "seed": 0, "max_train_steps": 1, "keep_checkpoints": 0, "attempt": 1}
    for name, low in least.items():
        value = getattr(request, name)
        if not typed_fields.is_count(value, low):
            raise typed_fields.DamagedError(
                f"{name}: expected a whole number of at least {low}, got {typed_fields.shown(value)}"
            )
    return request
