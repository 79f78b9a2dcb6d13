"""The third lever: a quarter of the initialisation on top of the best recipe so far, where the model takes a scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tunectl.procedures.levers import Levers
from tunectl.procedures.procedure import AnySweep, Results, Wish, by_majority, has_all, repeats
from tunectl.procedures.recipes import (
    Judged,
    Recipe,
    candidates,
    chosen,
    fresh_repeats,
    fresh_runs,
    is_safer,
    judged_again,
)


@dataclass(frozen=True, slots=True)
class QuarterPhases:
    """The phases of the sweep with a quarter of the initialisation, and of its safest rates under fresh seeds."""

    sweep: int
    again: int


def quarter_trials(
    spec: AnySweep, results: Results, phases: QuarterPhases, smaller: Levers | None, rates: Sequence[float]
) -> list[Wish]:
    """The trials of these levers, which have a quarter of the initialisation; [] where there are none."""
    if smaller is None:
        return []
    wishes = by_majority(results, swept(phases.sweep, smaller, rates))
    if not has_all(results, wishes):
        return wishes
    recipes = candidates(results, {phases.sweep: smaller}, spec.objective)
    return [*wishes, *fresh_runs(phases.again, recipes, fresh_repeats(spec))]


def swept(phase: int, levers: Levers, rates: Sequence[float]) -> list[Wish]:
    """A sweep of the learning rate with these levers."""
    return [wish for point, rate in enumerate(rates) for wish in repeats(phase, point, Recipe(levers, rate).changes)]


def best_with_quarter(
    spec: AnySweep,
    results: Results,
    phases: QuarterPhases,
    smaller: Levers | None,
    *,
    may_be: Callable[[Judged], bool] = lambda _: True,
) -> Judged | None:
    """The best under fresh seeds of those that `may_be` adopted; None where there is none or none was tried."""
    if smaller is None:
        return None
    recipes = candidates(results, {phases.sweep: smaller}, spec.objective)
    again = judged_again(results, phases.again, recipes)
    return chosen([item for item in again if may_be(item)], spec.objective)


def safer_of(spec: AnySweep, one: Judged | None, other: Judged | None) -> Judged | None:
    """The first where it is safer than the other, else the other."""
    return one if one is not None and is_safer(one, other, spec.objective) else other
