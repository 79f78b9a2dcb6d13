"""What is wrong with fields of the training configuration beside each other, and beside `training:`."""

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


def check_compile(document: Document, conditions: Conditions) -> None:
    """A model that is compiled has no activation checkpointing: torch compiles none that restores buffers."""
    name = "activation_checkpointing"
    for combination in conditions.combinations([name], extra={name: ["blocks"]}):
        item = combination.active.get(name)
        if item is not None and combination.values.get(name) == "blocks":
            message = "expected none with training.compile, got blocks: torch.compile cannot compile such blocks"
            document.report(item.path, message)
            return
