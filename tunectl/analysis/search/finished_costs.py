"""The costs of finished trials as a model of them needs them."""

from __future__ import annotations

from collections.abc import Sequence

from tunectl.core.objective import Objective
from tunectl.core.records import State


def finished_costs(
    trials: Sequence[tuple[State, float | None, int | None]], objective: Objective
) -> list[float | None]:
    """A number to minimise for each trial (its state, best value and last step); None for an infeasible one.

    A trial that completed without reaching a target is feasible and needs more steps than it has trained; how many is
    not known. All of them have one step more than the longest of these trials: they come after those that reached it.
    One that completed without any finite value counts as infeasible.
    """
    longest = max((step for _, _, step in trials if step is not None), default=0)
    found: list[float | None] = []
    for state, value, _ in trials:
        cost = objective.cost(value) if state == "completed" else None
        if cost is not None and cost == float("inf"):
            cost = longest + 1.0 if objective.steps_to is not None and value is None else None
        found.append(cost)
    return found
