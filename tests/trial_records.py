"""What a trial left, for tests in which it must be there: a result, and lines of which none is damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunectl.core.records import TrialResult
from tunectl.store import json_lines


def ended(result: TrialResult | None) -> TrialResult:
    """The result of a trial that has ended; fails where it has none."""
    assert result is not None
    return result


def lines_in(file: Path) -> list[dict[str, Any]]:
    """The complete lines of a file; fails if one is damaged."""
    lines = json_lines.parse(file.read_bytes())
    intact = [line for line in lines if line is not None]
    assert len(intact) == len(lines)
    return intact
