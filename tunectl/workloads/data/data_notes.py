"""What is unusual about the data that was read, for the user: not wrong, but perhaps not what was meant."""

from __future__ import annotations

import sys

_notes: list[str] = []


def note(text: str) -> None:
    """Keep a line for the user, and write it to the log of the process that reads the data."""
    _notes.append(text)
    sys.stderr.write(f"tunectl: {text}\n")


def taken() -> list[str]:
    """The lines since the last call."""
    lines = list(_notes)
    _notes.clear()
    return lines
