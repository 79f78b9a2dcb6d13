"""A clock that a test moves on, in place of the system's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Clock:
    """Gives `now`, in seconds."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now
