"""What is wrong with the fields of a schedule beside each other."""

from __future__ import annotations

from tunectl.language.document import Document
from tunectl.language.piecewise import EXPECTED
from tunectl.space.conditions import Conditions


def check_piecewise(document: Document, conditions: Conditions) -> None:
    """Wherever the schedule is piecewise, it has points: there is no default for them."""
    if document.problems:  # the missing points may be some that could not be read
        return
    for combination in conditions.combinations(["schedule", "piecewise_points"], extra={"schedule": ["piecewise"]}):
        item = combination.active.get("schedule")
        if item is not None and combination.values.get("schedule") == "piecewise":
            if "piecewise_points" in combination.active:
                continue
            message = f"the schedule is piecewise, and has no piecewise_points; add {EXPECTED}"
            document.report(item.path, message, at_key=True)
            return
