"""Which steps of a trial are shown where there are many, or much at each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

MOST_STEPS = 24
"""The number of steps of a trial that are shown at most."""

FEWEST_STEPS = 3
"""The first, the selected and the last one, which are shown however much they take."""


class Step(Protocol):
    """What there is of a step."""

    @property
    def step(self) -> int:
        """Its number."""


_S = TypeVar("_S", bound=Step)


def fitting(steps: Sequence[_S], selected: int | None, room: int, size: Callable[[_S], int]) -> list[_S]:
    """At most MOST_STEPS of them, fewer where they take more than this many bytes, but at least FEWEST_STEPS."""
    most = MOST_STEPS
    while (
        len(chosen := _chosen(steps, selected, most)) > FEWEST_STEPS
        and most > FEWEST_STEPS
        and sum(map(size, chosen)) > room
    ):
        most //= 2
    return chosen


def _chosen(steps: Sequence[_S], selected: int | None, most: int) -> list[_S]:
    """At most this many, evenly, with both ends and the selected one."""
    if len(steps) <= most:
        return list(steps)
    last = len(steps) - 1
    places = {place * last // (most - 2) for place in range(most - 1)}
    places |= {place for place, step in enumerate(steps) if step.step == selected}
    return [steps[place] for place in sorted(places)]
